"""Still pictures, by what they contain: elements, limits, sums, the room that texts take; not by pixels."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as tree
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from PIL import Image
from tests.landscape.pictures import samples

from ridgeline.landscape.pictures import block, picture
from ridgeline.landscape.pictures.draw import VIEWS
from ridgeline.landscape.pictures.fonts import typography
from ridgeline.landscape.pictures.ground import axis_title
from ridgeline.landscape.pictures.relief import contour_levels, hillshade, relief
from ridgeline.landscape.pictures.scene import Scene, between, scene_of
from ridgeline.landscape.pictures.series import spread
from ridgeline.landscape.pictures.strip import strip_sum
from ridgeline.landscape.pictures.theme import LIGHT, THEMES
from ridgeline.landscape.record import Axis, LayerGrid, Record, TerrainGrid
from ridgeline.schema.errors import UsageError


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("exact")
    return samples.exact(folder, layers=("gold", "proxy"), n=33, paths=8)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return samples.language_model(tmp_path_factory.mktemp("lm"), n=33, points=80)


@pytest.fixture(scope="module")
def still(exact: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return picture(exact, tmp_path_factory.mktemp("still") / "a.png", layer="gold")


def ids_of(svg: Path) -> set[str]:
    return {each.get("id", "") for each in tree.parse(svg).iter()}


def drawn(record: Record, view: str, theme: str, layers: tuple[str, ...]) -> tuple[Scene, Figure]:
    scene = scene_of(record, -1, THEMES[theme], None)
    with typography():
        figure = VIEWS[view](scene, layers)
        figure.canvas.draw()
    return scene, figure


def texts(figure: Figure) -> Iterator[Text]:
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip():
            yield text


@pytest.mark.parametrize("view", ["map", "3d", "frames"])
@pytest.mark.parametrize("kind", ["exact", "language_model"])
def test_no_text_overlaps_another_or_leaves_the_sheet(
    view: str, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block, "COLUMNS", 300)  # texts do not depend on how finely the land is drawn
    record: Record = request.getfixturevalue(kind)
    with typography():
        _, figure = drawn(record, view, "light", record.manifest.altitude.layers)
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    boxes = [(text, box) for text, box in boxes if box.width > 1]
    assert len(boxes) > 15
    sheet = figure.bbox
    for number, (text, box) in enumerate(boxes):
        assert box.x0 >= 0 and box.x1 <= sheet.x1 and box.y0 >= 0 and box.y1 <= sheet.y1, text
        for other, its in boxes[:number]:
            width = min(box.x1, its.x1) - max(box.x0, its.x0)
            height = min(box.y1, its.y1) - max(box.y0, its.y0)
            # Boxes hold ascent and descent; letters touch only when a fifth of the line is shared.
            assert width <= 1 or height <= 0.2 * min(box.height, its.height), (text, other)


def test_the_map_of_an_exact_world_has_every_element(exact: Record, tmp_path: Path) -> None:
    svg = picture(exact, tmp_path / "map.svg")
    found = ids_of(svg)
    assert {"relief-gold", "relief-proxy", "contours-gold", "index-contours-proxy"} <= found
    assert {"pin", "start", "route", "value-contours", "path-told", "scale-0", "ramp"} <= found
    assert {"compass-mean", "compass-spread", "compass-kl-ring", "compass-reference"} <= found
    assert {"corridor-0", "corridor-1", "corridor-2"} <= found
    steps = {name for name in found if re.fullmatch(r"strip-(up|down)-\d+", name)}
    assert len(steps) == samples.HORIZON
    # Seven paths beside the told one, on each of the two maps.
    assert len([name for name in found if re.fullmatch(r"path-\d+", name)]) == 7


def test_the_map_of_a_run_shows_points_corridor_fog_and_its_warning(
    language_model: Record, tmp_path: Path
) -> None:
    svg = picture(language_model, tmp_path / "map.svg")
    found, text = ids_of(svg), svg.read_text()
    assert {"fog", "points-up", "points-down", "corridor-2", "strip-value", "pin"} <= found
    assert not {"compass-mean", "value-contours", "route", "scale-0"} & found
    assert "Caution: The picture shows 9 % of the drift" in text and "R2 0.41" in text


def test_the_svg_can_be_read_aloud_and_carries_its_letters(exact: Record, tmp_path: Path) -> None:
    svg = picture(exact, tmp_path / "map.svg", layer="gold")
    root = tree.parse(svg).getroot()
    names = {child.tag.split("}")[1]: child.text for child in root}
    assert root.get("role") == "img" and root.get("aria-labelledby") == "title description"
    assert names["title"] == "Ravine, step 40"
    assert "8 paths" in str(names["desc"]) and "KL 3.10 nats per path" in str(names["desc"])
    text = svg.read_text()
    assert text.count("@font-face") == 3 and "font/woff" in text
    words = "".join("".join(each.itertext()) for each in root.iter() if each.tag.endswith("}text"))
    words = re.sub(r"\s+", "", words)  # a formula is one text of many spans, grouped by style
    assert "Corridorof" in words and "Altitude=reward" in words and "π" in words
    assert svg.stat().st_size < 1_500_000


def test_what_a_key_names_is_drawn(language_model: Record, tmp_path: Path) -> None:
    words = picture(language_model, tmp_path / "map.svg").read_text()
    assert "Policy" not in words and "Value" in words  # the strip has V, the map has no contours of it
    assert "80 completions" in words


def test_colour_limits_are_the_manifests_in_every_frame(exact: Record) -> None:
    limits = {scene_of(exact, index, LIGHT, None).limits for index in range(len(exact.frames))}
    assert limits == {exact.manifest.altitude.range}
    grid = exact.terrain.layers["gold"]
    images = [relief(exact.terrain, grid, LIGHT, scene_of(exact, k, LIGHT, None).limits, 64) for k in (0, 2)]
    np.testing.assert_array_equal(*images)


def test_side_by_side_maps_use_one_ramp(exact: Record) -> None:
    """Where gold and proxy are equally high, they have one colour, though the proxy's peak is much higher."""
    parts = exact.terrain.layers
    limits = scene_of(exact, -1, LIGHT, None).limits
    gold, proxy = (relief(exact.terrain, parts[name], LIGHT, limits, 33) for name in ("gold", "proxy"))
    same = np.abs(parts["gold"].mean - parts["proxy"].mean) < 1e-6
    assert same.sum() > 20
    np.testing.assert_allclose(gold[same], proxy[same], atol=1e-3)


