"""Over-optimisation: the proxy goes on rising while gold has turned. Curves are `[steps, prompts]`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ridgeline.statistics.inputs import Floats, numbers
from ridgeline.statistics.intervals import Estimate, mean_interval


@dataclass(frozen=True, slots=True)
class Peak:
    """Where a curve is highest: position in the list, training step and value there."""

    index: int
    step: int
    value: float


def peak(steps: Sequence[int], gold: ArrayLike) -> Peak:
    """The highest point of the gold curve, the earliest one where several are equal.

    `gold` is one value per evaluated step, or `gold_SP` (steps, prompts), whose mean over prompts is taken.
    The value is the largest of noisy numbers and so flatters; `fall_after_peak` corrects for that.
    """
    array = numbers(gold, "gold", dimensions=(1, 2))
    _check_steps(steps, len(array))
    curve_S = array if array.ndim == 1 else array.mean(axis=1)
    index = int(np.argmax(curve_S))
    return Peak(index, int(steps[index]), float(curve_S[index]))


def rise(values_SP: ArrayLike) -> Floats:
    """Rise of each prompt since the first evaluation, in standard deviations over prompts at the start.

    (x_sp - x_0p) / std_p(x_0p): puts proxy and gold on one scale. Raises ValueError where all prompts start
    with the same value or there are fewer than two of them, because no scale exists then.
    """
    array = numbers(values_SP, "values_SP", dimensions=(2,))
    start_P = array[0]
    if array.shape[1] < 2 or np.all(start_P == start_P[0]):
        raise ValueError(
            f"the {array.shape[1]} prompts of the first evaluation have no spread to standardise by; "
            "evaluate on more, and more varied, prompts."
        )
    risen: Floats = (array - start_P) / start_P.std(ddof=1)
    return risen


def gold_gap(proxy_SP: ArrayLike, gold_SP: ArrayLike, *, level: float = 0.95) -> tuple[Estimate, ...]:
    """How far the proxy has outrun gold at each step, in starting standard deviations.

    rise(proxy) - rise(gold) per prompt, averaged with a t interval over prompts; exactly 0 at the first
    evaluation, growing while the policy exploits the proxy. The starting spread counts as known.
    """
    proxy = numbers(proxy_SP, "proxy_SP", dimensions=(2,))
    gold = numbers(gold_SP, "gold_SP", dimensions=(2,))
    if proxy.shape != gold.shape:
        raise ValueError(
            f"proxy_SP has shape {proxy.shape} and gold_SP {gold.shape}; both must hold the same evaluations."
        )
    return tuple(mean_interval(gap_P, level) for gap_P in rise(proxy) - rise(gold))


@dataclass(frozen=True, slots=True)
class Fall:
    """The gold peak, gold at the last evaluation, and the drop from one to the other (positive: it fell)."""

    peak_step: int
    last_step: int
    at_peak: Estimate
    at_last: Estimate
    fall: Estimate

    @property
    def over_optimised(self) -> bool:
        """Whether the whole interval of the fall lies above 0."""
        return self.fall.low > 0


def fall_after_peak(steps: Sequence[int], gold_SP: ArrayLike, *, level: float = 0.95) -> Fall:
    """How far gold fell after its peak, with an interval over prompts that is not fooled by the choice of it.

    `gold_SP` is gold per evaluated step and prompt (mean over the samples of the prompt). The highest of many
    noisy evaluations would seem to be followed by a fall even on a flat curve. So the peak is chosen on one
    half of the prompts (even, odd positions) and the drop to the last step measured on the other, both ways
    round; `fall` is the mean of those drops. `peak_step` and `at_peak` use all prompts, so `at_peak`
    flatters and `at_peak - at_last` tends to exceed `fall`. The halves lend each other their peak, so a 95 %
    interval covers about 93 % on a flat curve. Needs at least 4 prompts (ValueError).
    """
    gold = numbers(gold_SP, "gold_SP", dimensions=(2,))
    _check_steps(steps, len(gold))
    prompts = gold.shape[1]
    if prompts < 4:
        raise ValueError(f"gold_SP has {prompts} prompts; choosing and measuring the peak needs at least 4.")
    drops_P = np.empty(prompts)
    for half in (0, 1):
        chosen = int(np.argmax(gold[:, 1 - half :: 2].mean(axis=1)))
        drops_P[half::2] = gold[chosen, half::2] - gold[-1, half::2]
    top = peak(steps, gold)
    return Fall(
        peak_step=top.step,
        last_step=int(steps[-1]),
        at_peak=mean_interval(gold[top.index], level),
        at_last=mean_interval(gold[-1], level),
        fall=mean_interval(drops_P, level),
    )


def _check_steps(steps: Sequence[int], evaluations: int) -> None:
    if len(steps) != evaluations:
        raise ValueError(
            f"steps has {len(steps)} entries and gold has {evaluations} evaluations; one per step."
        )
    if any(later <= earlier for earlier, later in itertools.pairwise(steps)):
        raise ValueError(f"steps must increase from one evaluation to the next, not {list(steps)}.")
