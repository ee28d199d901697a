"""Completions: numbers are the files', search and keys work, hostile text stays text, 100,000 fit."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from ridgeline.rollout.store import read_samples
from ridgeline.rollout.traces import read_traces
from tests.browser.runs_root import HOSTILE, STAGE
from tests.browser.visit import Visit

TINY = f"completions/tiny/{STAGE}"
FIGURE = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def figures(visit: Visit, title: str) -> list[float]:
    """The numbers that the card of the chosen token fills into the formula ``title``."""
    row = visit.page.locator(f".formulas dt:has-text('{title}') + dd")
    row.locator(".numbers annotation").wait_for(state="attached")
    return [float(each) for each in FIGURE.findall(row.locator(".numbers annotation").text_content() or "")]


def test_a_clicked_token_fills_the_formulas_with_the_numbers_of_the_files(visit: Visit, runs: Path) -> None:
    stats = visit.open(TINY, step=2, prompt="p3", i=1)
    assert (stats["step"], stats["index"]) == (2, 1)
    folder = runs / "tiny" / "stages" / STAGE
    samples = read_samples(folder / "samples" / "step-000002.parquet")
    sample = next(each for each in samples if (each.prompt_id, each.index) == ("p3", 1))
    traces = read_traces(folder / "traces" / "step-000002.parquet")
    trace = next(each for each in traces if (each.prompt_id, each.index) == ("p3", 1))
    assert trace.ref_logp is not None and trace.old_logp is not None and trace.advantage is not None
    assert stats["tokens"] == len(sample.completion_ids)
    buttons = visit.page.locator(".tokens button")
    assert buttons.count() == len(sample.completion_ids)
    for place in (0, len(sample.completion_ids) - 1):
        buttons.nth(place).click()
        visit.until(f"new URLSearchParams(location.search).get('token') === '{place}'")
        visit.page.get_by_role("heading", name=f"Token {place}", exact=True).wait_for()
        logp, old = sample.logprobs[place], float(trace.old_logp[place])
        ref, advantage = float(trace.ref_logp[place]), float(trace.advantage[place])
        shown = figures(visit, "Probability when it was sampled")
        assert shown == pytest.approx([logp, math.exp(logp)], rel=6e-3)
        shown = figures(visit, "Distance from the reference")
        assert [shown[0], shown[1], shown[2]] == pytest.approx([old, ref, old - ref], rel=6e-3, abs=1e-3)
        assert figures(visit, "Ratio of learner")[-1] == pytest.approx(math.exp(old - logp), rel=6e-3)
        assert figures(visit, "Advantage")[-1] == pytest.approx(advantage, rel=6e-3, abs=1e-3)
    buttons.nth(2).focus()
    visit.page.keyboard.press("ArrowRight")
    visit.until("new URLSearchParams(location.search).get('token') === '3'")


def test_facts_of_a_completion_are_those_of_the_file(visit: Visit, runs: Path) -> None:
    visit.open(TINY, step=1, prompt="p0", i=2)
    samples = read_samples(runs / "tiny" / "stages" / STAGE / "samples" / "step-000001.parquet")
    sample = next(each for each in samples if (each.prompt_id, each.index) == ("p0", 2))
    total = sample.rewards["total"]
    assert total is not None
    shown = visit.page.locator("dl.facts div:has(dt:text-is('total')) dd").inner_text()
    assert float(shown.replace("−", "-")) == pytest.approx(total, abs=6e-4)
    assert visit.page.locator("dl.facts div:has(dt:text-is('tokens')) dd").inner_text() == str(
        len(sample.completion_ids)
    )


def test_j_and_k_walk_through_completions_and_over_prompts(visit: Visit) -> None:
    visit.open(TINY, step=0)
    walked = [(visit.query().get("prompt"), visit.query().get("i"))]
    for _ in range(5):
        before = visit.page.url
        visit.page.keyboard.press("j")
        visit.until(f"location.href !== {before!r}")
        walked.append((visit.query()["prompt"], visit.query()["i"]))
    assert [int(index or 0) for _, index in walked[1:]] == [1, 2, 3, 0, 1]
    assert walked[3][0] != walked[4][0], "the fifth completion belongs to the next prompt"
    visit.page.keyboard.press("k")
    visit.until(f"new URLSearchParams(location.search).get('i') === '{walked[4][1]}'")
    assert visit.page.locator("button.row[aria-current=true]").count() == 1


def test_search_finds_one_text_among_a_hundred_thousand(visit: Visit) -> None:
    """100 steps of 1,000 completions: opened, scrolled, searched; few rows are in the page at any time."""
    stats = visit.open(f"completions/crowded/{STAGE}", step=73)
    assert stats["groups"] == 125
    assert "1,000 completions" in visit.page.locator(".totals").inner_text()
    nodes = visit.page.locator("button.row").count()
    assert 8 <= nodes < 120, f"{nodes} rows are in the page: the list is not virtual"
    visit.page.locator(".scroll").evaluate("(list) => (list.scrollTop = list.scrollHeight)")
    visit.page.get_by_text("step 73 prompt 124 sample 7", exact=True).wait_for()
    assert visit.page.locator("button.row").count() < 120
    visit.page.keyboard.press("/")
    visit.page.keyboard.type("prompt 88 sample 5")
    visit.page.keyboard.press("Enter")
    visit.page.get_by_text("step 73 prompt 88 sample 5", exact=True).first.wait_for()
    visit.until_stats(lambda stats: stats["groups"] == 1)
    visit.page.get_by_label("Step", exact=True).last.fill("12")
    visit.page.get_by_text("step 12 prompt 88 sample 5", exact=True).first.wait_for()
    assert visit.query()["step"] == "12"
    fetched = visit.asked(r"/groups\?")
    assert len(fetched) < 20, f"{len(fetched)} pages of groups were fetched"


def test_hostile_text_is_only_text(visit: Visit) -> None:
    dialogs: list[str] = []
    visit.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for index in range(len(HOSTILE)):
        for view in ("tokens", "text", "diff"):
            visit.open(f"completions/hostile/{STAGE}", i=index, prompt="p0", view=view)
            assert visit.page.evaluate("window.__hacked") is None
    assert not dialogs
    assert not visit.asked(r"192\.0\.2\.1")
    body = "document.querySelector('main')"
    assert visit.page.evaluate(f"{body}.querySelectorAll('script, iframe, img, b[onmouseover]').length") == 0
    visit.open(f"completions/hostile/{STAGE}", i=0, prompt="p0", view="text")
    assert "<script>window.__hacked = 1</script>" in visit.page.locator(".hostile").last.inner_text()
    # Control and direction characters are drawn, not obeyed.
    visit.open(f"completions/hostile/{STAGE}", i=3, prompt="p0", view="text")
    shown = visit.page.locator(".hostile").last.inner_text()
    assert not re.search(r"[\x00\x07\x08\x1b\x7f\u202e\ufeff]", shown) and "ESC" in shown
    visit.open(f"completions/hostile/{STAGE}", i=4, prompt="p0", view="text")
    assert "\u202e" not in visit.page.locator(".hostile").last.inner_text()
    # 50,000 characters are folded, and shown whole on demand, within the window's width.
    visit.open(f"completions/hostile/{STAGE}", i=7, prompt="p0", view="text")
    assert len(visit.page.locator(".hostile").last.inner_text()) < 10_000
    visit.page.get_by_role("button", name="Show all 50,000 characters").click()
    assert len(visit.page.locator(".hostile").last.inner_text()) >= 50_000
    assert visit.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_against_the_reference_shows_both_texts(visit: Visit) -> None:
    stats = visit.open(TINY, kind="evaluation", step=4, prompt="p1", i=0, view="diff")
    assert stats["kind"] == "evaluation"
    visit.until("document.querySelector('.diff') !== null")
    visit.page.keyboard.press("d")
    visit.until("!new URLSearchParams(location.search).has('view')")


def test_a_damaged_file_is_a_sentence(visit: Visit) -> None:
    visit.open(f"completions/damaged/{STAGE}")
    text = visit.page.locator("main").inner_text()
    assert "could not be read" in text
    visit.expect(r"422")
