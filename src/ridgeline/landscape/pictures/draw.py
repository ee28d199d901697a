"""``picture``: one recorded landscape, one file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ridgeline.landscape.pictures.export import save
from ridgeline.landscape.pictures.fonts import typography
from ridgeline.landscape.pictures.page import save_page
from ridgeline.landscape.pictures.scene import Scene, scene_of
from ridgeline.landscape.pictures.series import series_sheet
from ridgeline.landscape.pictures.sheet import map_sheet
from ridgeline.landscape.pictures.solid import solid_sheet
from ridgeline.landscape.pictures.theme import theme_of
from ridgeline.landscape.record import Record
from ridgeline.schema.errors import UsageError, nearest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf", "html")

Drawing = Callable[[Scene, tuple[str, ...]], "Figure"]
VIEWS: dict[str, Drawing] = {"map": map_sheet, "3d": solid_sheet, "frames": series_sheet}
"""View -> what draws it: a map of one frame, the same as a block of land, several frames with curves."""


def picture(
    record: Record | Path | str,
    out: Path | str,
    frame: int = -1,
    *,
    theme: str = "light",
    view: str = "map",
    layer: str | None = None,
) -> Path:
    """Draw a frame of ``record`` into ``out``; the suffix says which of png, svg, pdf and html.

    ``layer`` shows that layer alone; without it gold and proxy stand side by side, on the same colour
    limits, where both exist. The page (html) holds all frames and layers and opens at ``frame``.

    Raises:
        UsageError: no such frame, layer, theme, view or format, or, for html, no viewer.
        DataError: the record is damaged.
    """
    if not isinstance(record, Record):
        record = Record(record)
    out = Path(out)
    kind = out.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise UsageError(
            f"cannot write {out.name}: end its name in .{', .'.join(FORMATS[:-1])} or .{FORMATS[-1]}."
        )
    if view not in VIEWS:
        raise UsageError(f"there is no view {view!r}; {nearest(view, VIEWS)}")
    scene = scene_of(record, frame, theme_of(theme), layer)
    if kind == "html":
        save_page(record, out, frame=frame, theme=theme)
        return out
    layers = (layer,) if layer is not None else record.manifest.altitude.layers
    with typography():
        figure = VIEWS[view](scene, layers)
        save(figure, out, title_of(scene), description_of(scene, layers))
    return out


def title_of(scene: Scene) -> str:
    """The title for file properties and screen readers."""
    return f"{scene.record.manifest.title}, step {scene.frame.step}"


def description_of(scene: Scene, layers: tuple[str, ...]) -> str:
    """The picture in words: what is drawn, its numbers and the honesty line."""
    drawn = "Map" if len(layers) == 1 else "Maps"
    numbers = ", ".join(
        f"{name} {value:.3g}" for name, value in scene.frame.scalars.items() if value is not None
    )
    paths, points = len(scene.frame.paths), scene.frame.points
    content = [f"{paths} paths"] if paths else []
    content += [f"{len(points)} completions"] if points is not None else []
    sentences = [
        f"{drawn} of the altitude {' and '.join(layers)} with {' and '.join(content) or 'no samples'}.",
        f"{numbers}." if numbers else "",
        *scene.record.manifest.warnings,
        scene.frame.honesty,
    ]
    return " ".join(sentence for sentence in sentences if sentence)
