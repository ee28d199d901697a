"""The World page shows what the library computes: by pointer, by keyboard, in 3-D and on the map."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Download

from ridgeline.landscape.world.grid import Grid
from ridgeline.landscape.world.reference import clone_route, corridor
from ridgeline.landscape.world.terrain_file import load_terrain, parse_terrain
from tests.browser.installed import Studio
from tests.browser.visit import Visit

RAVINE = load_terrain("ravine")
SHOWN_DIGITS = 0.0051
"""Half of the last digit that the page shows."""


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def panel(visit: Visit, label: str) -> str:
    """What the panel shows beside ``label``."""
    row = visit.page.locator(f"dl div:has(dt:has-text('{label}'))").first
    return row.locator("dd").first.inner_text()


def pin_at(visit: Visit) -> tuple[float, float]:
    pin = visit.probe("pin")
    return pin["x"], pin["y"]


def settle_pin(visit: Visit, x: float, y: float) -> None:
    """Until the panel's numbers belong to the pin at (x, y), to the digits that it shows."""
    shown = f"{x:.2f}, {y:.2f}".replace("-", "−").replace("−0.00", "0.00")
    visit.until(f"document.querySelector('.panel').innerText.includes({shown!r})")


def assert_pin_stands_on_the_terrain(visit: Visit) -> None:
    x, y = pin_at(visit)
    expected = float(RAVINE.height(np.array([x, y])))
    settle_pin(visit, x, y)
    visit.page.wait_for_timeout(300)  # the socket answers pins one at a time; the newest comes last
    assert number(panel(visit, "altitude r")) == pytest.approx(expected, abs=SHOWN_DIGITS)
    # The picture interpolates a 65 x 65 grid: cells of 0.094, curvature below 8 per unit^2.
    assert visit.probe(f"height({x}, {y})") == pytest.approx(expected, abs=0.01)


def test_the_picture_is_drawn_and_picks_where_it_projects(visit: Visit) -> None:
    stats = visit.open("world", still=1)
    assert stats["view"] == "3d" and stats["triangles"] > 1000 and not stats["contextLost"]
    assert visit.canvas_colours() > 50
    for place in [(-1.5, 0.5), (0.0, -2.0), (2.2, -0.4)]:
        at = visit.probe(f"project({place[0]}, {place[1]})")
        found = visit.probe(f"pick({at['x']}, {at['y']})")
        assert (found["x"], found["y"]) == pytest.approx(place, abs=0.06)


def test_numbers_are_those_of_the_library(visit: Visit) -> None:
    visit.open("world", still=1, pin="0.4,0.7")
    reference = clone_route(RAVINE.route, RAVINE, seed=0)
    grid = Grid(65)
    tube = corridor(RAVINE, reference, grid)
    widths = visit.probe("corridorHalfWidth")
    assert len(widths) == RAVINE.horizon + 1
    for t in range(1, RAVINE.horizon):
        along = tube.mean[t + 1] - tube.mean[t - 1]
        across = np.array([-along[1], along[0]]) / np.linalg.norm(along)
        assert widths[t] == pytest.approx(2.0 * math.sqrt(across @ tube.cov[t] @ across), rel=1e-3)
    assert_pin_stands_on_the_terrain(visit)


@pytest.mark.parametrize("view", ["3d", "2d"])
def test_the_pin_is_dragged_by_pointer(visit: Visit, view: str) -> None:
    visit.open("world", still=1, view=view)
    assert visit.probe("view") == view
    x, y = pin_at(visit)
    target = (-0.6, -0.9)
    box = visit.page.locator(".rl-view").bounding_box()
    handle = visit.page.locator(".rl-pin").bounding_box()
    assert box and handle
    start = visit.probe(f"project({x}, {y})")
    end = visit.probe(f"project({target[0]}, {target[1]})")
    from_x, from_y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    visit.page.mouse.move(from_x, from_y)
    visit.page.mouse.down()
    visit.page.mouse.move(from_x + end["x"] - start["x"], from_y + end["y"] - start["y"], steps=6)
    visit.page.mouse.up()
    visit.until(f"Math.abs(window.__studio.pin.x - ({target[0]})) < 0.08")
    assert pin_at(visit) == pytest.approx(target, abs=0.08)
    assert_pin_stands_on_the_terrain(visit)
    visit.until("new URLSearchParams(location.search).has('pin')")
    kept = [float(part) for part in visit.query()["pin"].split(",")]
    assert kept == pytest.approx(pin_at(visit), abs=1e-3)
    before = pin_at(visit)
    visit.page.reload()
    visit.ready()
    assert pin_at(visit) == pytest.approx(before, abs=1e-3)


