"""Runs and one run: charts, the step, a run that grows while it is watched, broken folders; Compare."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.runs_root import STAGE, append_metrics, metrics_line, write_run
from tests.browser.visit import Visit


@pytest.fixture
def growing(runs: Path) -> Iterator[Path]:
    """The stage folder of a run that a test writes to."""
    folder = runs / "growing"
    yield write_run(folder, steps=20, planned=1000, finished=False)
    shutil.rmtree(folder)


def readings(visit: Visit, title: str) -> str:
    """The chart's own words: its title, the number at the step, the unit."""
    return visit.page.locator(f"figure:has-text('{title}')").first.inner_text()


def test_every_run_is_listed_with_its_state(visit: Visit) -> None:
    visit.open("runs")
    visit.until_stats(lambda stats: stats["runs"] >= 7)
    rows = {
        row.locator("h2").inner_text(): row.inner_text()
        for row in visit.page.locator("main ul.sheet > li").all()
    }
    assert "finished" in rows["tiny"] and "policy: reward" in rows["tiny"]
    assert "exact world" in rows["world"]
    assert "damaged" in rows["damaged"] and "recipe.toml could not be read" in rows["damaged"]
    assert "step 3 of 50" in rows["half"]
    visit.page.keyboard.press("/")
    visit.page.keyboard.type("tiny")
    visit.until_stats(lambda stats: stats["shown"] == 2)
    assert visit.query()["q"] == "tiny"
    visit.page.reload()
    assert visit.ready()["shown"] == 2


def test_a_run_shows_the_numbers_of_its_files(visit: Visit, runs: Path) -> None:
    lines = (runs / "tiny" / "stages" / STAGE / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    stats = visit.open("runs/tiny")
    assert stats["charts"] >= 15 and stats["steps"] == rows[-1]["step"] + 1
    chosen = rows[-2]
    visit.open("runs/tiny", step=chosen["step"])
    total, count = chosen["metrics"]["entropy"]
    entropy = f"{total / count:.3g}"
    visit.until(f"document.querySelector('main').innerText.includes({entropy!r})")
    visit.page.keyboard.press("ArrowLeft")
    visit.until(f"new URLSearchParams(location.search).get('step') === '{chosen['step'] - 1}'")
    slider = visit.page.get_by_role("slider", name="Step", exact=True)
    slider.fill("0")
    visit.until("new URLSearchParams(location.search).get('step') === '0'")
    visit.page.get_by_role("button", name="Play").click()
    visit.until("Number(new URLSearchParams(location.search).get('step')) >= 2")
    visit.page.get_by_role("button", name="Pause").click()
    assert visit.canvas_colours("main canvas") > 3


def test_a_growing_run_is_followed_without_fetching_its_history_again(visit: Visit, growing: Path) -> None:
    visit.open("runs")
    visit.until("document.querySelector('main').innerText.includes('growing')")
    stats = visit.open("runs/growing")
    assert stats["steps"] == 20
    fetched = len(visit.asked("/series"))
    for step in range(20, 30):
        append_metrics(growing, [step], phase=5.0)
    visit.until("document.querySelector('main').innerText.includes('/ 29')")
    visit.until("document.querySelector('main').innerText.includes('5.03')")
    # Half a line is no point; its other half makes it one.
    line = metrics_line(30, phase=5.0)
    with (growing / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(line[:50])
        file.flush()
        visit.page.wait_for_timeout(900)
        assert "/ 30" not in visit.page.locator("main").inner_text()
        file.write(line[50:])
    visit.until("document.querySelector('main').innerText.includes('/ 30')")
    assert len(visit.asked("/series")) == fetched, "the history was fetched again"
    assert visit.asked("/stream")


def test_a_damaged_run_is_shown_as_far_as_it_goes(visit: Visit) -> None:
    stats = visit.open("runs/damaged")
    assert stats["charts"] >= 4 and stats["steps"] == 8
    assert "recipe.toml could not be read" in visit.page.locator("main").inner_text()
    # The lines are read for the curves; what was wrong with them comes with the next look at the run.
    visit.until("/[23] damaged lines left out/.test(document.querySelector('main').innerText)")


def test_gold_and_proxy_are_drawn_against_the_distance(visit: Visit) -> None:
    visit.open("runs/tiny")
    visit.page.get_by_role("button", name="KL", exact=True).click()
    visit.until("new URLSearchParams(location.search).get('over') === 'kl'")
    assert "best of n" in visit.page.locator("section.over").inner_text()


def test_two_runs_are_compared(visit: Visit) -> None:
    stats = visit.open("compare", a=f"tiny/{STAGE}", b=f"tiny-again/{STAGE}")
    assert stats["compared"] and stats["rows"] > 10
    differences = visit.page.locator("td.difference")
    assert differences.count() > 5
    # A copy differs from its original in nothing.
    texts = [text.strip("+−-") for text in differences.all_text_contents() if text != "n/a"]
    assert set(texts) <= {"0", "0.00", "0.000"}
    visit.open("compare")
    visit.page.locator("label.pick.a select").select_option(f"tiny/{STAGE}")
    visit.page.locator("label.pick.b select").select_option(f"crowded/{STAGE}")
    visit.until_stats(lambda stats: stats.get("compared") is True)
    assert visit.query() == {"a": f"tiny/{STAGE}", "b": f"crowded/{STAGE}"}


def test_a_comparison_is_fetched_once(visit: Visit, growing: Path) -> None:
    visit.open("runs")
    visit.until("document.querySelector('main').innerText.includes('growing')")
    visit.open("compare", a=f"tiny/{STAGE}", b=f"growing/{STAGE}")
    visit.page.wait_for_timeout(1000)
    series, streams = len(visit.asked("/series")), len(visit.asked("/stream"))
    append_metrics(growing, range(20, 25))
    visit.page.wait_for_timeout(2500)
    assert len(visit.asked("/series")) == series == 2
    assert len(visit.asked("/stream")) == streams
