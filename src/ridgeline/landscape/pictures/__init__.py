"""Still pictures of a recorded landscape, and the page that shows it interactively."""

from __future__ import annotations

from ridgeline.landscape.pictures.draw import FORMATS, VIEWS, picture

__all__ = ["picture", "FORMATS", "VIEWS"]
