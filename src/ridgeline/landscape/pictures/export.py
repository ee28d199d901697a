"""A figure as PNG, PDF or SVG; an SVG is given a title, a description and the letters that it uses."""

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

DPI = 200


def save(figure: Figure, out: Path, title: str, description: str) -> None:
    """Write ``figure`` in the format of the suffix of ``out``; the file is complete or absent."""
    kind = out.suffix.lower().lstrip(".")
    stream = io.BytesIO()
    options = {"png": {"Software": None, "Title": title}, "pdf": {"Title": title, "CreationDate": None}}
    metadata = options.get(kind, {"Date": None, "Title": title, "Creator": None})
    figure.savefig(stream, format=kind, dpi=DPI, facecolor=figure.get_facecolor(), metadata=metadata)
    data = stream.getvalue()
    if kind == "svg":
        data = accessible(data.decode(), title, description).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, data)


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