def test_the_bars_of_the_strip_add_up_to_the_return(exact: Record) -> None:
    scene, figure = drawn(exact, "map", "light", ("gold",))
    heights = {
        patch.get_gid(): patch.get_height()  # type: ignore[attr-defined]
        for patch in figure.findobj(lambda artist: str(artist.get_gid() or "").startswith("strip-"))
        if hasattr(patch, "get_height") and hasattr(patch, "get_width") and not isinstance(patch, AxesImage)
    }
    assert scene.told is not None
    assert sum(heights.values()) == pytest.approx(float(scene.told[1:, 2].sum()), rel=1e-5)
    assert strip_sum(scene) == pytest.approx(sum(heights.values()), rel=1e-5)


def test_the_told_path_is_the_median(exact: Record) -> None:
    scene = scene_of(exact, -1, LIGHT, None)
    returns = sorted(float(path[1:, 2].sum()) for path in scene.frame.paths)
    assert strip_sum(scene) == pytest.approx(returns[len(returns) // 2])


def test_the_kl_ring_is_the_budget(exact: Record) -> None:
    """KL of two Gaussians of one spread whose means are a ring's radius apart is the budget."""
    compass = scene_of(exact, -1, LIGHT, None).compass
    assert compass is not None and compass.budget == pytest.approx(3.1 / samples.HORIZON)
    assert compass.ring**2 / (2 * samples.SIGMA**2) == pytest.approx(compass.budget, rel=1e-5)


def test_the_policy_between_lattice_states_is_bilinear() -> None:
    """Exact for a policy that is linear in the state; outside the lattice, that of its edge."""
    x, y = (part.ravel() for part in np.meshgrid(np.linspace(-2, 2, 5), np.linspace(-1, 1, 4)))
    lattice = np.stack([x, y, 2 * x - y, 0.5 * y, 0 * x + 0.3, 0 * x + 0.4], axis=1)
    shuffled = np.random.default_rng(0).permutation(lattice)
    np.testing.assert_allclose(between(shuffled, np.array([0.7, -0.4])), [1.8, -0.2, 0.3, 0.4], atol=1e-12)
    np.testing.assert_allclose(between(shuffled, np.array([9.0, 0.0])), [4.0, 0.0, 0.3, 0.4], atol=1e-12)


def test_the_compass_stands_at_the_pin_on_the_path(exact: Record) -> None:
    scene = scene_of(exact, 0, LIGHT, None)
    assert scene.compass is not None and scene.pin is not None and scene.told is not None
    assert 0 < scene.pin_row < len(scene.told) - 1
    np.testing.assert_allclose(scene.compass.sigma, samples.SIGMA, rtol=1e-5)


@pytest.mark.parametrize(("low", "high"), [(-0.9, 1.0), (0.0, 1.0), (-3.0, 21.0), (0.0, 0.004)])
def test_no_contour_lies_on_a_round_height(low: float, high: float) -> None:
    levels = contour_levels(low, high)
    assert 8 <= len(levels.values) <= 30 and set(levels.index) < set(levels.values)
    assert all(abs(level / levels.step % 1 - 0.5) < 1e-6 for level in levels.values)
    assert all(low < level < high for level in levels.values)


def test_light_comes_from_the_north_west() -> None:
    """A cone is lighter on its north-western flank; flat ground is neither light nor dark."""
    axis = np.linspace(-1, 1, 41)
    x, y = np.meshgrid(axis, axis)
    cone = np.clip(0.8 - np.hypot(x, y), 0, None)
    shade = hillshade(cone, TerrainGrid(41, (-1, 1), (-1, 1), {}))
    assert shade[28, 12] > 0.1 > -0.1 > shade[12, 28]
    assert abs(shade[0, 0]) < 1e-9


def test_doubt_fades_and_the_unknown_is_cut() -> None:
    axis = np.zeros((9, 9))
    error = np.zeros((9, 9))
    error[:, 6:] = 5.0
    shown = np.ones((9, 9), dtype=bool)
    shown[:, :2] = False
    grid = LayerGrid(axis, error, shown)
    image = relief(TerrainGrid(9, (0, 1), (0, 1), {"r": grid}), grid, LIGHT, (-1.0, 1.0), 90)
    assert image[45, 2, 3] == 0 and image[45, 45, 3] == 1
    paper = np.array([0xFA, 0xF8, 0xF4]) / 255
    assert np.abs(image[45, 85, :3] - paper).max() < 0.05 < np.abs(image[45, 40, :3] - paper).max()


def test_frames_are_spread_from_first_to_last() -> None:
    assert spread(3, 8) == [0, 1, 2]
    assert spread(50, 8)[0] == 0 and spread(50, 8)[-1] == 49 and len(spread(50, 8)) == 8


def test_the_curves_show_every_frame(exact: Record) -> None:
    _, figure = drawn(exact, "frames", "dark", ("gold",))
    lines = {line.get_gid(): line for axes in figure.axes for line in axes.lines}
    over_kl = lines["curve-gold-kl"]
    wanted = [math.sqrt(frame.scalars["kl"] or 0.0) for frame in exact.frames]
    np.testing.assert_allclose(over_kl.get_xdata(), wanted)
    assert "curve-proxy-step" in lines


def test_other_formats_are_written_whole_and_again_the_same(
    exact: Record, still: Path, tmp_path: Path
) -> None:
    before = dict(rcParams)
    again, pdf = (picture(exact, tmp_path / name, layer="gold") for name in ("a.png", "a.pdf"))
    assert still.read_bytes() == again.read_bytes() and still.read_bytes()[:4] == b"\x89PNG"
    other = picture(exact, tmp_path / "b.pdf", layer="gold")
    assert pdf.read_bytes() == other.read_bytes() and pdf.read_bytes()[:4] == b"%PDF"
    assert dict(rcParams) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdf", "a.png", "b.pdf"]


def test_a_png_is_small_keeps_its_colours_and_says_what_it_shows(still: Path) -> None:
    """Half a megabyte at most, with the pin, the paths and V in their own colours."""
    image = Image.open(still)
    assert still.stat().st_size < 500_000 and image.mode == "P"
    assert "KL" in image.text["Description"] and image.text["Title"] == "Ravine, step 40"
    pixels = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0).astype(float)
    for colour in (LIGHT.pin, LIGHT.value, LIGHT.mint, LIGHT.accent):
        wanted = 255 * np.array(to_rgb(colour))
        assert np.abs(pixels - wanted).max(1).min() < 12, colour


def test_the_strip_of_a_text_is_told_by_its_share(language_model: Record) -> None:
    _, figure = drawn(language_model, "map", "light", ("reward",))
    strip = next(axes for axes in figure.axes if "reward at the end" in axes.get_title(loc="left"))
    shares = [label.get_text() for label in strip.get_xticklabels()]
    rows = len(scene_of(language_model, -1, LIGHT, None).told)  # type: ignore[arg-type]
    assert shares == [f"{100 * (row + 1) / rows:.0f} %" for row in range(rows)] and shares[-1] == "100 %"


def test_an_axis_has_one_pair_of_brackets() -> None:
    names = [("reward axis (uphill)", "sd"), ("reward axis", "sd"), ("x", "")]
    made = [axis_title(Axis(name=name, unit=unit, range=(0, 1))) for name, unit in names]
    assert made == ["reward axis (uphill; sd)", "reward axis (sd)", "x"]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"theme": "drak"}, "did you mean 'dark'"),
        ({"view": "4d"}, "did you mean '3d'"),
        ({"layer": "golf"}, "did you mean 'gold'"),
        ({"frame": 9}, "frames are 0 to 2"),
    ],
)
def test_mistakes_are_named(exact: Record, tmp_path: Path, options: dict[str, object], fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        picture(exact, tmp_path / "x.png", **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="end its name in"):
        picture(exact, tmp_path / "x.bmp")
    assert list(tmp_path.iterdir()) == []
