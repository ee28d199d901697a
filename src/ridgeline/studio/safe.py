"""What the studio reads may be damaged or hostile: bounded reads, JSON that can be sent on, no way out."""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path
from typing import Any

MEGABYTE = 1 << 20
DOCUMENT_LIMIT = 16 * MEGABYTE
EXACT_INTEGER = 1 << 53
"""Larger integers lose digits in a browser, and fit no numpy column."""


class Problem(Exception):
    """An answer of 4xx: one sentence, and where there is one the command that mends it."""

    def __init__(self, status: int, sentence: str, mend: str | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.mend = mend


class Damaged(ValueError):
    """A file that is there and cannot be read; the message says which."""


def inside(root: Path, path: Path) -> bool:
    """Whether ``path``, with all links followed, lies in ``root`` (which is resolved already)."""
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError):
        return False


def read_bytes(root: Path, path: Path, limit: int = DOCUMENT_LIMIT) -> bytes | None:
    """The content of a regular file in ``root``; None where there is none.

    Raises:
        Damaged: it is too large, cannot be read, or leads out of ``root``.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode) or not inside(root, path):
        raise Damaged(f"{path.name} is no file of this folder.")
    if found.st_size > limit:
        raise Damaged(f"{path.name} is larger than {limit // MEGABYTE} MB.")
    try:
        with open(path, "rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise Damaged(f"{path.name} could not be read ({error.strerror}).") from None


def read_text(root: Path, path: Path, limit: int = DOCUMENT_LIMIT) -> str | None:
    """As ``read_bytes``; bytes that are no UTF-8 are replaced."""
    content = read_bytes(root, path, limit)
    return None if content is None else content.decode("utf-8", errors="replace")


def read_object(root: Path, path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is no file.

    Raises:
        Damaged: the file holds anything else.
    """
    text = read_text(root, path)
    if text is None:
        return None
    try:
        value = parse(text)
    except ValueError:
        raise Damaged(f"{path.name} holds no valid JSON.") from None
    if not isinstance(value, dict):
        raise Damaged(f"{path.name} holds no JSON object.")
    return value


def parse(text: str | bytes) -> Any:
    """JSON whose values can be sent on as JSON: see ``sendable``.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return sendable(json.loads(text))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def sendable(value: Any) -> Any:
    """nan, inf and integers that no browser holds become null, halves of a surrogate pair a question mark."""
    if isinstance(value, str):
        return value.encode("utf-8", errors="replace").decode("utf-8")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if abs(value) <= EXACT_INTEGER else None
    if isinstance(value, dict):
        return {str(sendable(str(key))): sendable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [sendable(item) for item in value]
    return value if value is None else str(value)


def finite(value: Any) -> float | None:
    """A finite number as a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def whole(value: Any) -> int | None:
    """An integer that fits everywhere; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > EXACT_INTEGER:
        return None
    return value
