"""Which pairs of completions an annotator gets to see."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from ridgeline.preferences.keyed import uniform
from ridgeline.schema.records import Sample


@dataclass(frozen=True, slots=True)
class DrawnPairs:
    """The pairs, and what there was to draw from. ``len(pairs)`` is below the request where that is all."""

    pairs: list[tuple[Sample, Sample]]
    available: int
    """Pairs that could be drawn."""
    identical: int
    """Pairs left out because both texts are the same."""
    unscored: int
    """Samples left out because the gold reward has no value for them."""


def draw_pairs(samples: Iterable[Sample], count: int, seed: int, *, gold: str | None = "gold") -> DrawnPairs:
    """``count`` pairs, uniformly at random from all pairs within a prompt, without repetition.

    The draw does not depend on the order of ``samples``, and the pairs of a smaller count are the first of a
    larger one. Asking for more pairs than exist gives all of them. ``gold`` names the reward that both
    samples must have (None: no such condition). Raises ValueError where two samples of a prompt share their
    index.
    """
    groups: dict[str, dict[int, Sample]] = {}
    unscored = 0
    for sample in samples:
        if gold is not None and sample.rewards.get(gold) is None:
            unscored += 1
            continue
        group = groups.setdefault(sample.prompt_id, {})
        if sample.index in group:
            raise ValueError(f"prompt '{sample.prompt_id}' has two samples with index {sample.index}.")
        group[sample.index] = sample
    identical = 0
    ranked: list[tuple[float, str, int, int]] = []
    for prompt, group in groups.items():
        for i, j in itertools.combinations(sorted(group), 2):
            if group[i].text == group[j].text:
                identical += 1
            else:
                # Sorting by one uniform number per pair and taking the first is drawing without repetition.
                ranked.append((uniform("pair", seed, prompt, i, j), prompt, i, j))
    ranked.sort()
    pairs = [(groups[prompt][i], groups[prompt][j]) for _, prompt, i, j in ranked[:count]]
    return DrawnPairs(pairs, len(ranked), identical, unscored)
