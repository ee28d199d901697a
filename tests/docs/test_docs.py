"""The documentation stays true: links, recipes, commands, data rows, error sentences and generated files."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ridgeline.schema.errors import RidgelineError, UsageError
from ridgeline.schema.recipe import resolve_recipe
from ridgeline.schema.stages import STAGE_TYPES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

BAD_FILES = {
    "broken.jsonl": '{"prompt": "Hi", "completion": "Hello."}\n{"prompt": \n',
    "column.jsonl": '{"promt": "Hi", "completion": "Hello."}\n',
    "empty.jsonl": "",
    "empty-answer.jsonl": '{"prompt": "Hi", "completion": ""}\n',
    "turns.jsonl": (
        '{"messages": [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Hello."}]}\n'
    ),
    "role.jsonl": '{"messages": [{"role": "usr", "content": "Hi"}]}\n',
    "surplus.csv": "prompt,completion\nHi,Hello.,more\n",
    "no-prompt.jsonl": '{"chosen": "Hello.", "rejected": "No."}\n',
    "label.jsonl": '{"prompt": "Hi", "completion": "Hello.", "label": "good"}\n',
}


def blocks(language: str) -> list[Any]:
    """Fenced blocks of all pages in one language, each named after its page."""
    found = []
    for page in PAGES:
        texts = [text for kind, text in FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]
        found += [pytest.param(text, id=f"{page.stem}-{number}") for number, text in enumerate(texts, 1)]
    return found


def commands() -> list[Any]:
    """Every line of a shell block that calls ``ridgeline``, continuation lines joined."""
    found = []
    for block in blocks("sh"):
        lines = block.values[0].replace("\\\n", " ").splitlines()
        calls = [line for line in lines if line.startswith("ridgeline ")]
        found += [pytest.param(line, id=f"{block.id}: {line[:40]}") for line in calls]
    return found


def anchors(page: Path) -> set[str]:
    """The fragment identifiers that GitHub gives to the headings of ``page``."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_recipe_reference", DOCS / "generate_recipe_reference.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_relative_links_resolve(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, fragment = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), f"{page.name} links to {target}"
        if fragment:
            assert fragment in anchors(place), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_page_has_one_title_and_nothing_left_to_fill_in(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert len(re.findall(r"^# ", prose, re.MULTILINE)) == 1
    assert "@@" not in text and "TODO" not in text


def test_every_page_is_reachable_from_the_index() -> None:
    linked = re.findall(r"\]\(([^)#\s]+)", (DOCS / "README.md").read_text(encoding="utf-8"))
    assert {(DOCS / target).resolve() for target in linked} >= set(PAGES) - {DOCS / "README.md"}


def test_every_recipe_and_data_file_named_exists() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"recipes/[\w/.-]+\.(?:toml|jsonl)", text))
    assert "recipes/sums.toml" in named
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("block", blocks("toml"))
def test_toml_blocks_are_valid(block: str) -> None:
    values = tomllib.loads(block)
    if "stage" in values and {"name", "model"} <= values.keys():
        resolve_recipe(values, ROOT / "recipes")
    for stage in values.get("stage", []):
        # A stage by itself refers to stages that the page does not show, so its own options are checked.
        STAGE_TYPES[stage["type"]].model_validate(stage)


def test_full_recipes_are_among_the_blocks() -> None:
    """The test above must not pass for want of anything to resolve."""
    full = [b for b in blocks("toml") if {"name", "model", "stage"} <= tomllib.loads(b.values[0]).keys()]
    assert full


def test_the_sums_recipe_is_the_first_stage_of_the_quickstart() -> None:
    read = [tomllib.loads((ROOT / "recipes" / f"{name}.toml").read_text()) for name in ("sums", "quickstart")]
    sums, quickstart = read
    assert sums["stage"] == quickstart["stage"][:1]
    assert {**sums, "name": "", "stage": []} == {**quickstart, "name": "", "stage": []}


@pytest.mark.parametrize("line", commands())
def test_commands_and_their_options_exist(line: str) -> None:
    from typer.main import get_command

    from ridgeline.cli.main import app, hoist_global_options

    words = hoist_global_options(shlex.split(line, comments=True)[1:])
    words = [word for word in words if word not in ("--json", "--quiet", "--debug")]
    command: Any = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not getattr(command, "commands", {}), f"no such command: {line}"
    known = {option for parameter in command.params for option in parameter.opts}
    used = {word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-zA-Z].*", word)}
    assert used <= known


@pytest.mark.parametrize("line", [c for c in commands() if " run recipes/" in c.values[0]])
def test_overrides_of_runs_are_valid(line: str) -> None:
    from ridgeline.schema.recipe import load_recipe

    words = shlex.split(line)
    overrides = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    load_recipe(ROOT / words[2], overrides)


