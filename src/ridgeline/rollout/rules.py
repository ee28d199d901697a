"""What the samplers share: when a completion ends, and the record of one that has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ridgeline.rollout.request import PromptRequest
from ridgeline.rollout.shaping import shapes
from ridgeline.rollout.stops import StopStrings
from ridgeline.schema.records import RESHAPING, Sample
from ridgeline.schema.stages.common import Sampling


@dataclass(frozen=True)
class Rules:
    """What is asked for, in terms of one model's tokens.

    stop_ids: tokens that end a completion. bias: what is added to logits, by id.
    """

    sampling: Sampling
    stops: StopStrings
    stop_ids: frozenset[int]
    bias: Mapping[int, float]

    @property
    def shapes(self) -> bool:
        """Whether the distribution of the next token depends on what is written, not on logits only."""
        return shapes(self.sampling)

    def ended(self, tokens: Sequence[int]) -> bool:
        """Whether a completion ends with its last token, which is new."""
        return tokens[-1] in self.stop_ids or self.stops.ended(tokens)

    def finished(
        self,
        request: PromptRequest,
        index: int,
        tokens: list[int],
        logprobs: list[float],
        weight_version: int,
    ) -> Sample:
        """The record of one completion; its text is without the token or the string that ended it."""
        stopped = tokens[-1] in self.stop_ids
        text, stop_string = self.stops.cut(tokens[:-1] if stopped else tokens)
        return Sample(
            prompt_id=request.id,
            index=index,
            prompt_ids=list(request.prompt_ids),
            completion_ids=tokens,
            logprobs=logprobs,
            generated=[True] * len(tokens),
            stop_reason="stop" if stopped or stop_string else "length",
            text=text,
            temperature=self.sampling.temperature,
            **{name: getattr(self.sampling, name) for name in RESHAPING},
            stop_string=stop_string,
            weight_version=weight_version,
            row=request.row,
        )
