"""What deserves a look in the curves of a stage, each with its reason in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ridgeline.studio.figures import figure
from ridgeline.studio.lines import HIGH, LOW
from ridgeline.studio.tables import Table

Numbers = NDArray[np.float64]
Steps = NDArray[np.int64]
WINDOW = 5
"""Steps of the running means that rules compare, so that one noisy step raises no alarm."""
DEAD_SHARE = 0.6
LONGER = 1.8
EQUAL_REWARD = 0.1
"""Reward counts as equal while it moved by less than this share of its range so far (at least of 0.1)."""
ENTROPY_STEPS = 20
KL_FACTOR = 4.0
KL_LEAST = 0.5
"""Nats per completion below which no jump of the KL is told."""
CLIP_SHARE = 0.3
MOVED = 2.0
"""Standard errors by which gold and proxy must have moved, where intervals are known."""


@dataclass(frozen=True)
class Alert:
    """``step``: where it begins."""

    step: int
    kind: str
    severity: Literal["warning", "critical"]
    text: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Curves:
    """The tables of a stage, and which of its rewards are gold and proxy (None: not known)."""

    metrics: Table
    evaluations: Table
    gold: str | None = None
    proxy: str | None = None

    def metric(self, name: str) -> tuple[Steps, Numbers]:
        return self.metrics.known(name)


def alerts(curves: Curves) -> list[Alert]:
    """All alerts, critical ones first, then by step."""
    found = [alert for rule in RULES for alert in [rule(curves)] if alert is not None]
    return sorted(found, key=lambda alert: (alert.severity != "critical", alert.step))


def parting(curves: Curves) -> Alert | None:
    """Gold falls while the proxy rises: since its highest held-out evaluation, or its best running mean."""
    if curves.gold is None or curves.proxy is None or curves.gold == curves.proxy:
        return None
    names = [f"evaluation/reward/{name}" for name in (curves.gold, curves.proxy)]
    table, width = curves.evaluations, 1
    if len(table.known(names[0])[0]) < 3:
        names, table, width = [name.removeprefix("evaluation/") for name in names], curves.metrics, WINDOW
    steps, gold, proxy = _together(table, *names)
    if len(steps) < 3 * width:
        return None
    gold, proxy = _smooth(gold, width), _smooth(proxy, width)
    top = int(np.argmax(gold))
    if top == len(gold) - 1:
        return None
    fell, rose = gold[top] - gold[-1], proxy[-1] - proxy[top]
    least = [_noise(table, name, width) for name in names]
    if fell <= least[0] or rose <= least[1]:
        return None
    text = (
        f"Gold falls (by {figure(fell)}) while the proxy rises (by {figure(rose)}) since step {steps[top]}."
    )
    return Alert(int(steps[top]), "over_optimisation", "critical", text)


def dead(curves: Curves) -> Alert | None:
    """All rewards of a group are equal in most groups: no signal."""
    steps, share = curves.metric("dead_groups")
    if len(steps) < WINDOW:
        return None
    start = _begin(_smooth(share, WINDOW) >= DEAD_SHARE)
    if start is None:
        return None
    now = float(share[-WINDOW:].mean())
    text = f"The reward has no spread in {100 * now:.0f} % of groups: they teach nothing."
    return Alert(int(steps[start]), "dead_groups", "critical" if now > 0.9 else "warning", text)


def longer(curves: Curves) -> Alert | None:
    """Completions grow while the reward does not."""
    steps, length, reward = _together(curves.metrics, "length", "reward")
    if len(steps) < 2 * WINDOW:
        return None
    length, reward = _smooth(length, WINDOW), _smooth(reward, WINDOW)
    first, last = float(length[WINDOW - 1]), float(length[-1])
    moved = abs(float(reward[-1] - reward[WINDOW - 1]))
    if first <= 0 or last < LONGER * first or moved > EQUAL_REWARD * max(0.1, float(np.ptp(reward))):
        return None
    start = int(np.argmax(length >= LONGER * first))
    text = f"Length +{100 * (last / first - 1):.0f} % at equal reward."
    return Alert(int(steps[start]), "length", "warning", text)


def collapse(curves: Curves) -> Alert | None:
    """Entropy halves within a few steps."""
    steps, entropy = curves.metric("entropy")
    if len(steps) < 4:
        return None
    # Only where half of the highest value so far is reached can half of a nearby one be.
    (low,) = np.nonzero(entropy <= np.maximum.accumulate(entropy) / 2)
    for end in low.tolist():
        # The values of a stage are one a step, but a resumed run may leave gaps.
        start = int(np.searchsorted(steps, steps[end] - ENTROPY_STEPS))
        if start == end:
            continue
        highest = start + int(np.argmax(entropy[start:end]))
        top = float(entropy[highest])
        # Half at this step, and not at this step alone.
        if top > 0 and max(entropy[end], entropy[end : end + 3].mean()) <= top / 2:
            span = int(steps[end] - steps[highest])
            took = f"{span} step{'s' if span > 1 else ''}"
            moved = f"from {figure(top)} to {figure(float(entropy[end]))} nats per token"
            text = f"Entropy halved in {took}: {moved}."
            return Alert(int(steps[end]), "entropy", "warning", text)
    return None


def leap(curves: Curves) -> Alert | None:
    """The KL of one step is several times that of the steps before it."""
    steps, kl = curves.metric("kl_k1")
    if len(steps) <= WINDOW:
        return None
    before_all = np.median(sliding_window_view(np.abs(kl[:-1]), WINDOW), axis=1)
    far = np.maximum(KL_LEAST, KL_FACTOR * np.maximum(before_all, KL_LEAST / KL_FACTOR))
    (leaps,) = np.nonzero(kl[WINDOW:] > far)
    if not len(leaps):
        return None
    before, end = float(before_all[leaps[0]]), int(leaps[0]) + WINDOW
    text = f"KL jumped from {figure(before)} to {figure(float(kl[end]))} nats per completion in one step."
    return Alert(int(steps[end]), "kl_jump", "warning", text)


def clipped(curves: Curves) -> Alert | None:
    """The objective clips a large share of the tokens."""
    steps, share = curves.metric("clip_fraction")
    if len(steps) < WINDOW:
        return None
    start = _begin(_smooth(share, WINDOW) >= CLIP_SHARE)
    if start is None:
        return None
    now = float(share[-WINDOW:].mean())
    text = f"{100 * now:.0f} % of the tokens are clipped: the updates are too large for the trust region."
    return Alert(int(steps[start]), "clip", "warning", text)


RULES: tuple[Callable[[Curves], Alert | None], ...] = (parting, dead, longer, collapse, leap, clipped)


def _together(table: Table, first: str, second: str) -> tuple[Steps, Numbers, Numbers]:
    """The rows that have both."""
    a, b = table.column(first), table.column(second)
    if a is None or b is None:
        return np.empty(0, dtype=np.int64), np.empty(0), np.empty(0)
    here = ~(np.isnan(a) | np.isnan(b))
    return table.steps()[here], a[here], b[here]


def _smooth(values: Numbers, width: int) -> Numbers:
    """The mean of the last ``width`` values; at the beginning of those that there are."""
    total = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    means: Numbers = (total[ends] - total[starts]) / (ends - starts)
    return means


def _begin(holds: NDArray[np.bool_]) -> int | None:
    """Since when a condition has held without a break up to now; None where it does not hold now."""
    if not len(holds) or not holds[-1]:
        return None
    broken = np.nonzero(~holds)[0]
    return int(broken[-1]) + 1 if len(broken) else 0


def _noise(table: Table, name: str, width: int) -> float:
    """What a curve moves by for no reason: two standard errors of a difference of two of its points."""
    _, values = table.known(name)
    low, high = table.known(name + LOW)[1], table.known(name + HIGH)[1]
    if len(low) and len(low) == len(high):
        return MOVED * float(np.median(high - low)) / 3.92 * float(np.sqrt(2))
    steps = np.diff(values)
    sd = float(np.std(steps)) / np.sqrt(2) if len(steps) else 0.0
    return float(MOVED * sd * np.sqrt(2 / width))
