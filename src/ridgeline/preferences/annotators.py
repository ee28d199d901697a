"""A simulated annotator: Bradley-Terry noise over a gold reward that is known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ridgeline.preferences.keyed import uniform
from ridgeline.schema.errors import DataError, UsageError
from ridgeline.schema.records import Message, Preference, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedAnnotator:
    """Prefers a to b with P = sigmoid((gold a - gold b) / temperature) (Bradley and Terry 1952).

    ``temperature`` is in units of the gold reward. With ``shuffle_labels`` every label is a fair coin
    instead, on the same pairs shown in the same order: the negative control. ``gold`` is the key in
    ``sample.rewards``, ``gold_name`` is what the record of the annotator calls it. Draws are keyed by (seed,
    prompt, sample, sample), so neither the order of pairs nor what else is annotated changes them.
    """

    temperature: float
    seed: int
    shuffle_labels: bool = False
    gold_name: str = "gold"
    gold: str = "gold"

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise UsageError(f"annotator: temperature = {self.temperature} must be a finite number above 0.")

    @property
    def name(self) -> str:
        """What is recorded as the annotator."""
        kind = "simulated, shuffled" if self.shuffle_labels else "simulated"
        return f"{kind}: {self.gold_name}, temperature {self.temperature:g}"

    def annotate(self, a: Sample, b: Sample, prompt: list[Message]) -> Preference:
        """The preference between two samples of one prompt; swapping a and b changes nothing.

        Raises:
            DataError: a sample without a gold reward. ValueError: not two samples of one prompt.
        """
        if a.prompt_id != b.prompt_id or a.index == b.index:
            raise ValueError(f"samples {a.prompt_id}/{a.index} and {b.prompt_id}/{b.index} are not a pair.")
        first, second = (a, b) if a.index < b.index else (b, a)
        gold_first, gold_second = self._gold(first), self._gold(second)
        key = (self.seed, first.prompt_id, first.index, second.index)
        if self.shuffle_labels:
            prefers_first = uniform("coin", *key) < 0.5
        else:
            prefers_first = uniform("label", *key) < sigmoid((gold_first - gold_second) / self.temperature)
        shows_first = uniform("order", *key) < 0.5
        chosen, rejected = (first, second) if prefers_first else (second, first)
        return Preference(
            prompt=prompt,
            chosen=chosen.text,
            rejected=rejected.text,
            annotator=self.name,
            first_shown="chosen" if shows_first == prefers_first else "rejected",
            prompt_id=first.prompt_id,
            scores={"chosen": self._gold(chosen), "rejected": self._gold(rejected)},
            chosen_stopped=not chosen.truncated,
            rejected_stopped=not rejected.truncated,
        )

    def _gold(self, sample: Sample) -> float:
        value = sample.rewards.get(self.gold)
        if value is None:
            raise DataError(
                f"sample {sample.index} of prompt '{sample.prompt_id}' has no reward '{self.gold}', "
                "so it cannot be compared; leave it out of the pairs."
            )
        return value


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)) without overflow at either end."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
