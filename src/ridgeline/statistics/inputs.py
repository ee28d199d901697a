"""Turning what callers pass into checked float64 arrays, with one clear sentence where that fails."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Labels = Sequence[Hashable] | NDArray[Any]


def numbers(values: ArrayLike, name: str, *, dimensions: tuple[int, ...] = (1,)) -> Floats:
    """`values` as a non-empty float64 array of finite numbers with one of the allowed numbers of axes.

    Raises ValueError for an empty or ragged input, a wrong shape, or an entry that is NaN, infinite or None.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must hold plain numbers in rows of equal length ({error}); "
            "pass uneven groups as one flat list together with a prompt label per entry."
        ) from error
    if array.ndim not in dimensions:
        wanted = " or ".join(str(axes) for axes in dimensions)
        raise ValueError(f"{name} must have {wanted} axes, but its shape is {array.shape}.")
    if array.size == 0:
        raise ValueError(f"{name} is empty (shape {array.shape}); at least one entry is needed.")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place = ", ".join(str(int(index)) for index in bad[0])
        raise ValueError(
            f"{name}[{place}] is not a finite number ({len(bad)} such entries); "
            "leave out entries without a score before computing statistics."
        )
    return array


def pair(first: ArrayLike, second: ArrayLike, names: tuple[str, str]) -> tuple[Floats, Floats]:
    """Two flat arrays of the same length; ValueError where the lengths differ."""
    left, right = numbers(first, names[0]), numbers(second, names[1])
    if len(left) != len(right):
        raise ValueError(
            f"{names[0]} has {len(left)} entries and {names[1]} has {len(right)}; they must match."
        )
    return left, right


def check_level(level: float) -> None:
    """ValueError unless the confidence level lies strictly between 0 and 1."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1 (for example 0.95), not {level}.")


@dataclass(frozen=True, slots=True)
class Grouped:
    """Flat values of N samples and, for each, the number of its prompt; `labels` in order of appearance."""

    values_N: Floats
    prompt_N: Integers
    labels: tuple[Hashable, ...]

    @property
    def means_P(self) -> Floats:
        """Mean of each prompt's samples."""
        sums_P = np.bincount(self.prompt_N, weights=self.values_N, minlength=len(self.labels))
        means: Floats = sums_P / np.bincount(self.prompt_N, minlength=len(self.labels))
        return means

    def members(self) -> list[Integers]:
        """Positions of each prompt's samples, in order of `labels`."""
        return members(self.prompt_N, len(self.labels))


def group(values: ArrayLike, clusters: Labels | None, name: str = "values") -> Grouped:
    """Group samples by prompt.

    `values` is `[prompts, samples]` (then `clusters` stays out), or flat with one label per sample in
    `clusters`, or flat without labels, where every sample is its own prompt.
    """
    array = numbers(values, name, dimensions=(1, 2))
    if array.ndim == 2:
        if clusters is not None:
            raise ValueError(f"{name} is [prompts, samples] already; pass clusters only with a flat list.")
        prompt_N = np.repeat(np.arange(array.shape[0]), array.shape[1])
        return Grouped(array.ravel(), prompt_N, tuple(range(array.shape[0])))
    prompt_N, labels = number_labels(clusters, len(array), name)
    return Grouped(array, prompt_N, labels)


def number_labels(
    clusters: Labels | None, count: int, name: str = "values"
) -> tuple[Integers, tuple[Hashable, ...]]:
    """Number labels by first appearance; without labels every entry is a prompt of its own."""
    if clusters is None:
        return np.arange(count), tuple(range(count))
    labels: list[Hashable] = clusters.tolist() if isinstance(clusters, np.ndarray) else list(clusters)
    if len(labels) != count:
        raise ValueError(f"{name} has {count} entries and clusters has {len(labels)}; one label per entry.")
    seen: dict[Hashable, int] = {}
    codes = [seen.setdefault(label, len(seen)) for label in labels]
    return np.asarray(codes, dtype=np.int64), tuple(seen)


def members(prompt_N: Integers, prompts: int) -> list[Integers]:
    """Positions of the samples of each prompt, in order of prompt number."""
    order = np.argsort(prompt_N, kind="stable")
    ends = np.cumsum(np.bincount(prompt_N, minlength=prompts))[:-1]
    return [np.asarray(part, dtype=np.int64) for part in np.split(order, ends)]
