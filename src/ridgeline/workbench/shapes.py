"""The mean shape of what a stage learns from: a prompt and its completions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ridgeline.models.batch import Unit, completion_row


def coarse(size: float) -> int:
    """The nearest power of the square root of 2 as a whole number, at least 1."""
    return round(2 ** (round(2 * math.log2(max(size, 1.0))) / 2))


@dataclass(frozen=True)
class Shape:
    """Mean lengths (tokens) of a unit, which a micro-batch never splits; every completion token is scored."""

    prompt: float
    completion: float
    completions: float = 1.0

    def tokens(self, packed: bool) -> float:
        """Tokens that pass the layers: packed, the prompt passes once for all its completions."""
        return self.packed_tokens if packed else self.padded_tokens

    @property
    def packed_tokens(self) -> float:
        return self.prompt + self.scored

    @property
    def padded_tokens(self) -> float:
        return self.completions * (self.prompt + self.completion)

    @property
    def scored(self) -> float:
        """Tokens that pass the head."""
        return self.completions * self.completion

    def rounded(self) -> Shape:
        """Whole numbers, at least 1."""
        whole = (max(1, round(size)) for size in (self.prompt, self.completion, self.completions))
        return Shape(*map(float, whole))

    def coarse(self) -> Shape:
        """A shape nearby, of which there are few: what a token costs is nearly the same."""
        return Shape(*(float(coarse(size)) for size in (self.prompt, self.completion, self.completions)))

    def within(self, tokens: int) -> Shape:
        """The same with fewer completions, or shorter ones, so that it has at most ``tokens`` (or nearly)."""
        if self.padded_tokens <= tokens:
            return self
        row = self.prompt + self.completion
        if row <= tokens:
            return replace(self, completions=tokens // row)
        return Shape(self.prompt * tokens / row, self.completion * tokens / row)

    def unit(self, vocabulary: int, generator: np.random.Generator) -> Unit:
        """A unit of this shape with random ids."""
        whole = self.rounded()
        prompt = generator.integers(0, vocabulary, int(whole.prompt)).tolist()
        return [
            completion_row(prompt, generator.integers(0, vocabulary, int(whole.completion)).tolist())
            for _ in range(int(whole.completions))
        ]