def test_example_rows_are_accepted() -> None:
    from ridgeline.data import formats

    readers: dict[str, Callable[[Sequence[Any], str], Sequence[Any]]] = {
        "Instructions": formats.instructions,
        "Prompts": formats.prompts,
        "Preferences": formats.preferences,
        "Unpaired feedback": formats.unpaired,
    }
    kinds = dict(zip(readers, ("instruction", "prompt", "preference", "unpaired"), strict=True))
    sections = (DOCS / "formats.md").read_text(encoding="utf-8").split("\n## ")[1:]
    seen = set()
    for section in sections:
        title = section.partition("\n")[0]
        for language, text in FENCE.findall(section):
            if language == "json":
                rows = [json.loads(text)]
                assert len(readers[title](rows, "the example")) == 1
                assert formats.detect(rows) == kinds[title]
                seen.add(title)
    assert seen == set(readers)


@pytest.mark.parametrize("name", BAD_FILES)
def test_error_sentences_are_quoted_as_printed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ridgeline.data import formats
    from ridgeline.data.sources import read_rows

    readers: dict[str, Callable[[Sequence[Any], str], object]] = {
        "instruction": formats.instructions,
        "prompt": formats.prompts,
        "preference": formats.preferences,
        "unpaired": formats.unpaired,
    }
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(BAD_FILES[name], encoding="utf-8")
    with pytest.raises(RidgelineError) as caught:
        rows = read_rows(name)
        readers[formats.detect(rows, name)](rows, name)
    quoted = FENCE.findall((DOCS / "formats.md").read_text(encoding="utf-8"))
    assert f"Error: {caught.value}\n" in [text for _, text in quoted]


def test_the_refusal_of_k1_in_the_loss_is_quoted_as_printed() -> None:
    stage = {"name": "policy", "type": "rl", "prompts": "p.jsonl", "reward": ["length"]}
    kl = {"coefficient": 0.05, "estimator": "k1", "placement": "loss"}
    values = {"name": "x", "model": "m", "stage": [{**stage, "kl": kl}]}
    with pytest.raises(UsageError) as caught:
        resolve_recipe(values, ROOT)
    assert f"Error: {caught.value}\n" in (DOCS / "guide" / "05-regularisation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["recipe.md", "presets.md"])
def test_generated_pages_are_up_to_date(name: str) -> None:
    expected = generator().OUTPUTS[name]()
    assert (DOCS / name).read_text(encoding="utf-8") == expected, (
        "run: python docs/generate_recipe_reference.py"
    )


def test_the_reference_names_every_option_of_every_stage() -> None:
    text = generator().recipe_reference()
    for kind, stage in STAGE_TYPES.items():
        section = text.split(f"## Stage type `{kind}`")[1].split("\n## ")[0]
        missing = [name for name in stage.model_fields if name != "type" and f"| `{name}` |" not in section]
        assert missing == []


@pytest.mark.parametrize(
    "line", [c for c in commands() if c.values[0].split()[1] in ("sft", "collect", "reward-model", "rl")]
)
def test_commands_of_stages_make_a_valid_recipe(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call as typed, up to the point where the run would start."""
    from typer.testing import CliRunner

    from ridgeline.cli import train
    from ridgeline.cli.main import app

    started = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(train, "execute", lambda context, recipe, out, **options: started.append(recipe))
    outcome = CliRunner().invoke(app, shlex.split(line)[1:], catch_exceptions=False)
    assert outcome.exit_code == 0
    assert [recipe.stage[0].type for recipe in started] == [line.split()[1].replace("-", "_")]


def test_the_reader_of_landscapes_reads_what_the_library_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example of landscape_format.md, run against a record that was just made."""
    from ridgeline.landscape import blocks as container
    from ridgeline.landscape.world.settings import Settings
    from ridgeline.landscape.world.terrain_file import load_terrain
    from ridgeline.landscape.world.training import train

    [example] = [b.values[0] for b in blocks("python") if b.id.startswith("landscape_format")]
    monkeypatch.chdir(tmp_path)
    learner = train(load_terrain("ravine"), Settings(paths=8, epochs=1), 2, 1, tmp_path / "runs" / "hill")
    names: dict[str, Any] = {}
    exec(example, names)
    for path in sorted((tmp_path / "runs" / "hill").rglob("*.bin")):
        (meta, found), (right_meta, right) = names["read"](path), container.decode(path.read_bytes())
        assert meta == right_meta and found.keys() == right.keys()
        for name, block in right.items():
            assert found[name].dtype == block.dtype and found[name].tobytes() == block.tobytes()
            assert found[name].shape == block.shape
    assert [len(path) for path in names["paths"]] == [25] * 8
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{names['manifest']['title']} on 65 x 65 places; highest 0.997")
    assert lines[1].startswith(f"step {learner.iteration} J ") and lines[1].endswith(" 8 paths")


def test_every_block_and_key_of_a_record_is_described() -> None:
    from ridgeline.landscape.record import Manifest
    from ridgeline.landscape.record.layout import SHAPES

    text = (DOCS / "landscape_format.md").read_text(encoding="utf-8")
    assert [name for name in (*Manifest.model_fields, *SHAPES) if f"`{name}`" not in text] == []
