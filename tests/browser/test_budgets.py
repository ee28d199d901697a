"""What the studio may take: time to the first paint, frames a second, requests, bytes. Best of three."""

from __future__ import annotations

import gzip
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.installed import Installed, Studio
from tests.browser.runs_root import append_metrics, make_many_runs
from tests.browser.visit import Visit

FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
# Turns the camera by keyboard events and counts the frames that the scene drew meanwhile.
FRAMES_PER_SECOND = """async () => {
  const canvas = document.querySelector('.rl-view canvas');
  const stats = window.__studio.stats;
  const before = stats.frames, start = performance.now();
  while (performance.now() - start < 1500) {
    canvas.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft', bubbles: true}));
    await new Promise(requestAnimationFrame);
  }
  return (stats.frames - before) / (performance.now() - start) * 1000;
}"""


@pytest.fixture(scope="module")
def many(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio on 50 runs of 10,000 steps."""
    root = tmp_path_factory.mktemp("many") / "runs"
    make_many_runs(root)
    running = Studio(installed, root)
    yield running
    assert running.stop() == 0


@pytest.mark.parametrize("path", ["", "runs", "world", "lessons"])
def test_first_paint_within_a_second(visit: Visit, path: str) -> None:
    times = []
    for _ in range(3):
        visit.open(path)
        times.append(visit.until(FIRST_PAINT))
    assert min(times) < 1000, f"first paints after {times} ms"


def test_five_frames_a_second_in_software(visit: Visit) -> None:
    visit.open("world", still=1)
    visit.page.locator(".rl-view canvas").focus()
    rates = [visit.page.evaluate(FRAMES_PER_SECOND) for _ in range(3)]
    assert max(rates) >= 5, f"{rates} frames a second"


def test_half_a_million_points_are_shown_and_never_fetched_twice(browser: Browser, many: Studio) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    visit = Visit(context, many)
    assert visit.open("runs")["runs"] == 50
    for number in range(50):
        visit.page.locator("main ul.sheet h2", has_text=f"run-{number:02d}").click()
        visit.until(f"location.pathname.endsWith('run-{number:02d}') && window.__studio.ready")
        assert visit.stats()["steps"] == 10_000
        visit.page.go_back()
        visit.until("window.__studio.page === 'runs' && window.__studio.ready")
    fetched = visit.asked("/series")
    assert len(fetched) == len(set(fetched)) == 50
    stats = visit.open("runs/run-07")
    assert stats["charts"] >= 6
    sent = visit.page.evaluate(
        "performance.getEntriesByType('resource').filter((e) => e.name.includes('/series'))"
        ".map((e) => e.decodedBodySize)"
    )
    assert len(sent) == 1 and sent[0] < 1_000_000, "history is thinned by the server"
    fetched = visit.asked("/series")
    append_metrics(many.runs / "run-07" / "stages" / "01-policy", range(10_000, 10_020), phase=9.0)
    visit.until("document.querySelector('main').innerText.includes('/ 10019')")
    assert visit.asked("/series") == fetched
    visit.check()
    context.close()


@pytest.fixture(scope="module")
def built(wheel: Path) -> dict[str, bytes]:
    """The front end's files in the wheel, by name."""
    with zipfile.ZipFile(wheel) as archive:
        prefix = "ridgeline/studio/static/"
        names = [name for name in archive.namelist() if name.startswith(prefix)]
        return {name.removeprefix(prefix): archive.read(name) for name in names}


def imports(source: str) -> set[str]:
    """What a script loads before it runs."""
    return {f"assets/{name}" for name in re.findall(r'(?:from|import)\s*"\./([^"]+\.js)"', source)}


def shell_of(built: dict[str, bytes]) -> set[str]:
    """index.html, what it names, and what those scripts import."""
    html = built["index.html"].decode()
    shell = {"index.html", *re.findall(r'(?:src|href)="(?:\./|/)?([^"]+\.(?:js|css))"', html)}
    waiting = [name for name in shell if name.endswith(".js")]
    while waiting:
        new = imports(built[waiting.pop()].decode()) - shell
        shell |= new
        waiting += new
    return shell


def test_the_shell_and_three_js_are_small(built: dict[str, bytes]) -> None:
    packed = {name: len(gzip.compress(content)) for name, content in built.items()}
    shell = shell_of(built)
    assert len(shell) >= 3
    total = sum(packed[name] for name in shell)
    assert total < 120_000, f"the shell takes {total} bytes: {sorted(shell)}"
    (three,) = [name for name in built if re.search(r"/three-[^/]*\.js$", name)]
    assert three not in shell and packed[three] < 170_000, packed[three]
    assert sum(packed.values()) < 3_000_000, "the front end's share of the wheel"


def test_the_wheel_holds_the_front_end_its_licences_and_no_sources(built: dict[str, bytes]) -> None:
    assert {"index.html", "THIRD_PARTY_LICENSES.txt"} <= set(built)
    licences = built["THIRD_PARTY_LICENSES.txt"].decode()
    for name in ("three", "svelte", "uplot", "katex"):
        assert re.search(rf"\b{name}\b", licences, re.IGNORECASE), name
    assert not [name for name in built if name.endswith((".map", ".svelte", ".ts"))]
    # No address of another machine is loaded: styles, fonts and scripts are all here.
    for name, content in built.items():
        if name.endswith((".css", ".html")):
            text = content.decode()
            assert not re.search(r"(?:url\(|src=|href=)[\"']?(?:https?:)?//", text), name


def test_only_pages_with_a_picture_load_three_js(visit: Visit) -> None:
    visit.open("runs/tiny")
    visit.open("completions/tiny/01-policy")
    assert not visit.asked(r"/three-")
    visit.open("world", still=1)
    assert visit.asked(r"/three-")


def test_nothing_is_asked_of_other_machines(visit: Visit) -> None:
    for path in ("", "world", "lessons", "lessons/1", "runs", "runs/tiny", "compare"):
        visit.open(path)
    assert {
        url for url in visit.requests if not url.startswith((visit.studio.origin, "data:", "blob:"))
    } == set()
