"""Record the lessons of the landscape: ``src/ridgeline/landscape/lessons/recorded/NN.bin``.

    .venv/bin/python docs/record_lessons.py              record all twelve, in some minutes
    .venv/bin/python docs/record_lessons.py 3 7          record those two
    .venv/bin/python docs/record_lessons.py --check      say which is out of date with its text, exit 1

A recording holds every step's scene for the first seed and, for each seed, the numbers that the lesson's
claim rests on. It is a function of the library: record anew when a text, the world or a formula changes.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from ridgeline.landscape.blocks import decode
from ridgeline.landscape.lessons.claims import holds
from ridgeline.landscape.lessons.lesson import COUNT
from ridgeline.landscape.lessons.recording import digest, record, recorded
from ridgeline.schema.errors import DataError

FOLDER = Path(__file__).parents[1] / "src/ridgeline/landscape/lessons/recorded"


def main() -> int:
    """Record, or check; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lessons", nargs="*", type=int, metavar="LESSON", help=f"1 to {COUNT}")
    parser.add_argument("--check", action="store_true", help="write nothing")
    chosen = parser.parse_args()
    numbers = chosen.lessons or list(range(1, COUNT + 1))
    if chosen.check:
        late = [number for number in numbers if not up_to_date(number)]
        for number in late:
            print(f"lesson {number}: the recording is missing or of another text; run docs/record_lessons.py")
        return 1 if late else 0
    torch.set_num_threads(1)  # sums in one order, whatever the machine
    FOLDER.mkdir(exist_ok=True)
    for number in numbers:
        write(number)
    return 0


def up_to_date(number: int) -> bool:
    """Whether the recording is of the text as it is."""
    try:
        meta, _ = decode(recorded(number))
    except DataError:
        return False
    return bool(meta["digest"] == digest(number))


def write(number: int) -> None:
    """Record one lesson and say what came out."""
    started = time.perf_counter()
    data = record(number)
    (FOLDER / f"{number:02d}.bin").write_bytes(data)
    meta, _ = decode(data)
    kept = [row["seed"] for row in meta["evidence"] if holds(number, row)]
    seconds = time.perf_counter() - started
    print(
        f"lesson {number:2}: {len(data) / 1000:4.0f} kB, {seconds:5.1f} s; claim holds for seeds {kept} of "
        f"{[row['seed'] for row in meta['evidence']]}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
