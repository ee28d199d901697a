"""The run map: what it shows is what the recorded files say, at every step, with its honesty line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from ridgeline.landscape.blocks import decode
from tests.browser.installed import Studio
from tests.browser.runs_root import STAGE
from tests.browser.visit import Visit

MAP = f"map/tiny/{STAGE}"


@pytest.fixture(scope="module")
def landscape(runs: Path) -> Path:
    return runs / "tiny" / "stages" / STAGE / "landscape"


@pytest.fixture(scope="module")
def manifest(landscape: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((landscape / "manifest.json").read_text(encoding="utf-8"))
    return found


def plain(text: str) -> str:
    """A sentence without the signs of print that the page sets, and on one line."""
    for sign, typed in (("R²", "R2"), ("−", "-"), ("±", "+-")):
        text = text.replace(sign, typed)
    return " ".join(text.split())


def shown_step(visit: Visit, step: int) -> None:
    visit.until(f"window.__studio.step === {step}")


def test_every_frame_shows_its_numbers_and_its_honesty_line(
    visit: Visit, landscape: Path, manifest: dict[str, Any]
) -> None:
    frames = manifest["frames"]
    stats = visit.open(MAP, still=1, step=frames[0]["step"])
    assert stats["steps"] == len(frames) >= 4 and stats["kind"] == "lm"
    layer = manifest["altitude"]["active"]
    assert visit.probe("r2") == manifest["altitude"]["r2"][layer]
    for frame in frames[:3]:
        visit.page.get_by_role("slider", name="Step", exact=True).fill(str(frames.index(frame)))
        shown_step(visit, frame["step"])
        blocks = decode((landscape / frame["file"]).read_bytes())[1]
        assert visit.probe("points") == len(blocks["points"]) > 0
        assert visit.probe("honesty") == frame["honesty"]
        assert plain(visit.page.locator("p.honesty").inner_text()) == plain(frame["honesty"])
        visibility = frame["scalars"].get("shown")
        if visibility is not None:
            assert visit.probe("visibility") == pytest.approx(visibility)
    assert visit.canvas_colours() > 50


def test_the_terrain_is_that_of_the_file(visit: Visit, landscape: Path, manifest: dict[str, Any]) -> None:
    visit.open(MAP, still=1)
    meta, blocks = decode((landscape / "terrain.bin").read_bytes())
    layer, n = manifest["altitude"]["active"], meta["n"]
    for row, column in [(n // 2, n // 2), (n // 3, n // 2), (n // 2, 2 * n // 3)]:
        expected = float(blocks[f"{layer}.mean"][row, column])
        if expected == expected:  # a hole has no height
            x = meta["x"][0] + (meta["x"][1] - meta["x"][0]) * column / (n - 1)
            y = meta["y"][0] + (meta["y"][1] - meta["y"][0]) * row / (n - 1)
            assert visit.probe(f"height({x}, {y})") == pytest.approx(expected, abs=1e-3)


def test_a_map_plays_and_its_state_is_in_the_address(visit: Visit, manifest: dict[str, Any]) -> None:
    steps = [frame["step"] for frame in manifest["frames"]]
    visit.open(MAP, still=1, step=steps[0])
    visit.page.get_by_role("button", name="Play").click()
    visit.until(f"window.__studio.step === {steps[-1]}", seconds=30)
    visit.page.keyboard.press("c")
    visit.until("window.__studio.colour === 'advantage'")
    visit.page.keyboard.press("n")
    visit.until("window.__studio.chosen !== null")
    chosen = visit.probe("chosen")
    visit.page.reload()
    visit.ready()
    assert (visit.probe("step"), visit.probe("colour")) == (steps[-1], "advantage")
    visit.until("window.__studio.chosen !== null")
    assert visit.probe("chosen") == chosen


def test_a_poor_map_says_that_it_is_poor(visit: Visit, manifest: dict[str, Any]) -> None:
    """Thirty-two completions of a random model: the map's own warnings are on the page."""
    assert manifest["warnings"], "such a map has to be poor"
    visit.open(MAP, still=1)
    text = plain(visit.page.locator("aside.panel").inner_text())
    # The page sets "Altitude: places ..." as "Altitude Places ...".
    for warning in manifest["warnings"]:
        assert plain(warning.split(": ", 1)[-1][1:]) in text


def test_a_world_run_is_played_like_a_run(visit: Visit, runs: Path) -> None:
    manifest = json.loads((runs / "world" / "landscape" / "manifest.json").read_text(encoding="utf-8"))
    stats = visit.open("map/world/-", still=1)
    assert stats["kind"] == "exact" and stats["steps"] == len(manifest["frames"])
    assert visit.canvas_colours() > 50
    assert len(visit.probe("corridorHalfWidth")) > 2


def test_without_a_map_the_page_names_the_command(visit: Visit) -> None:
    visit.open(f"map/crowded/{STAGE}")
    assert "ridgeline landscape map" in visit.page.locator("main pre").inner_text()
    visit.open(f"map/damaged/{STAGE}")
    assert "cannot be shown" in visit.page.locator("main").inner_text()
    visit.expect(r"/landscape/|status of 4")


def test_the_map_needs_no_webgl(browser_without_webgl: Browser, studio: Studio) -> None:
    context = browser_without_webgl.new_context(viewport={"width": 1280, "height": 800})
    visit = Visit(context, studio)
    visit.open(MAP, still=1)
    assert visit.probe("view") == "2d"
    assert visit.canvas_colours() > 20
    visit.check()
    context.close()
