"""The page of a real run of every stage that aligns, distils, selects or merges."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.stages import recipes
from tests.workbench import every_stage as stages

from ridgeline.stages.pipeline import run_recipe
from ridgeline.workbench.report import write_report
from ridgeline.workbench.report.markup import number

FAILED = "could not be drawn"
NAMES = ["dpo", "simpo", "kto", "judge", "online", "coin", "taught", "nash", "imitate", "own", "best", "soup"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = recipes.make_world(tmp_path_factory.mktemp("world"))
    run_recipe(recipes.recipe(world, *stages.every_stage(world)), world / "run", resume=False)
    return world / "run"


@pytest.fixture(scope="module")
def page(finished: Path) -> str:
    return write_report(finished).read_text(encoding="utf-8")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("report.html", "model"))
    return tmp_path / "run"


def rendered(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


def words(markup: str) -> str:
    """Text without tags, spaces single."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def section(page: str, name: str) -> str:
    start = page.index(f'id="stage-{name}"')
    return page[start : page.index("</section>", start)]


def figure(markup: str, title: str) -> str:
    return next(each for each in markup.split("<figure")[1:] if f"<h4>{title}</h4>" in each)


def sentence(page: str, name: str) -> str:
    (found,) = [item for item in page.split("<li>") if item.startswith(f"<b>{name}</b>")]
    return words(found[: found.index("</li>")])


def place(run: Path, name: str) -> Path:
    return next(run.glob(f"stages/*-{name}"))


def result(run: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place(run, name) / "result.json").read_text())
    return found


