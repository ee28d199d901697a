"""What a side measured, written as JSON. Standard library only: it runs in every peer's environment."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any


class Record:
    """The ends of steps, and what the other sides' work has to equal.

    The first step lasts from `begin` to its end, every other one from end to end.
    """

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.tokens: list[int] = []
        self.first_end = 0.0
        self.checks: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}
        self.versions: dict[str, str] = {}
        self.parts: dict[str, list[float]] = {}
        self.peak = 0
        self.more: dict[str, Any] = {}

    def begin(self) -> None:
        """Everything is loaded; steps follow."""
        self.ends.append(time.perf_counter())

    def end(self, tokens: int = 0) -> None:
        """A step has ended that worked on so many ``tokens``."""
        self.ends.append(time.perf_counter())
        self.tokens.append(tokens)
        if len(self.ends) == 2:
            self.first_end = time.time()

    def part(self, name: str, seconds: float) -> None:
        """Seconds of a part of the step that is under way."""
        self.parts.setdefault(name, []).append(seconds)

    def note_peak(self) -> None:
        """The work is done; what the process holds from here on is not part of it. Bytes."""
        used = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        self.peak = max(used) * (1 if sys.platform == "darwin" else 1024)

    def write(self, path: str) -> None:
        """Seconds of every step, the first included, and the rest as it is."""
        if not self.peak:
            self.note_peak()
        seconds = [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)]
        record = {
            "seconds": seconds,
            "tokens": self.tokens,
            "first_end": self.first_end,
            "checks": self.checks,
            "settings": self.settings,
            "versions": {"python": sys.version.split()[0], **self.versions},
            "parts": self.parts,
            "peak": self.peak,
            **self.more,
        }
        Path(path).write_text(json.dumps(record))
