"""A figure as PNG (of few bytes), PDF or SVG (with a description and the letters that it uses)."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from ridgeline.landscape.pictures.fonts import FACES, embedded
from ridgeline.landscape.record.writer import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 160
COLOURS = 256
"""Of a PNG: chosen from the whole picture, with dots of two where one lies between: a third of the bytes."""


def save(figure: Figure, out: Path, title: str, description: str) -> None:
    """Write ``figure`` in the format of the suffix of ``out``; the file is complete or absent."""
    kind = out.suffix.lower().lstrip(".")
    stream = io.BytesIO()
    options = {"png": {"Software": None}, "pdf": {"Title": title, "CreationDate": None}}
    metadata = options.get(kind, {"Date": None, "Title": title, "Creator": None})
    figure.savefig(stream, format=kind, dpi=DPI, facecolor=figure.get_facecolor(), metadata=metadata)
    data = stream.getvalue()
    if kind == "svg":
        data = accessible(data.decode(), title, description).encode()
    elif kind == "png":
        data = with_palette(data, title, description)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, data)


def with_palette(png: bytes, title: str, description: str) -> bytes:
    """The same picture with COLOURS colours, and with its title and description as text."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    whole = Image.open(io.BytesIO(png)).convert("RGB")
    # Every fourth pixel is enough to choose from. Maximal coverage keeps thin lines in their own colours,
    # which the average over the many pixels of the ground would swallow.
    sample = whole.resize((whole.width // 4, whole.height // 4), Image.Resampling.NEAREST)
    palette = sample.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=4)
    text = PngInfo()
    text.add_itxt("Title", title)
    text.add_itxt("Description", description)
    stream = io.BytesIO()
    reduced = whole.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    reduced.save(stream, "png", optimize=True, dpi=(DPI, DPI), pnginfo=text)
    return stream.getvalue()


def accessible(svg: str, title: str, description: str) -> str:
    """The SVG with role, title and description for screen readers, and the faces of its text inside."""
    head = (
        f'<title id="title">{escape(title)}</title>\n'
        f'<desc id="description">{escape(description)}</desc>\n<style>{_faces(svg)}</style>\n'
    )
    start = svg.index("<svg")
    end = svg.index(">", start)
    opening = svg[start:end] + ' role="img" aria-labelledby="title description"'
    return f"{svg[:start]}{opening}>\n{head}{svg[end + 1 :]}"


def _faces(svg: str) -> str:
    """@font-face rules with only the letters that occur."""
    letters = "".join(sorted(set("".join(re.findall(r">([^<>]+)<", svg)))))
    for code, letter in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        if code in svg:
            letters += letter
    return "".join(
        f"@font-face{{font-family:'{family}';font-style:{style};"
        f"src:url({embedded(family, style, letters)}) format('woff')}}"
        for family, style in FACES
    )
