"""Arrays on disk, addressed by what they depend on, shared by stages and runs.

An entry's name is a digest of everything that its numbers depend on, so an entry cannot be stale, whoever
wrote it; one that is damaged reads as missing. Files are written aside and renamed, so that concurrent
writers leave one whole entry. A cache that cannot be written (a full disk, no permission) costs time later,
never the run. ``RIDGELINE_CONTENT_CACHE=off`` in the environment neither reads nor writes any entry.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

Arrays = Mapping[str, npt.NDArray[Any]]
CHECKSUM = "checksum"
DAY = 24 * 3600.0


def key_of(parts: Iterable[object]) -> str:
    """32 hexadecimal digits that depend on every part (bytes, or its ``str``) and on their order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ContentCache:
    """A folder of entries.

    limit: bytes that it may hold; the entries that were used longest ago go first.
    """

    folder: Path
    limit: int

    def read(self, key: str) -> dict[str, npt.NDArray[Any]] | None:
        """The entry, or None when there is none or it is damaged."""
        path = self._path(key)
        if _is_off():
            return None
        try:
            with safe_open(path, "np") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                checksum = (file.metadata() or {}).get(CHECKSUM)
        except (OSError, SafetensorError):
            return None
        if checksum != _checksum(arrays):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return arrays

    def write(self, key: str, arrays: Arrays) -> None:
        """Keep ``arrays``, then let go of what exceeds the limit."""
        if _is_off():
            return
        path = self._path(key)
        with contextlib.suppress(OSError, SafetensorError):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, aside = tempfile.mkstemp(prefix=f".{key}-", dir=self.folder)
            os.close(handle)
            try:
                save_file(dict(arrays), aside, metadata={CHECKSUM: _checksum(arrays)})
                Path(aside).replace(path)
            finally:
                Path(aside).unlink(missing_ok=True)
        self._evict()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _evict(self) -> None:
        with contextlib.suppress(OSError):
            for path in self.folder.glob(".*-*"):  # of a writer that was killed
                if path.stat().st_mtime < time.time() - DAY:
                    path.unlink()
            entries = sorted(self.folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
            held = sum(path.stat().st_size for path in entries)
            while held > self.limit and entries:
                oldest = entries.pop(0)
                held -= oldest.stat().st_size
                oldest.unlink()


def _is_off() -> bool:
    return os.environ.get("RIDGELINE_CONTENT_CACHE") == "off"


def _checksum(arrays: Arrays) -> str:
    return key_of(
        part
        for name in sorted(arrays)
        for part in (name, arrays[name].dtype, arrays[name].shape, arrays[name].tobytes())
    )