def test_the_pin_is_moved_by_keyboard(visit: Visit) -> None:
    visit.open("world", still=1)
    x, y = pin_at(visit)
    visit.page.locator(".rl-pin").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowUp"):
        visit.page.keyboard.press(key)
    visit.until(f"Math.abs(window.__studio.pin.y - {y + 0.35}) < 1e-6")
    assert pin_at(visit) == pytest.approx((x + 0.1, y + 0.35))
    assert_pin_stands_on_the_terrain(visit)


def test_the_budget_widens_the_corridor_by_the_square_root(visit: Visit) -> None:
    visit.open("world", still=1)
    before = np.array(visit.probe("corridorHalfWidth"))
    slider = visit.page.get_by_label("Corridor ε", exact=False)
    slider.fill("8")
    visit.until(f"window.__studio.corridorHalfWidth[5] > {1.9 * before[5]}")
    assert np.array(visit.probe("corridorHalfWidth")) == pytest.approx(2.0 * before, rel=1e-6)
    visit.until("new URLSearchParams(location.search).get('reach') === '8'")
    assert "4.00 σ" in visit.page.locator(".panel").inner_text()


def test_learning_steps_plays_pauses_and_goes_back(visit: Visit) -> None:
    visit.open("world", still=1, pin="-1.0,-0.6")
    start = number(panel(visit, "Return J"))
    visit.page.get_by_role("button", name="One step").click()
    visit.until("window.__studio.frame === 1")
    assert visit.page.get_by_text("iteration 1").first.is_visible()
    visit.page.get_by_role("button", name="Learn").click()
    visit.until("window.__studio.frame >= 12", seconds=40)
    visit.page.get_by_role("button", name="Pause").click()
    visit.page.wait_for_timeout(500)
    paused = visit.probe("frame")
    visit.page.wait_for_timeout(600)
    assert visit.probe("frame") == paused
    assert number(panel(visit, "Return J")) > start + 0.05
    assert number(panel(visit, "KL per path")) > 0.05
    visit.page.get_by_role("button", name="Back to the reference").click()
    visit.until("window.__studio.frame === 0")
    visit.until("!document.querySelector('.panel').innerText.includes('Pause')")
    assert number(panel(visit, "Return J")) == pytest.approx(start, abs=SHOWN_DIGITS)
    assert number(panel(visit, "KL per path")) == pytest.approx(0.0, abs=SHOWN_DIGITS)


def test_two_hundred_paths_return_what_is_expected_exactly(visit: Visit) -> None:
    visit.open("world", still=1)
    exact = number(panel(visit, "Return J"))
    visit.page.keyboard.press("2")
    told = "document.querySelector('.below').innerText.includes('of 200')"
    visit.until(told)
    text = visit.page.locator(".below").inner_text()
    mean, error = text.split("mean return ")[1].split("\n")[0].split(" ± ")
    assert 0 < number(error) < 0.2
    # Five standard errors, and both numbers are rounded to two digits.
    assert abs(number(mean) - exact) < 5 * number(error) + 0.011


def test_settings_change_the_value_and_the_address(visit: Visit) -> None:
    visit.open("world", still=1, pin="1.5,0.8")
    before = number(panel(visit, "value V"))
    visit.page.get_by_label("Rewarded by").select_option("proxy")
    visit.until("new URLSearchParams(location.search).get('layer') === 'proxy'")
    visit.page.wait_for_timeout(500)
    after = number(panel(visit, "value V"))
    assert abs(after - before) > 0.03
    x, y = pin_at(visit)
    expected = float(RAVINE.height(np.array([x, y]), "proxy"))
    assert number(panel(visit, "altitude r")) == pytest.approx(expected, abs=SHOWN_DIGITS)
    visit.page.get_by_label("Algorithm").select_option("trpo")
    visit.until("new URLSearchParams(location.search).get('algorithm') === 'trpo'")
    visit.page.reload()
    visit.ready()
    assert visit.page.get_by_label("Algorithm").input_value() == "trpo"
    assert number(panel(visit, "value V")) == pytest.approx(after, abs=SHOWN_DIGITS)


def test_a_hill_is_moved_and_the_terrain_saved(visit: Visit) -> None:
    visit.open("world", still=1, view="2d")
    visit.page.get_by_role("button", name="Drag hills").click()
    first = RAVINE.layers[0].bumps[0]
    handle = visit.page.locator(".rl-bump").first
    handle.focus()
    for _ in range(3):
        visit.page.keyboard.press("Shift+ArrowDown")
    moved = RAVINE.height(np.array([first.x, first.y])) - first.height
    visit.until(f"Math.abs(window.__studio.height({first.x}, {first.y}) - ({moved})) < {abs(first.height)}")
    visit.page.wait_for_timeout(1200)  # the world at rest: 65 x 65 again
    saved = parse_terrain(download(visit, "Terrain as TOML").read_text(encoding="utf-8"))
    bump = saved.layers[0].bumps[0]
    assert (bump.x, bump.y) == pytest.approx((first.x, max(-3.0, first.y - 0.9)), abs=1e-6)
    assert (bump.width, bump.height) == (first.width, first.height)
    for place in [(first.x, first.y), (bump.x, bump.y), (-2.0, 2.0)]:
        expected = float(saved.height(np.array(place)))
        assert visit.probe(f"height({place[0]}, {place[1]})") == pytest.approx(expected, abs=0.02)


