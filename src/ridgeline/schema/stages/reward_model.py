"""Options of reward modelling."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from ridgeline.schema.config import SOURCE
from ridgeline.schema.reward_kinds import (
    OUTCOME_LOSSES,
    PROCESS_LOSSES,
    RANKING_LOSSES,
    Combine,
    RewardLoss,
    ScoreAggregate,
)
from ridgeline.schema.stages.common import PAIR_STAGES, LearningStage, Optimiser, Reference, Source

MEANT_FOR: dict[str, tuple[str, ...]] = {
    "margin": ("bradley_terry",),
    "label_smoothing": ("bradley_terry",),
    "centering": ("bradley_terry",),
    "members": RANKING_LOSSES,
    "heads_by": RANKING_LOSSES,
    "aggregate": (*OUTCOME_LOSSES, *PROCESS_LOSSES),
    "aggregate_m": (*OUTCOME_LOSSES, *PROCESS_LOSSES),
    "step_separator": PROCESS_LOSSES,
}
"""Options that mean something with some losses only; elsewhere they are refused rather than ignored."""


class RewardModelStage(LearningStage):
    """Scores of completions, tokens or steps, learned from preferences, rankings, outcomes or step labels."""

    type: Literal["reward_model"] = "reward_model"
    data: Source
    """Rows of the kind that ``loss`` learns from, or the name of an earlier stage that writes pairs."""
    heldout: Annotated[str | float, SOURCE] = 0.15
    """A file of held-out rows, or the fraction of prompts to hold out (rows of a prompt go together)."""
    loss: RewardLoss = "bradley_terry"
    """Pairs: ``bradley_terry``. Rankings: ``grouped`` (all pairs of a prompt together), ``plackett_luce``
    (the whole order). Right or wrong: ``outcome`` (asked after every token), ``pooled_outcome`` (asked once,
    of the mean logit). Steps: ``process`` (right or wrong), ``process_3class`` (bad, neutral, good)."""
    margin: bool = False
    """Ask for a gap as wide as the ratings differ: a pair's ``margin``, else the gap of its ``scores``."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Probability that a label is the wrong way round."""
    centering: float = Field(0.0, ge=0)
    """Coefficient of (r_chosen + r_rejected)^2, which pins the free constant."""
    backbone: Literal["frozen", "full"] = "frozen"
    """``frozen``: only the head learns, on cached features. ``full``: every weight learns (or an adapter),
    with a learning rate of 1e-5 (1e-4) unless another is given."""
    layer: int | None = Field(None, ge=1)
    """Read the hidden state after this many layers (the layers above are cut off); None: all layers."""
    pooling: Literal["last", "mean", "mean+last"] = "last"
    """``mean`` runs over the completion; ``mean+last`` concatenates both."""
    penalty: float = Field(0.0, ge=0)
    """L2 penalty on each head's weights: penalty / 2 * |w|^2, added to the mean loss (frozen only)."""
    members: int = Field(1, ge=1)
    """Heads of an ensemble, each on a bootstrap resample of the prompts and from a start of its own (frozen
    only)."""
    heads_by: str | None = None
    """A column, such as ``annotator``: a head for each of its values, and one for all (frozen only)."""
    combine: str = "mean"
    """How several heads become the reward: ``mean``, ``min``, ``mean_minus_spread``, or with ``heads_by`` the
    name of the one that counts."""
    spread_weight: float | None = Field(None, ge=0)
    """What ``mean_minus_spread`` charges for a deviation of 1 between the heads; None: 1."""
    aggregate: ScoreAggregate | None = None
    """How tokens or steps become the reward: ``last``, ``mean``, ``min``, ``product``, ``mean_last_m``,
    ``late`` (later ones weigh more), ``pooled`` (outcomes). None: ``last`` for outcome, ``pooled`` for
    pooled_outcome, ``min`` for steps."""
    aggregate_m: int | None = Field(None, ge=1)
    """Tokens or steps that ``mean_last_m`` looks at."""
    step_separator: str | None = Field(None, min_length=1)
    """Stands between the steps; None: an empty line."""
    pairs_per_step: int = Field(32, ge=1)
    """Pairs (rankings, solutions) per optimizer step; all of them, when there are fewer."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the data."""
    max_length: int = Field(1024, ge=2)
    """Tokens of prompt and completion."""
    overlong: Literal["error", "drop"] = "drop"
    """A truncated completion loses the token that is scored, so truncating is not on offer."""
    optimiser: Optimiser = Optimiser(learning_rate=1e-2, schedule="linear")
    evaluate_every: int = Field(0, ge=0)
    """Steps between held-out evaluations; 0: only before and after."""
    checkpoint_every: int = Field(50, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _rate_for_the_backbone(cls, values: Any) -> Any:
        """The rate of a fresh head would wreck a language model."""
        if not isinstance(values, dict) or values.get("backbone") != "full":
            return values
        given = values.get("optimiser", {})
        if not isinstance(given, dict) or "learning_rate" in given:
            return values
        rate = 1e-5 if values.get("adapter") is None else 1e-4
        return {**values, "optimiser": {**given, "learning_rate": rate}}

    def references(self) -> list[Reference]:
        return [*super().references(), Reference("data", self.data, PAIR_STAGES, elsewhere=True)]

    @model_validator(mode="after")
    def _meant_for_this_loss(self) -> RewardModelStage:
        for option, losses in MEANT_FOR.items():
            if getattr(self, option) != type(self).model_fields[option].default and self.loss not in losses:
                raise ValueError(
                    f'{option} does nothing with loss = "{self.loss}"; it belongs to {", ".join(losses)}'
                )
        if self.loss in PROCESS_LOSSES and self.pooling != "last":
            raise ValueError(
                'steps are judged at their last token; use pooling = "last", or loss = "outcome"'
            )
        return self

    @model_validator(mode="after")
    def _fits_the_backbone(self) -> RewardModelStage:
        if self.backbone == "full":
            if self.penalty:
                raise ValueError(
                    "penalty applies to the frozen backbone's head; use optimiser.weight_decay with full"
                )
            if self.members > 1 or self.heads_by is not None:
                raise ValueError(
                    'members and heads_by need backbone = "frozen": heads on one backbone that learns agree '
                    "through it, so their spread says little; or train several stages, one reward each"
                )
        elif self.adapter is not None:
            raise ValueError('an adapter changes the backbone; set backbone = "full"')
        elif self.work.checkpointing:
            raise ValueError("work.checkpointing saves nothing with a frozen backbone; remove it")
        return self

    @model_validator(mode="after")
    def _heads_and_their_combination(self) -> RewardModelStage:
        known = get_args(Combine)
        if self.members > 1 and self.heads_by is not None:
            raise ValueError("members and heads_by exclude each other; choose one")
        if self.combine not in known and self.heads_by is None:
            raise ValueError(f"combine = '{self.combine}' is none of {', '.join(known)}")
        if self.combine != "mean" and self.members == 1 and self.heads_by is None:
            raise ValueError("combine needs several heads; set members or heads_by")
        if self.spread_weight is not None and self.combine != "mean_minus_spread":
            raise ValueError('spread_weight belongs to combine = "mean_minus_spread"')
        return self

    @model_validator(mode="after")
    def _aggregation(self) -> RewardModelStage:
        if self.aggregate == "pooled" and self.loss in PROCESS_LOSSES:
            raise ValueError('aggregate = "pooled" belongs to outcomes; steps have "mean"')
        if (self.aggregate == "mean_last_m") != (self.aggregate_m is not None):
            raise ValueError('aggregate = "mean_last_m" and aggregate_m go together')
        return self
