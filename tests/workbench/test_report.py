from __future__ import annotations

import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.workbench.fake_run import GOLD, HOSTILE, JUDGE, write_fake_run

from ridgeline.schema.errors import UsageError
from ridgeline.workbench.report import write_report
from ridgeline.workbench.report.markup import number

FAILED = "could not be drawn"
VOID = {"meta", "br", "img", "input", "hr", "link"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("runs") / "quickstart", prompts=12)


@pytest.fixture(scope="module")
def page(finished: Path) -> str:
    return write_report(finished).read_text(encoding="utf-8")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    copy = tmp_path / "quickstart"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("report.html"))
    return copy


def rendered(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


def words(page: str) -> str:
    """The text of the page, tags removed, spaces single."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def result_of(run: Path, stage: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(next(run.glob(f"stages/*-{stage}/result.json")).read_text())
    return value


class Tags(HTMLParser):
    """Every tag with its attributes; complains where tags do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def tags_of(page: str) -> Tags:
    parser = Tags()
    parser.feed(page)
    parser.close()
    assert not parser.open
    return parser


def test_every_section_of_a_finished_run_is_drawn(page: str) -> None:
    assert FAILED not in page
    for anchor in (
        "over-optimisation",
        "controls",
        "completions",
        "reproduce",
        "stage-judge",
        "stage-unleashed",
    ):
        assert f'id="{anchor}"' in page, anchor
    assert "Unfinished" not in page


def test_page_needs_nothing_from_outside(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|url\(|@import|@font-face", page)
    parser = tags_of(page)
    assert not {"script", "link", "iframe", "object", "img"} & {tag for tag, _ in parser.seen}
    for tag, attributes in parser.seen:
        assert not {"src", "href", "xlink:href"} & attributes.keys(), tag
        assert not [name for name in attributes if name.startswith("on")], tag


def test_pictures_are_described_or_hidden(page: str) -> None:
    pictures = [attributes for tag, attributes in tags_of(page).seen if tag == "svg"]
    shown = [a for a in pictures if a.get("aria-hidden") != "true"]
    assert len(shown) > 30
    for attributes in shown:
        assert attributes.get("role") == "img"
        assert len(attributes.get("aria-label") or "") > 20
    assert page.count("<figure") == page.count("<figcaption>")


def test_no_coordinate_is_broken(page: str) -> None:
    assert not re.search(r'(?:d|x|y|cx|cy)="[^"]*(?:nan|inf)', page)


def test_completions_are_escaped(page: str) -> None:
    assert "<script" not in page
    assert "<img" not in page
    assert html.escape(HOSTILE, quote=True) in page


def test_prompts_and_recipe_are_escaped(run: Path) -> None:
    recipe = run / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('name = "quickstart"', 'name = "<script>x</script>"', 1))
    lines = next(run.glob("stages/*-pairs/preferences.jsonl"))
    lines.write_text(lines.read_text().replace("Write one", "<iframe>Write one"))
    page = rendered(run)
    assert "<script" not in page
    assert "<iframe" not in page
    assert "&lt;iframe&gt;Write one" in page


def test_headline_repeats_the_results(finished: Path, page: str) -> None:
    shown = words(page)
    policy = result_of(finished, "unleashed")
    for when in ("before", "after"):
        estimate = policy[when][f"reward/{GOLD}"]
        ends = f"[{number(estimate['low'])}, {number(estimate['high'])}]"
        assert f"{number(estimate['value'])} {ends}" in shown
    wins = result_of(finished, "compare")["against_baseline"]["policy"]["win_rate"]
    ends = f"[{number(wins['low'])}, {number(wins['high'])}]"
    assert f"policy against sft : win rate {number(wins['value'])} {ends}" in shown
    sft = result_of(finished, "sft")
    before, after = number(sft["heldout_nll_before"]), number(sft["heldout_nll_after"])
    assert f"held-out loss {before} → {after} nats per token" in shown
    judge = result_of(finished, JUDGE)
    assert f"where label noise allows {number(judge['ceiling']['accuracy'])}" in shown


def test_changed_result_changes_the_page(run: Path) -> None:
    path = next(run.glob("stages/*-compare/result.json"))
    result = json.loads(path.read_text())
    result["models"]["policy"]["kl_k1"] = {"value": 7.77, "low": 7.11, "high": None, "count": 12}
    path.write_text(json.dumps(result))
    assert "7.77 [7.11, –]" in words(rendered(run))


def test_over_optimisation_is_told_from_a_gain_that_lasts(page: str) -> None:
    shown = words(page)
    assert "unleashed (no KL leash): over-optimised. From its peak at rollout" in shown.replace(" :", ":")
    assert "policy (KL leash 0.1): over-optimised" not in shown.replace(" :", ":")
    assert "past the peak: gold falls, proxy rises" in page


def test_flat_gold_is_not_called_over_optimised(run: Path) -> None:
    stage = next(run.glob("stages/*-unleashed"))
    first = stage / "samples" / "evaluation-000000.parquet"
    for path in stage.glob("samples/evaluation-*.parquet"):
        if path != first:
            shutil.copy(first, path)
    page = rendered(run)
    assert FAILED not in page
    assert "past the peak" not in page
    assert "unleashed (no KL leash): over-optimised" not in words(page).replace(" :", ":")


def test_random_reward_control_stands_beside_its_stage(page: str) -> None:
    shown = words(page)
    assert "pass@1 by rollout: sums and its control" in shown
    assert "sums-control (trained on random_coin)" in shown
    over = page[page.index('id="over-optimisation"') : page.index('id="controls"')]
    assert "sums-control" not in over


def test_truncated_completions_are_marked(run: Path, page: str) -> None:
    cards = page[page.index('id="completions"') :]
    assert "truncated" in cards


def test_warnings_are_repeated(page: str) -> None:
    assert "sft: 3 rows dropped: longer than 1024 tokens" in words(page)


def test_same_folder_gives_same_bytes(run: Path) -> None:
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_page_is_all_that_is_written(run: Path) -> None:
    before = {path for path in run.rglob("*")}
    write_report(run)
    assert {path for path in run.rglob("*")} - before == {run / "report.html"}


def test_unfinished_run_shows_what_is_there(run: Path) -> None:
    for name in ("unleashed", "compare"):
        shutil.rmtree(next(run.glob(f"stages/*-{name}")))
    stage = next(run.glob("stages/*-policy"))
    (stage / "result.json").unlink()
    for path in sorted(stage.glob("samples/evaluation-*.parquet"))[3:]:
        path.unlink()
    lines = (stage / "evaluations.jsonl").read_text().splitlines()
    (stage / "evaluations.jsonl").write_text("\n".join(lines[:3]) + "\n")
    page = rendered(run)
    shown = words(page)
    assert FAILED not in page
    assert "Unfinished: 5 of 8 stages have a result" in shown
    assert "not started" in shown
    assert "This stage has not finished" in shown
    assert 'id="stage-compare"' not in page


@pytest.mark.parametrize(
    "names",
    [
        ["recipe.toml"],
        ["environment.json", "events.jsonl"],
        ["metrics.jsonl", "timings.jsonl"],
        ["evaluations.jsonl"],
        ["result.json"],
    ],
)
@pytest.mark.parametrize("damage", ["missing", "garbage", "wrong kind"])
def test_missing_or_damaged_files_leave_a_page(run: Path, names: list[str], damage: str) -> None:
    for path in [p for name in names for p in (*run.glob(name), *run.glob(f"stages/*/{name}"))]:
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes({"garbage": b"\xff\xfe{\n", "wrong kind": b"[1, 2]\n"}[damage])
    page = rendered(run)
    tags_of(page)
    assert FAILED not in page
    assert 'id="reproduce"' in page


@pytest.mark.parametrize("missing", ["metrics.jsonl", "timings.jsonl", "evaluations.jsonl"])
def test_missing_curves_are_noted(run: Path, missing: str) -> None:
    (next(run.glob("stages/*-policy")) / missing).unlink()
    page = rendered(run)
    assert FAILED not in page
    assert f"policy: {missing} is missing." in words(page)


def test_unreadable_samples_are_noted(run: Path) -> None:
    next(run.glob("stages/*-compare/samples/base/part-0000.parquet")).write_bytes(b"PAR1 no")
    page = rendered(run)
    assert FAILED not in page
    assert "part-0000.parquet could not be read" in words(page)


def test_damaged_line_is_noted_and_the_rest_kept(run: Path) -> None:
    path = next(run.glob("stages/*-sft/metrics.jsonl"))
    lines = path.read_text().splitlines()
    lines[20] = lines[20][:15]
    path.write_text("\n".join(lines) + "\n")
    page = rendered(run)
    assert "metrics.jsonl: 1 damaged line left out" in words(page)
    assert FAILED not in page


def test_not_a_number_leaves_a_gap(run: Path) -> None:
    path = next(run.glob("stages/*-policy/metrics.jsonl"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[5]["metrics"]["entropy"] = [float("nan"), 64.0]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = rendered(run)
    assert FAILED not in page
    test_no_coordinate_is_broken(page)


def test_empty_folder_gives_an_honest_page(tmp_path: Path) -> None:
    page = rendered(tmp_path)
    assert FAILED not in page
    assert "Nothing has been measured yet" in page
    assert "recipe.toml is missing" in page


def test_one_failing_section_does_not_take_the_page(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ridgeline.workbench.report import page as module

    def broken(run: object) -> str:
        raise KeyError("<b>")

    monkeypatch.setitem(module.SECTIONS, "the controls", broken)
    page = rendered(run)
    assert "the controls could not be drawn: KeyError: &#x27;&lt;b&gt;&#x27;" in page
    assert 'id="reproduce"' in page


def test_missing_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run folder"):
        write_report(tmp_path / "nowhere")
