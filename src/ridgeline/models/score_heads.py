"""Linear heads on hidden states: which loss they learned, and how their numbers become one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

import torch
from torch import nn

from ridgeline.objectives.ensembles import combine, spread
from ridgeline.objectives.step_scores import aggregate_scores, not_bad_logit
from ridgeline.schema.errors import UsageError
from ridgeline.schema.reward_kinds import PROCESS_LOSSES, RANKING_LOSSES, Combine, RewardLoss, ScoreAggregate

SHARED = "(shared)"
"""Name of the head that learned from every group, beside the heads of the groups."""


class ScoreHead(nn.Module):
    """Standardise, then ``outputs`` linear units; float32 whatever the backbone's format.

    ``scale`` and ``shift`` standardise the features; ``offset`` and ``spread`` each score (so that a reward
    has mean 0 and deviation 1 on the samples it was fitted on). All four are constants, not parameters.
    """

    shift: torch.Tensor
    scale: torch.Tensor
    offset: torch.Tensor
    spread: torch.Tensor

    def __init__(self, features: int, outputs: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(features, outputs, dtype=torch.float32)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("shift", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("offset", torch.zeros(outputs))
        self.register_buffer("spread", torch.ones(outputs))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``[..., F] -> [..., K]``."""
        standard = (features.to(self.shift.dtype) - self.shift) / self.scale
        scores: torch.Tensor = (self.linear(standard) - self.offset) / self.spread
        return scores

    def draw(self, deviation: float, seed: int) -> None:
        """Start each output somewhere else, so that standard features score with ``deviation``."""
        generator = torch.Generator().manual_seed(seed % 2**63)
        weight = torch.randn(self.linear.weight.shape, generator=generator)
        with torch.no_grad():
            self.linear.weight.copy_(weight * deviation / self.linear.in_features**0.5)

    def standardise_features(self, features: torch.Tensor) -> None:
        """Fit ``shift`` and ``scale`` to ``features`` ``[n, F]``; a constant feature keeps scale 1."""
        deviation = features.float().std(dim=0)
        self.shift.copy_(features.float().mean(dim=0))
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    def standardise_scores(self, scores: torch.Tensor) -> None:
        """Fit ``offset`` and ``spread``: ``scores`` ``[n, K]``, as given now, get mean 0 and deviation 1."""
        deviation = scores.std(0) if len(scores) > 1 else torch.ones(scores.shape[1:])
        self.offset.add_(self.spread * scores.mean(0))
        self.spread.mul_(deviation.to(self.spread).clamp_min(1e-6))


@dataclass(frozen=True, slots=True)
class HeadKind:
    """What a score model learned, and how it answers.

    heads: one name, or those of the members of an ensemble, or those of the groups and ``SHARED``.
    combine: how several heads become one score, or the name of the one that counts.
    aggregate, last_m, step_separator: how tokens or steps become one probability (outcome and process).
    """

    loss: RewardLoss = "bradley_terry"
    heads: tuple[str, ...] = ("score",)
    combine: str = "mean"
    spread_weight: float = 1.0
    aggregate: ScoreAggregate = "last"
    last_m: int | None = None
    step_separator: str = "\n\n"

    @property
    def outputs(self) -> int:
        """Linear units: one per head, three for the classes of a step."""
        return 3 if self.loss == "process_3class" else len(self.heads)

    @property
    def per_token(self) -> bool:
        """Whether it answers after every token with the logit of a probability."""
        return self.loss not in RANKING_LOSSES

    @property
    def has_steps(self) -> bool:
        return self.loss in PROCESS_LOSSES

    @property
    def combining(self) -> list[int]:
        """Numbers of the heads that the score is made of."""
        if self.combine in get_args(Combine):
            return [number for number, name in enumerate(self.heads) if name != SHARED]
        return [self.heads.index(self.combine)]

    def combined(self, heads_BSK: torch.Tensor) -> torch.Tensor:
        """``[B, S]``: one score, or one logit of being right, from what the linear units say."""
        if self.loss == "process_3class":
            return not_bad_logit(heads_BSK)
        members = heads_BSK[..., self.combining]
        # Without a detour the score of a single head stays bit for bit what the head said.
        if members.shape[-1] == 1:
            return members[..., 0]
        return combine(members, self._how, self.spread_weight)

    @property
    def _how(self) -> Combine:
        return next(how for how in get_args(Combine) if how == self.combine)

    def doubt(self, heads_BSK: torch.Tensor) -> torch.Tensor | None:
        """``[B]``: how far the heads differ about each completion; None where there is one."""
        if self.per_token or len(self.combining) == 1:
            return None
        return spread(heads_BSK[:, 0, self.combining])

    def reward(self, heads_BSK: torch.Tensor, mask_BN: torch.Tensor) -> torch.Tensor:
        """``[B]``: a score without absolute scale, or a probability of being right in [0, 1]."""
        combined_BS = self.combined(heads_BSK)
        if not self.per_token:
            return combined_BS[:, 0]
        return aggregate_scores(combined_BS, mask_BN, self.aggregate, self.last_m)

    def token_scores(self, heads_BSK: torch.Tensor) -> torch.Tensor:
        """``[B, S]``: scores as they are, logits as probabilities."""
        combined_BS = self.combined(heads_BSK)
        return torch.sigmoid(combined_BS) if self.per_token else combined_BS

    def check_is_value(self) -> None:
        """A critic is one head that scores whole completions.

        Raises:
            UsageError: this kind is another.
        """
        if self.per_token:
            raise UsageError(
                f'a reward model with loss = "{self.loss}" gives probabilities, not returns, so it cannot '
                'start a critic; use one with loss = "bradley_terry", or critic.initialise_from = "policy".'
            )
        if len(self.heads) > 1:
            raise UsageError(
                f"a reward model with {len(self.heads)} heads cannot start a critic, which learns one; "
                'use one without members and heads_by, or critic.initialise_from = "policy".'
            )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "heads": list(self.heads)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HeadKind:
        """The inverse of ``as_dict``; what an older version did not write is as it was then."""
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        return cls(**{**known, "heads": tuple(values.get("heads", ("score",)))})
