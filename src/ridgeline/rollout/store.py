"""Samples on disk: one Parquet file per step, written aside and renamed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ridgeline.schema.errors import RunError
from ridgeline.schema.records import Sample

_JSON_COLUMNS = ("row", "rewards", "step_rewards", "logit_bias")
"""Their shapes differ from sample to sample, so they are stored as JSON text."""


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Replace ``path`` by ``samples``.

    Raises:
        RunError: the file cannot be written; what was there before is intact.
    """
    rows = []
    for sample in samples:
        row = sample.as_dict()
        for name in _JSON_COLUMNS:
            # In the order given: metrics of a resumed run then list their rewards as they did before.
            row[name] = json.dumps(row[name])
        rows.append(row)
    table = pa.Table.from_pylist(rows)
    write_aside(path, lambda aside: pq.write_table(table, aside, compression="zstd"))


def write_aside(path: Path, write: Callable[[Path], None]) -> None:
    """Replace ``path`` by what ``write`` writes: readers see the old file or the new one.

    Raises:
        RunError: the file cannot be written; what was there before is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.writing")
    try:
        write(aside)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise RunError(f"cannot write {path}: {reason}; free some space, then: ridgeline resume.") from None


def recorded_samples(path: Path, version: int, count: int | None = None) -> list[Sample] | None:
    """What an interrupted run left at ``path``, rewards included; None where weights of another ``version``
    wrote the first ``count`` samples of each prompt (None: all of them).

    Tokens would come out the same again, but a reward that timed out then might not time out now.
    """
    if not path.is_file():
        return None
    samples = read_samples(path)
    own = [sample for sample in samples if count is None or sample.index < count]
    return samples if all(sample.weight_version == version for sample in own) else None


def read_samples(path: Path) -> list[Sample]:
    """What ``write_samples`` wrote, in its order."""
    samples = []
    for row in pq.read_table(path).to_pylist():
        for name in _JSON_COLUMNS:
            if name in row:  # a file of an earlier version may lack one
                row[name] = json.loads(row[name])
        row["step_rewards"] = [(end, reward) for end, reward in row["step_rewards"]]
        samples.append(Sample(**row))
    return samples