def download(visit: Visit, name: str) -> Path:
    visit.page.get_by_label("Files", exact=True).click()
    with visit.page.expect_download() as started:
        visit.page.get_by_role("button", name=name).click()
    got: Download = started.value
    return Path(got.path())


def test_the_map_is_exported_as_a_drawing(visit: Visit) -> None:
    visit.open("world", still=1)
    tree = ET.parse(download(visit, "Map as SVG"))
    shapes = [node.tag.rsplit("}", 1)[-1] for node in tree.iter()]
    assert shapes[0] == "svg" and shapes.count("path") > 20 and "text" in shapes
    assert "script" not in shapes and "foreignObject" not in shapes


def test_the_two_views_show_the_same(visit: Visit) -> None:
    visit.open("world", still=1, pin="0.5,-1.0", seed=3)
    kept = ("pin", "corridorHalfWidth", "value", "frame")
    solid = {name: visit.probe(name) for name in kept}
    heights = [visit.probe(f"height({x}, 0.3)") for x in (-2, -1, 0, 1, 2)]
    visit.page.get_by_role("button", name="Map", exact=True).click()
    visit.until("window.__studio.view === '2d'")
    assert {name: visit.probe(name) for name in kept} == solid
    assert [visit.probe(f"height({x}, 0.3)") for x in (-2, -1, 0, 1, 2)] == heights
    visit.until("new URLSearchParams(location.search).get('view') === '2d'")
    assert visit.canvas_colours() > 50
    visit.page.keyboard.press("m")
    visit.until("window.__studio.view === '3d'")


def test_the_same_address_draws_the_same_bytes(visit: Visit) -> None:
    drawn = []
    for _ in range(2):
        visit.open("world", still=1, seed=5, pin="0,0")
        visit.page.wait_for_timeout(500)
        drawn.append(visit.probe("canvasHash()"))
    assert drawn[0] is not None and drawn[0] == drawn[1]


def test_without_webgl_the_map_takes_over(browser_without_webgl: Browser, studio: Studio) -> None:
    context = browser_without_webgl.new_context(viewport={"width": 1280, "height": 800})
    visit = Visit(context, studio)
    assert not visit.page.evaluate("!!document.createElement('canvas').getContext('webgl2')")
    stats = visit.open("world", still=1)
    assert stats["view"] == "2d"
    assert visit.page.get_by_role("status").filter(has_text="WebGL").is_visible()
    assert visit.canvas_colours() > 50
    assert_pin_stands_on_the_terrain(visit)
    visit.check()
    context.close()


def test_labels_do_not_cover_each_other(visit: Visit) -> None:
    visit.open("world", still=1)
    boxes = sorted(visit.probe("labels"), key=lambda each: each["left"])
    assert len(boxes) >= 4
    for one, two in pairwise(boxes):
        apart = (
            one["left"] + one["width"] <= two["left"] + 1
            or one["top"] + one["height"] <= two["top"] + 1
            or two["top"] + two["height"] <= one["top"] + 1
        )
        assert apart, f"{one['text']} and {two['text']} overlap"


def test_a_terrain_is_opened_from_a_file(visit: Visit, tmp_path: Path) -> None:
    from ridgeline.landscape.world.terrain_file import terrain_to_toml

    own = RAVINE.replace(name="mine", title="A terrain of mine", start=(0.5, 0.5))
    path = tmp_path / "mine.toml"
    path.write_text(terrain_to_toml(own), encoding="utf-8")
    visit.open("world", still=1)
    visit.page.get_by_label("Files", exact=True).click()
    visit.page.locator("input[type=file]").set_input_files(path)
    visit.until("document.querySelector('.panel').innerText.includes('A terrain of mine')")
    visit.until("Math.abs(window.__studio.pin.x - 0.5) < 1e-6")


def test_two_tabs_are_two_worlds(visit_with: Callable[..., Visit]) -> None:
    one, two = visit_with(), visit_with()
    one.open("world", still=1)
    two.open("world", still=1)
    one.page.get_by_role("button", name="One step").click()
    one.until("window.__studio.frame === 1")
    assert two.probe("frame") == 0
