"""A record inside one self-contained page: the studio's viewer with the record's files as text."""

from __future__ import annotations

import base64
import json
from importlib.resources import files
from pathlib import Path

from ridgeline.landscape.record import Record
from ridgeline.landscape.record.writer import write_bytes
from ridgeline.schema.errors import UsageError

SLOT = '<script type="application/json" id="ridgeline-record">'
"""Where the viewer looks for its record; the page holds this tag with nothing, or an empty object, in it."""


def viewer() -> str:
    """The page that the studio's front end builds, without a record.

    Raises:
        UsageError: the front end has not been built.
    """
    # By path, not by import: the studio stands above this floor.
    page = files("ridgeline") / "studio/static/viewer.html"
    if not page.is_file():
        raise UsageError(
            "an interactive page needs the studio's front end, which has not been built here; build it with: "
            "make web, or write a .png or .svg."
        )
    return page.read_text(encoding="utf-8")


def with_record(page: str, record: Record, *, frame: int = -1, theme: str = "light") -> str:
    """``page`` holding ``record``: manifest as JSON, binary files as base64, and what to show first.

    Raises:
        DataError: the terrain or a frame is missing or damaged.
        ValueError: the page has no slot for a record.
    """
    start = page.find(SLOT)
    if start < 0:
        raise ValueError(f"the viewer has no element {SLOT}")
    end = page.index("</script>", start)
    _ = record.terrain
    whole = [record.frame(index) for index in range(len(record.frames))]
    content = {
        "manifest": record.manifest.model_dump(mode="json"),
        "terrain": _base64(record.folder / "terrain.bin"),
        "frames": [_base64(record.folder / record.frames[each.index].file) for each in whole],
        "show": {"frame": frame % max(1, len(whole)), "theme": theme},
    }
    if record.manifest.axes.file and (record.folder / record.manifest.axes.file).is_file():
        content["axes"] = _base64(record.folder / record.manifest.axes.file)
    # "<" may not stand in a script element, where "</script>" would end it.
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return page[: start + len(SLOT)] + text + page[end:]


def save_page(record: Record, out: Path, *, frame: int = -1, theme: str = "light") -> None:
    """Write the interactive page."""
    text = with_record(viewer(), record, frame=frame, theme=theme)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, text.encode())


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
