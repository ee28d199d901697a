"""The samples of a stage as one table: which frame, prompt and policy each is of, and its rewards.

A frame is one version of the policy: what it wrote for training and what it wrote for the held-out prompts.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ridgeline.landscape.maps.source import MapSource
from ridgeline.rollout.store import read_samples
from ridgeline.schema.errors import DataError, UsageError
from ridgeline.schema.records import Sample
from ridgeline.statistics.inputs import Floats, Integers

MOST_FRAMES = 60
REFERENCE_TIMES = 4
"""The frame of the reference may hold this many times the samples of any other: everything rests on it."""
_STEP = re.compile(r"(step|evaluation)-(\d+)")
_POOL = re.compile(r"policy-\d+")


@dataclass(frozen=True)
class FrameFiles:
    """One version of the policy: the number of its step, and the files of samples it wrote."""

    step: int
    evaluations: tuple[Path, ...]
    training: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.evaluations, *self.training)


@dataclass(frozen=True)
class Table:
    """N samples: their frame, the number of their prompt, the file and whether it was a held-out evaluation.

    ``reference_N``: written by the weights that the stage started from.
    """

    steps: tuple[int, ...]
    prompts: tuple[str, ...]
    samples: Sequence[Sample]
    files: Sequence[Path]
    frame_N: Integers
    prompt_N: Integers
    evaluated_N: np.ndarray
    reference_N: np.ndarray

    def __len__(self) -> int:
        return len(self.samples)

    def reward(self, name: str) -> Floats:
        """One recorded reward, ``[N]``; nan where it was not applicable or failed."""
        values = [sample.rewards.get(name) for sample in self.samples]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    @property
    def length_N(self) -> Integers:
        return np.array([len(sample.completion_ids) for sample in self.samples], dtype=np.int64)


def frame_files(source: MapSource) -> list[FrameFiles]:
    """Every version of the policy that left samples, in order."""
    folder = source.folder.samples
    found: dict[int, tuple[list[Path], list[Path]]] = {}
    for path in sorted(folder.glob("*.parquet")):
        if match := _STEP.fullmatch(path.stem):
            kinds = found.setdefault(int(match[2]), ([], []))
            kinds[0 if match[1] == "evaluation" else 1].append(path)
    for pool in sorted(folder.glob("policy-*")):
        for path in sorted(pool.glob("*.parquet")) if _POOL.fullmatch(pool.name) else ():
            found.setdefault(_version(path), ([], []))[1].append(path)
    return [FrameFiles(step, tuple(a), tuple(b)) for step, (a, b) in sorted(found.items())]


def thinned(frames: Sequence[FrameFiles], most: int = MOST_FRAMES) -> list[FrameFiles]:
    """At most ``most`` frames (more only if evaluations are): first, last, evaluations, others evenly."""
    keep = {0, len(frames) - 1} | {place for place, frame in enumerate(frames) if frame.evaluations}
    others: list[int] = [place for place in range(len(frames)) if place not in keep]
    room = max(most - len(keep), 0)
    if len(others) > room:
        chosen = np.linspace(0, len(others) - 1, room).round().astype(int).tolist()
        others = [others[place] for place in chosen]
    return [frames[place] for place in sorted(keep | set(others)) if frames]


def collect(source: MapSource, *, per_frame: int, seed: int, most_frames: int = MOST_FRAMES) -> Table:
    """Read the samples of a stage, at most ``per_frame`` of each frame (4 times as many of the reference).

    Held-out evaluations come first, then whole prompts in an order that is the same in every frame, so that
    clouds stay comparable over time.

    Raises:
        UsageError: there are no samples yet.
        DataError: a file of samples is damaged.
    """
    frames = thinned(frame_files(source), most_frames)
    if not frames:
        raise UsageError(f"{source.folder.path} has no samples yet; wait for the stage's first step.")
    rows: list[tuple[int, Path, Sample, bool]] = []
    for number, frame in enumerate(frames):
        own = [
            (number, path, sample, path in frame.evaluations)
            for path in frame.files
            for sample in _read(path)
            if sample.completion_ids and (sample.index == 0 or not source.only_first_is_own)
        ]
        is_reference = any(sample.weight_version == 0 for _, _, sample, _ in own)
        rows += _chosen(own, per_frame * (REFERENCE_TIMES if is_reference else 1), seed)
    if not rows:
        raise UsageError(f"every completion of {source.folder.path} is empty; there is nothing to map.")
    return _table(frames, rows)


def _chosen(
    rows: list[tuple[int, Path, Sample, bool]], most: int, seed: int
) -> list[tuple[int, Path, Sample, bool]]:
    """Whole prompts while there is room, evaluations first."""

    def order(row: tuple[int, Path, Sample, bool]) -> tuple[bool, bytes]:
        text = f"{seed}/{row[2].prompt_id}"
        return not row[3], hashlib.blake2b(text.encode(), digest_size=8).digest()

    kept: list[tuple[int, Path, Sample, bool]] = []
    for _, group in itertools.groupby(sorted(rows, key=order), key=order):
        kept += list(group)[: most - len(kept)]
        if len(kept) >= most:
            break
    return kept


def _table(frames: Sequence[FrameFiles], rows: Sequence[tuple[int, Path, Sample, bool]]) -> Table:
    prompts = {
        prompt: number for number, prompt in enumerate(dict.fromkeys(row[2].prompt_id for row in rows))
    }
    return Table(
        steps=tuple(frame.step for frame in frames),
        prompts=tuple(prompts),
        samples=[row[2] for row in rows],
        files=[row[1] for row in rows],
        frame_N=np.array([row[0] for row in rows], dtype=np.int64),
        prompt_N=np.array([prompts[row[2].prompt_id] for row in rows], dtype=np.int64),
        evaluated_N=np.array([row[3] for row in rows], dtype=bool),
        reference_N=np.array([row[2].weight_version == 0 for row in rows], dtype=bool),
    )


def _read(path: Path) -> list[Sample]:
    try:
        return read_samples(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); remove it to map the other steps.") from None


def _version(path: Path) -> int:
    try:
        return int(pq.read_table(path, columns=["weight_version"]).column(0)[0].as_py())
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{path} is damaged ({error}); remove it to map the other steps.") from None