def change_lines(path: Path, change: dict[str, Any]) -> None:
    """Give the last line of a JSONL file other values."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[-1] |= change
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_has_its_section(page: str, name: str) -> None:
    shown = section(page, name)
    assert "knows no stage" not in shown and FAILED not in shown
    assert "<svg" in shown and "is missing" not in shown


def test_nothing_is_broken(page: str) -> None:
    assert FAILED not in page and "could not be read" not in page
    assert not re.search(r'(?:d|x|y|cx|cy)="[^"]*(?:nan|inf)', page)
    assert "/rewards.py:spread" not in page[: page.index('id="reproduce"')]
    assert page.count("<figure") == page.count("<figcaption>")


def test_pairs_show_accuracy_margin_loss_and_both_sides(page: str, finished: Path) -> None:
    shown = section(page, "dpo")
    after = result(finished, "dpo")["after"]
    ends = f"[{number(after['accuracy']['low'])}, {number(after['accuracy']['high'])}]"
    assert f"{number(after['accuracy']['value'])} {ends}" in words(shown)
    for title in ("Pairs told apart", "Chosen and rejected", "Margin", "Loss"):
        assert "<svg" in figure(shown, title)
    both = figure(shown, "Chosen and rejected")
    drawn = both[both.index('role="img"') :]
    assert drawn.count('class="line"') == 2 and drawn.count('class="line thin"') == 2
    assert "chosen, held-out" in both and "rejected, held-out" in both and "reference" in both
    assert "no preference (ln 2)" in figure(shown, "Loss")


def test_a_loss_without_reference_shows_plain_log_probs(page: str) -> None:
    shown = section(page, "simpo")
    assert "log-prob (nats per completion)" in figure(shown, "Chosen and rejected")
    assert "log-ratio" not in words(shown) and "LoRA, rank 2" in shown
    assert "Compared with nothing" in words(shown)


def test_displacement_is_said(run: Path) -> None:
    name = "log_ratio/chosen"
    fallen = {"value": -3.0, "low": -4.0, "high": -2.0, "count": 4}
    change_lines(place(run, "dpo") / "evaluations.jsonl", {name: fallen})
    page = rendered(run)
    assert "became less likely too, by −3.00 [−4.00, −2.00] nats (likelihood displacement)" in words(page)
    change_lines(place(run, "dpo") / "evaluations.jsonl", {name: {**fallen, "high": 0.5}})
    assert "displacement)" not in sentence(rendered(run), "dpo")


def test_single_labels_show_both_log_ratios_and_their_separation(page: str, finished: Path) -> None:
    shown = section(page, "kto")
    both = figure(shown, "Liked and disliked")
    assert "liked, held-out" in both and "disliked, held-out" in both
    assert "guessing" in figure(shown, "Separation") and "KL, mismatched" in shown
    separation = result(finished, "kto")["after"]["separation"]
    assert f"with probability {number(separation)} (0.50 before)" in sentence(page, "kto")


def test_pairs_made_on_the_way_show_rewards_and_kl(page: str) -> None:
    for name in ("online", "nash"):
        shown = section(page, name)
        assert "Reward: spread" in words(shown) and "KL to the reference" in shown
        assert "held-out evaluations as a table" in shown
    assert "Preferred over the mixture" in section(page, "nash")
    assert "online Nash-MD" in section(page, "nash")


def test_a_judge_that_learns_is_no_proxy(page: str) -> None:
    shown = section(page, "taught")
    assert "Judge agrees with gold" in shown and "judge, taught by spread" in words(shown)
    assert "its scale moves" in shown and "Gold reward: spread" in shown
    assert "proxy" not in sentence(page, "taught") and "gold" in sentence(page, "taught")
    earlier = page[: page.index('id="controls"')].partition('id="over-optimisation"')[2]
    assert "taught" not in words(earlier)


def test_the_coin_is_the_control_of_the_online_stage(page: str) -> None:
    start = page.index('id="controls"')
    shown = words(page[start : page.index("</section>", start)])
    assert "online, trained on spread" in shown and "coin, trained on random_coin" in shown
    assert "nash, trained" not in shown  # another method is another experiment


def test_distillation_shows_distance_and_likelihood(page: str, finished: Path) -> None:
    given, own = section(page, "imitate"), section(page, "own")
    assert "given text, held-out" in figure(given, "Distance to the teacher")
    assert "teacher, training text" in figure(given, "Likelihood")
    assert "own text" in figure(own, "Distance to the teacher") and "reverse KL" in own
    assert "Completion length" in own and "Completion length" not in given
    ends = [result(finished, "imitate")[when]["divergence"] for when in ("before", "after")]
    assert f"{number(ends[0])} → {number(ends[1])}" in sentence(page, "imitate")


def test_sentences_of_selection_and_merging(page: str, finished: Path) -> None:
    against = result(finished, "best")["against_control"]
    gain = next(value for key, value in against.items() if key.endswith(":spread"))
    assert f"random choice spread {number(gain['value'], signed=True)}" in sentence(page, "best")
    assert "(linear of dpo, kto): against the first of them spread" in sentence(page, "soup")


def test_completions_stand_below_what_was_asked(page: str) -> None:
    """The text of the prompt, where its id (a hash) would tell nobody anything."""
    asked = re.findall(r'<p class="prompt">(.*?)</p>', page, re.DOTALL)
    assert asked
    assert all(prompt.startswith("Write one sentence about ") for prompt in asked)


def test_strip_names_every_kind(page: str) -> None:
    style = (Path(__file__).parents[2] / "src/ridgeline/workbench/report/report.css").read_text()
    for kind, named in {
        "preference": "direct alignment",
        "unpaired": "alignment on single labels",
        "reject": "rejection sampling",
        "distill": "distillation",
        "merge": "model merging",
    }.items():
        assert f'class="k-{kind}"' in page and named in page and f".k-{kind} " in style


def test_completions_of_before_and_after(page: str) -> None:
    shown = words(page[page.index('id="completions"') :])
    for name in ("online", "coin", "taught", "nash"):
        assert f"{name}: the same prompts during training" in shown
    assert "best: the same prompts, start and random control and end" in shown
    assert "own: the same prompts, start and end" in shown
    assert "soup: the same prompts, first model and merged" in shown


@pytest.mark.parametrize("damage", ["missing", "garbage", "wrong kind"])
@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluations.jsonl", "result.json"])
def test_missing_or_damaged_files_leave_a_page(run: Path, name: str, damage: str) -> None:
    for path in run.glob(f"stages/*/{name}"):
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes({"garbage": b"\xff\xfe{\n", "wrong kind": b"[1, 2]\n"}[damage])
    page = rendered(run)
    assert FAILED not in page
    if damage == "missing" and name != "result.json":
        for stage in ("dpo", "kto", "online", "imitate", "best"):
            assert f"{stage}: {name} is missing." in words(page)


def test_stages_that_have_hardly_begun(run: Path) -> None:
    for stage in ("dpo", "kto", "online", "imitate"):
        folder = place(run, stage)
        (folder / "result.json").unlink()
        for name in ("metrics.jsonl", "evaluations.jsonl", "timings.jsonl"):
            (folder / name).unlink()
    page = rendered(run)
    assert FAILED not in page
    assert page.count("No training steps have been logged.") == 4


def test_what_the_recipe_says_is_escaped(run: Path) -> None:
    recipe = run / "recipe.toml"
    text = recipe.read_text().replace('objective = "simpo"', 'objective = "<script>x</script>"')
    recipe.write_text(text.replace('model = "dpo"', 'model = "<img src=x>"'))
    page = rendered(run)
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;x" in section(page, "simpo")
