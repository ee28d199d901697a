"""A JSONL file that somebody else appends to: each byte is read once, and only whole lines are taken."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ridgeline.studio.safe import MEGABYTE, inside

CHUNK = 16 * MEGABYTE
"""Bytes read at a time; a line that is longer is skipped as damaged."""
LAST = 256 * 1024
"""Bytes searched for the last whole line."""


class Tail:
    """A cursor into one file. A file that was replaced or cut (as a resumed run does) is read anew."""

    def __init__(self, root: Path, path: Path) -> None:
        self.root = root
        self.path = path
        self.offset = 0
        self.damaged = 0
        """Lines left out so far."""
        self.bytes_read = 0
        self._identity: tuple[int, int] | None = None

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """The objects on whole lines since the last call, and whether the file was begun anew."""
        restarted, size = self._look()
        return [row for chunk in self._chunks(size) for row in self.objects(chunk)], restarted

    def history(self, until: int) -> Iterator[bytes]:
        """Whole lines that end before byte ``until``, many at once."""
        _, size = self._look()
        yield from self._chunks(min(size, until))

    def objects(self, content: bytes) -> list[dict[str, Any]]:
        """The objects on the lines of ``content``; lines that hold none are counted as damaged."""
        rows = []
        for line in content.split(b"\n"):
            if not line.strip():
                continue
            found = _object(line)
            if found is None:
                self.damaged += 1
            else:
                rows.append(found)
        return rows

    def _chunks(self, size: int) -> Iterator[bytes]:
        if size <= self.offset:
            return
        try:
            with open(self.path, "rb") as file:
                while self.offset < size:
                    file.seek(self.offset)
                    chunk = file.read(min(CHUNK, size - self.offset))
                    self.bytes_read += len(chunk)
                    end = chunk.rfind(b"\n") + 1
                    if not end:
                        if len(chunk) < CHUNK:
                            return  # the writer is in the middle of a line
                        self.damaged += 1
                        end = len(chunk)
                    reached = self.offset + len(chunk)
                    self.offset += end
                    yield chunk[:end]
                    if reached >= size:
                        return  # what is left is half a line
        except OSError:
            return  # it vanished in between: the next call sees that

    def skip_to_end(self) -> dict[str, Any] | None:
        """Put the cursor behind the last whole line, which is returned (None: there is none)."""
        _, size = self._look()
        start = max(0, size - LAST)
        if size == 0:
            return None
        try:
            with open(self.path, "rb") as file:
                file.seek(start)
                chunk = file.read(size - start)
        except OSError:
            return None
        self.bytes_read += len(chunk)
        end = chunk.rfind(b"\n") + 1
        self.offset = start + end
        for line in reversed(chunk[:end].splitlines()):
            if found := _object(line):
                return found
        return None

    def _look(self) -> tuple[bool, int]:
        """Whether the file is another one than before, and its size (0 where it must not be read)."""
        try:
            found = self.path.stat()
        except (OSError, ValueError):
            gone, self._identity, self.offset = self._identity is not None, None, 0
            return gone, 0
        identity = (found.st_dev, found.st_ino)
        restarted = self._identity not in (None, identity) or found.st_size < self.offset
        if restarted:
            self.offset = self.damaged = 0
        self._identity = identity
        if found.st_size == self.offset:
            return restarted, found.st_size
        readable = stat.S_ISREG(found.st_mode) and inside(self.root, self.path)
        return restarted, found.st_size if readable else 0


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
