"""``docs/preference_losses.md`` says what the code does: up to date, complete, its examples accepted."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from ridgeline.objectives.pair_axes import PAIR_PRESETS, UNPAIRED_LOSSES
from ridgeline.stages.pair_objective import pair_objective

DOCS = Path(__file__).resolve().parents[2] / "docs"


def generator() -> ModuleType:
    path = DOCS / "generate_pair_reference.py"
    spec = importlib.util.spec_from_file_location("generate_pair_reference", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(section: str) -> dict[str, list[str]]:
    """Cells of the table under a heading, by the name in the first one."""
    text = generator().pair_reference().split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| `")]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells] for cells in lines}


def test_the_page_is_up_to_date() -> None:
    page = (DOCS / "preference_losses.md").read_text(encoding="utf-8")
    assert page == generator().pair_reference(), "run: python docs/generate_pair_reference.py"


def test_every_preset_has_a_row_with_a_formula_and_a_source() -> None:
    table = rows("Presets")
    assert list(table) == list(PAIR_PRESETS)
    assert all(cells[1].strip("`") for cells in table.values())
    without = [name for name, cells in table.items() if not cells[-1]]
    assert without == ["sft_chosen_sum"]  # the plain likelihood, which nobody proposed


def test_what_a_preset_needs_is_what_its_row_says() -> None:
    columns = {"margin": "`margin` or `scores`", "rewards": "`scores`", "gold": "`gold`"}
    for name, cells in rows("Presets").items():
        preset = PAIR_PRESETS[name]
        assert cells[2:6] == [
            "yes" if preset.needs_reference else "",
            ", ".join(columns[need] for need in preset.needs),
            "yes" if preset.takes_labels else "",
            "yes" if preset.whole_step else "",
        ]


def test_options_of_the_table_are_accepted_and_change_nothing() -> None:
    for name, cells in rows("Presets").items():
        options = {option: float(value) for option, value in re.findall(r"`(\w+) = ([^`]+)`", cells[6])}
        changed = pair_objective({"preset": name, **options}, "the table")
        preset = PAIR_PRESETS[name]
        assert [term.resolved for term in changed.terms] == [term.resolved for term in preset.terms]
        assert options.keys() == {option for term in preset.terms for option in term.resolved}


def test_every_unpaired_loss_has_a_row() -> None:
    table = rows("Single completions")
    assert list(table) == list(UNPAIRED_LOSSES)
    assert all(all(cells[place] for place in (1, 3, 4)) for cells in table.values())


@pytest.mark.parametrize("page", ["preference_losses.md", "guide/09-direct-alignment.md"])
def test_objectives_in_examples_exist(page: str) -> None:
    """``test_docs`` checks the options of stages only, and an objective may be any table."""
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    stages = [stage for block in blocks for stage in tomllib.loads(block).get("stage", [])]
    given = [s["objective"] for s in stages if s["type"] == "preference" and "objective" in s]
    assert given
    for objective in given:
        pair_objective(objective, "the example")


def test_the_guide_names_every_preset_in_its_table_of_the_family() -> None:
    text = (DOCS / "guide" / "09-direct-alignment.md").read_text(encoding="utf-8")
    table = text.split("### The family\n")[1].split("\n- ")[0]
    cells = [line.split("|")[2] for line in table.splitlines() if line.startswith("| ")]
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(PAIR_PRESETS)
