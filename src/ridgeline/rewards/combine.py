"""The reward of a run: a weighted sum of named components, each of them recorded."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from ridgeline.rewards.call import RewardFunction, Values
from ridgeline.rewards.function_reward import FunctionReward
from ridgeline.rewards.in_process import InProcessReward
from ridgeline.rewards.isolation import IsolatedReward
from ridgeline.rewards.resolve import reference_of, resolve
from ridgeline.schema.errors import RunError, UsageError
from ridgeline.schema.records import Sample

TOTAL = "total"


class Component(Protocol):
    """One reward: a list of samples in, one float or None ("not applicable") per sample out."""

    name: str
    counts: dict[str, int]
    """Completions that failed, by kind of failure."""

    def __call__(self, samples: list[Sample]) -> Values: ...

    def close(self) -> None: ...


def function_reward(
    function: str | RewardFunction,
    *,
    timeout: float = 30.0,
    name: str | None = None,
    folder: Path | None = None,
) -> FunctionReward:
    """The component for a function: built-ins and closures run here, what can be imported in a worker.

    ``folder`` anchors a relative ``file.py:function``; ``timeout`` is in seconds per call and means nothing
    for a function that runs in this process, which cannot be killed.

    Raises:
        UsageError: the function cannot be found or imported.
    """
    if isinstance(function, str):
        resolved = resolve(function, folder=folder)
        if resolved.builtin:
            return InProcessReward(resolved.function, name=name or resolved.name)
        return IsolatedReward(resolved, timeout=timeout, name=name)
    reference = reference_of(function)
    plain = reference.rpartition(":")[2] if reference else type(function).__name__
    if reference is None:
        return InProcessReward(function, name=name or plain)
    return IsolatedReward(reference, timeout=timeout, name=name or plain)


class RewardSet:
    """Scores samples: each component under its name, and under ``total`` the weighted sum.

    ``total = sum_c weight_c * value_c`` over the weighted components that apply to the sample: a None that
    means "not applicable" is left out. Where a weighted component failed, the total is None: a sum with a
    part missing would compare unfairly with the other completions of the prompt. ``monitors``, and
    components of weight 0, are recorded and never enter.

    Raises:
        UsageError: two components of one name, a component named ``total``, a weight that is not finite.
    """

    def __init__(
        self, components: Iterable[tuple[Component, float]], monitors: Iterable[Component] = ()
    ) -> None:
        self._weighted = [*components, *((monitor, 0.0) for monitor in monitors)]
        names = [component.name for component, _ in self._weighted]
        for component, weight in self._weighted:
            if names.count(component.name) > 1:
                raise UsageError(
                    f"two rewards are named '{component.name}'; give each reward once, "
                    "under reward or under monitor."
                )
            if component.name == TOTAL:
                raise UsageError(f"a reward cannot be named '{TOTAL}', which is the weighted sum; rename it.")
            if not math.isfinite(weight):
                raise UsageError(f"reward '{component.name}': weight = {weight} must be a finite number.")

    @property
    def names(self) -> list[str]:
        """Names of the components in order, without ``total``."""
        return [component.name for component, _ in self._weighted]

    @property
    def trained(self) -> list[tuple[Component, float]]:
        """The components that ``total`` is made of, and their weights in it."""
        return [(component, weight) for component, weight in self._weighted if weight != 0]

    def score(self, samples: list[Sample]) -> None:
        """Write every component and ``total`` to ``sample.rewards``.

        Raises:
            RunError: failures left no sample of the batch with a total, or a function returned a list of the
                wrong length. Nothing is written then.
        """
        columns = {component.name: component(samples) for component, _ in self._weighted}
        failed: dict[int, str] = {}
        for component, weight in self._weighted:
            if weight != 0 and isinstance(component, FunctionReward):
                failed = {**component.failed, **failed}
        totals = [None if i in failed else self._total(columns, i) for i in range(len(samples))]
        if failed and all(total is None for total in totals):
            raise RunError(
                f"none of the {len(samples)} completions of this batch got a reward, so there is nothing to "
                f"learn from: {failed[min(failed)]}"
            )
        for i, sample in enumerate(samples):
            for name, values in columns.items():
                sample.rewards[name] = values[i]
            sample.rewards[TOTAL] = totals[i]

    def counts(self) -> dict[str, int]:
        """Completions left without a value since the start of this process, as ``name (kind)``."""
        return {f"{c.name} ({kind})": count for c, _ in self._weighted for kind, count in c.counts.items()}

    def failures(self) -> dict[str, str]:
        """The first failure of each component that had one, a sentence each."""
        functions = [c for c, _ in self._weighted if isinstance(c, FunctionReward)]
        return {c.name: c.first_failure for c in functions if c.first_failure is not None}

    def close(self) -> None:
        """Close every component."""
        for component, _ in self._weighted:
            component.close()

    def _total(self, columns: dict[str, Values], position: int) -> float | None:
        parts = [
            weight * value
            for component, weight in self._weighted
            if weight != 0 and (value := columns[component.name][position]) is not None
        ]
        return sum(parts) if parts else None
