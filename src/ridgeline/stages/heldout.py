"""Two sets of held-out completions of the same prompts, reward by reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ridgeline.schema.records import Sample
from ridgeline.statistics.paired import paired_difference


def differences(first: Sequence[Sample], second: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """How much higher ``second`` is by each reward: paired by prompt, with a 95 % interval over prompts.

    Only prompts with a value on both sides count; a reward without such a prompt is left out.
    """
    found = {}
    for name in first[0].rewards:
        sides = [_means(samples, name) for samples in (first, second)]
        shared = [prompt for prompt in sides[0] if prompt in sides[1]]
        if shared:
            a, b = ([side[prompt] for prompt in shared] for side in sides)
            found[f"reward/{name}"] = paired_difference(a, b).as_dict()
    return found


def _means(samples: Sequence[Sample], name: str) -> dict[str, float]:
    """Per prompt, the mean of the values that are known."""
    known: dict[str, list[float]] = {}
    for sample in samples:
        if (value := sample.rewards.get(name)) is not None:
            known.setdefault(sample.prompt_id, []).append(value)
    return {prompt: sum(values) / len(values) for prompt, values in known.items()}
