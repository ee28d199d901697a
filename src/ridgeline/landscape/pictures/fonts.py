"""Inter, which comes with the package, for all text of a picture; set for one drawing only."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import as_file, files
from typing import Any

FACES = {
    ("Inter", "normal"): "Inter-Regular.ttf",
    ("Inter SemiBold", "normal"): "Inter-SemiBold.ttf",
    ("Inter", "italic"): "Inter-Italic.ttf",
}
"""(family, style) -> file in ``fonts/``: Inter 4 (SIL Open Font License), Latin and Greek.

The semi-bold is a family of its own with the weight 'normal', for matplotlib finds faces by both.
"""

PLAIN: dict[str, Any] = {"fontfamily": ["Inter", "DejaVu Sans"]}
BOLD: dict[str, Any] = {"fontfamily": ["Inter SemiBold", "DejaVu Sans"]}
"""Styles of text."""


@cache
def register() -> None:
    """Make the faces known to matplotlib."""
    from matplotlib.font_manager import fontManager

    for name in FACES.values():
        with as_file(files("ridgeline.landscape.pictures") / "fonts" / name) as path:
            fontManager.addfont(path)


@contextmanager
def typography() -> Iterator[None]:
    """Text in Inter, formulas too; text stays text in SVG and PDF."""
    from matplotlib import rc_context

    register()
    settings: Any = {
        "font.family": ["Inter", "DejaVu Sans"],
        "font.size": 9.0,
        "mathtext.fontset": "custom",
        "mathtext.rm": "Inter",
        "mathtext.it": "Inter:italic",
        "mathtext.cal": "Inter:italic",
        "mathtext.fallback": "stixsans",
        "text.hinting": "none",
        "svg.fonttype": "none",
        "svg.hashsalt": "ridgeline",
        "pdf.fonttype": 42,
        "axes.unicode_minus": True,
        "path.simplify": True,
    }
    with rc_context(settings):
        yield


def embedded(family: str, style: str, letters: str) -> str:
    """A data URI of the face, cut down to ``letters``, as WOFF."""
    from fontTools.subset import Options, Subsetter  # type: ignore[import-untyped]
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

    options = Options()
    options.layout_features = ["kern"]
    with as_file(files("ridgeline.landscape.pictures") / "fonts" / FACES[family, style]) as path:
        font = TTFont(path, recalcTimestamp=False)
    cutter = Subsetter(options)
    cutter.populate(text=letters)
    cutter.subset(font)
    font.flavor = "woff"
    stream = io.BytesIO()
    font.save(stream)
    return "data:font/woff;base64," + base64.b64encode(stream.getvalue()).decode()
