"""Numbers and headlines as they are read on a page."""

from __future__ import annotations

import re

NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[-+]?\d+)?")
FROM_FILE = re.compile(r"[^\s,]*/([^\s/,]+\.py:\w+)")
"""A reward that was given as a file: only its last part is read."""
WORDS = {"reward/": "", "total": "reward", "heldout": "held-out", "nll": "NLL", "_": " "}


def figure(value: float) -> str:
    """Three significant digits, with a minus sign that is as wide as a plus: ``−0.0312``."""
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def polished(headline: str) -> str:
    """A line of the terminal in words: ``reward/total -0.012 -> 2.583`` as ``reward −0.012 → 2.58``."""
    text = FROM_FILE.sub(r"\1", headline)
    for name, word in WORDS.items():
        text = text.replace(name, word)
    text = NUMBER.sub(lambda found: figure(float(found[0])), text)
    return re.sub(r" {2,}", ", ", text.replace("->", "\N{RIGHTWARDS ARROW}")).strip()
