"""Preference pairs out of completions that a reward has ranked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ridgeline.preferences.keyed import uniform
from ridgeline.schema.records import Message, Preference, Sample

Prompts = Mapping[str, list[Message]]


def best_and_worst(groups: Iterable[Sequence[Sample]], prompts: Prompts, reward: str) -> list[Preference]:
    """The best completion of each prompt against its worst, where rewards and texts differ."""
    made = []
    for group in groups:
        if len(group) > 1:
            ordered = sorted(group, key=lambda sample: _value(sample, reward))
            made.append(_preference(ordered[-1], ordered[0], prompts, reward, "best against worst"))
    return [pair for pair in made if pair is not None]


def two_by_two(
    groups: Iterable[Sequence[Sample]], prompts: Prompts, reward: str, seed: int
) -> list[Preference]:
    """Completions of each prompt in pairs drawn at random, each used once, the better one chosen.

    On completions accepted by statistical rejection sampling these are the pairs of RSO in its first-round
    form (Liu et al. 2024, section 3.3). Pairs of equal rewards or equal texts are left out.
    """
    made = []
    for group in groups:
        shuffled = sorted(group, key=lambda s: uniform("two by two", seed, s.prompt_id, s.index))
        for a, b in zip(shuffled[::2], shuffled[1::2], strict=False):
            better, worse = (a, b) if _value(a, reward) >= _value(b, reward) else (b, a)
            made.append(_preference(better, worse, prompts, reward, "accepted, two by two"))
    return [pair for pair in made if pair is not None]


def _preference(
    chosen: Sample, rejected: Sample, prompts: Prompts, reward: str, how: str
) -> Preference | None:
    values = _value(chosen, reward), _value(rejected, reward)
    if values[0] == values[1] or chosen.text == rejected.text:
        return None
    return Preference(
        prompt=prompts[chosen.prompt_id],
        chosen=chosen.text,
        rejected=rejected.text,
        annotator=f"reward {reward}: {how}",
        prompt_id=chosen.prompt_id,
        scores={"chosen": values[0], "rejected": values[1]},
        chosen_stopped=not chosen.truncated,
        rejected_stopped=not rejected.truncated,
    )


def _value(sample: Sample, reward: str) -> float:
    value = sample.rewards[reward]
    assert value is not None, "completions without a reward are not ranked"
    return value
