"""Recorded lessons: every step's scene and every number, in the package, so that reading needs no server.

recorded/NN.bin is one container of blocks. meta: number, digest of the text, steps (meta of each
scene), numbers {seed: {...}}, evidence [{seed, ...}].
Blocks: "STEP/NAME" in float16, as the scene names them; blocks
that a step shares with the one before are written once and listed in its `same`.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from ridgeline.landscape import blocks as container
from ridgeline.landscape.lessons.lesson import COUNT, load, text_of
from ridgeline.schema.errors import DataError, UsageError

SEEDS = (0, 1, 2)
"""Of the evidence; the scenes are those of the first."""
_FOLDER = resources.files("ridgeline.landscape.lessons") / "recorded"


def recorded(number: int) -> bytes:
    """The recording of a lesson. Raises UsageError for another number, DataError where it is missing."""
    if number not in range(1, COUNT + 1):
        raise UsageError(f"there is no lesson {number}; they are numbered 1 to {COUNT}.")
    file = _FOLDER / f"{number:02d}.bin"
    if not file.is_file():
        raise DataError(f"lesson {number} has not been recorded; run docs/record_lessons.py.")
    return file.read_bytes()


def evidence(number: int) -> list[dict[str, Any]]:
    """What was measured for the lesson's claim, a row for each seed; empty without a recording."""
    try:
        return [dict(row) for row in _evidence(number)]
    except DataError:
        return []


def digest(number: int) -> str:
    """Of the lesson's text: a recording of another text is out of date."""
    return hashlib.sha256(text_of(number).encode("utf-8")).hexdigest()[:16]


def record(number: int) -> bytes:
    """The recording, made anew: some seconds of computing. The same library gives the same bytes."""
    from ridgeline.landscape.lessons.live import run  # sessions are imported for recording only
    from ridgeline.landscape.lessons.numbers import compute

    rows = [{"seed": seed, **_rounded(compute(number, seed))} for seed in SEEDS]
    steps: list[dict[str, Any]] = []
    stored: dict[str, np.ndarray] = {}
    before: dict[str, tuple[str, np.ndarray]] = {}
    for step in range(len(load(number).steps)):
        result = run(number, step, SEEDS[0])
        same, now = {}, {}
        for name, block in result.blocks.items():
            small = block.astype(np.float16) if block.dtype == np.float32 else block
            if name in before and np.array_equal(before[name][1], small, equal_nan=small.dtype == np.float16):
                same[name] = before[name][0]
            else:
                stored[f"{step}/{name}"] = small
            now[name] = (same.get(name, f"{step}/{name}"), small)
        before = now
        steps.append({**_rounded(result.meta), "same": same})
    meta = {
        "number": number,
        "digest": digest(number),
        "steps": steps,
        "numbers": {str(row["seed"]): {k: v for k, v in row.items() if k != "seed"} for row in rows},
        "evidence": rows,
    }
    return container.encode(meta, stored)


def scene(data: bytes, step: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Meta and blocks of a step of a recording, as `run` gave them but for the rounding."""
    meta, stored = container.decode(data)
    about = meta["steps"][step]
    own = f"{step}/"
    found = {name.removeprefix(own): block for name, block in stored.items() if name.startswith(own)}
    found |= {name: stored[source] for name, source in about["same"].items()}
    return {name: value for name, value in about.items() if name != "same"}, found


@lru_cache(maxsize=COUNT)
def _evidence(number: int) -> tuple[dict[str, Any], ...]:
    meta, _ = container.decode(recorded(number))
    return tuple(meta["evidence"])


def _rounded(value: Any) -> Any:
    """Numbers to six digits: enough to read, few enough to be the same on another machine."""
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value
