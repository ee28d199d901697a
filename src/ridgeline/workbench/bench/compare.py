"""From runs to figures: medians with their spread, ratios of pairs, and whether the work was equal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ridgeline.workbench.bench.process import Run
from ridgeline.workbench.bench.works import Work

TOLERANCES = {"loss": 0.02, "gradient norm": 0.05}
"""Relative differences of a first step that bfloat16 explains; everything else has to be equal."""


@dataclass(frozen=True)
class Spread:
    """Median of several runs, and the lowest and highest."""

    median: float
    lowest: float
    highest: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        return Spread(statistics.median(values), min(values), max(values))

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Check:
    """One thing that has to be the same on both sides for the figures to be compared."""

    what: str
    ours: Any
    theirs: Any
    tolerance: float
    holds: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def figure(work: Work, run: Run) -> float:
    """What ``run`` is judged by: tokens a second, seconds of a step, or seconds to the end of the first.

    The median over its timed steps.
    """
    if work.measure == "start":
        return run.start
    timed = list(zip(run.seconds, run.tokens, strict=True))[work.warm :]
    if work.unit == "s":
        return statistics.median(seconds for seconds, _ in timed)
    return statistics.median(tokens / seconds for seconds, tokens in timed)


def faster(work: Work, ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """How many times faster we are: ratio of the medians, and the extremes over neighbouring runs."""
    pairs = [_ratio(work, a, b) for a, b in zip(ours, theirs, strict=True)]
    whole = _ratio(work, statistics.median(ours), statistics.median(theirs))
    return Spread(whole, min(pairs), max(pairs))


def _ratio(work: Work, ours: float, theirs: float) -> float:
    return ours / theirs if work.unit == "tokens/s" else theirs / ours


def equal_work(ours: Run, theirs: Run) -> list[Check]:
    """Everything that both sides noted, compared; nothing in common is a failed check."""
    names = [name for name in ours.checks if name in theirs.checks]
    checks = [_check(name, ours.checks[name], theirs.checks[name]) for name in names]
    checks.append(_check("tokens", sum(ours.tokens), sum(theirs.tokens)))
    return checks


def _check(name: str, ours: Any, theirs: Any) -> Check:
    tolerance = TOLERANCES.get(name, 0.0)
    holds = ours == theirs or (
        tolerance > 0 and abs(ours - theirs) <= tolerance * max(abs(ours), abs(theirs))
    )
    if isinstance(ours, list):
        # Lengths of every row: too long to show.
        ours, theirs = (f"{len(values)} rows, {sum(values)} tokens" for values in (ours, theirs))
    return Check(name, ours, theirs, tolerance, holds)
