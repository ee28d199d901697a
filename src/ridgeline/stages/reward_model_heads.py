"""Which heads a reward model has, and which of them learns from what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from ridgeline.data.steps import DEFAULT_SEPARATOR
from ridgeline.models.score_heads import SHARED, HeadKind, ScoreHead
from ridgeline.schema.errors import DataError, UsageError, nearest
from ridgeline.schema.reward_kinds import Combine, RewardLoss, ScoreAggregate
from ridgeline.schema.stages import RewardModelStage
from ridgeline.stages.reward_model_data import Judged
from ridgeline.training.labelled import OutcomeClassification, ProcessClassification
from ridgeline.training.objective import Objective
from ridgeline.training.pairwise import PairwiseRanking
from ridgeline.training.rankings import ListRanking
from ridgeline.training.reward_heads import weight_name

START = 0.1
"""Deviation of the scores that a member starts with. Data say nothing about some directions of the features,
and there a member stays where it started: members differ most about what none of them has seen."""
DEFAULT_AGGREGATE: dict[RewardLoss, ScoreAggregate] = {
    "outcome": "last",
    "pooled_outcome": "pooled",
    "process": "min",
    "process_3class": "min",
}


def head_kind(config: RewardModelStage, train: Judged) -> HeadKind:
    """The heads that ``config`` asks for, on this data.

    Raises:
        DataError: ``heads_by`` finds one group only. UsageError: ``combine`` names none of the groups.
    """
    heads: tuple[str, ...] = ("score",)
    if config.members > 1:
        heads = tuple(f"member-{number}" for number in range(1, config.members + 1))
    elif config.heads_by is not None:
        groups = sorted({entry.group for entry in train.entries})
        if len(groups) < 2 or SHARED in groups:
            raise DataError(
                f"heads_by = '{config.heads_by}' finds only {', '.join(groups)}; it takes two groups or more."
            )
        heads = (*groups, SHARED)
        choices = [*heads, *get_args(Combine)]
        if config.combine not in choices:
            raise UsageError(f"combine = '{config.combine}' is no group; {nearest(config.combine, choices)}")
    return HeadKind(
        loss=config.loss,
        heads=heads,
        combine=config.combine,
        spread_weight=1.0 if config.spread_weight is None else config.spread_weight,
        aggregate=config.aggregate or DEFAULT_AGGREGATE.get(config.loss, "last"),
        last_m=config.aggregate_m,
        step_separator=config.step_separator or DEFAULT_SEPARATOR,
    )


def objective_for(config: RewardModelStage, kind: HeadKind, head: ScoreHead) -> Objective:
    """The loss, for every head of ``kind``."""
    penalty = config.penalty
    if config.loss in ("outcome", "pooled_outcome"):
        return OutcomeClassification(pooled=config.loss == "pooled_outcome", penalty=penalty, head=head)
    if config.loss in ("process", "process_3class"):
        three = config.loss == "process_3class"
        return ProcessClassification(three_classes=three, penalty=penalty, head=head)
    names, measured = kind.heads, _measured(kind)
    if config.loss == "bradley_terry":
        return PairwiseRanking(
            centering=config.centering,
            label_smoothing=config.label_smoothing,
            penalty=penalty,
            head=head,
            names=names,
            measured=measured,
        )
    loss: Literal["grouped", "plackett_luce"] = "grouped" if config.loss == "grouped" else "plackett_luce"
    return ListRanking(loss, penalty=penalty, head=head, names=names, measured=measured)


def _measured(kind: HeadKind) -> list[int]:
    """Metrics of a step are those of the mean member, or of the head that all groups share."""
    return [kind.heads.index(SHARED)] if SHARED in kind.heads else list(range(len(kind.heads)))


def assign_heads(train: Judged, kind: HeadKind, seed: int) -> None:
    """Write into every row how often its unit counts for each head."""
    if len(kind.heads) == 1:
        return
    if SHARED in kind.heads:
        counts_KU = np.array(
            [[name in (entry.group, SHARED) for entry in train.entries] for name in kind.heads], dtype=float
        )
    else:
        counts_KU = bootstrap_counts(train.prompts, len(kind.heads), seed)
    for unit, counts_K in zip(train.units, counts_KU.T, strict=True):
        for row in unit:
            row.values |= {weight_name(number): float(count) for number, count in enumerate(counts_K)}


def bootstrap_counts(prompts: Sequence[str], members: int, seed: int) -> npt.NDArray[np.float64]:
    """``[members, units]``: how often each member's resample of the prompts holds the unit's prompt.

    As many prompts as there are, drawn with replacement by Philox keyed by (seed, member), so that a member
    is the same in an ensemble of any size. All units of a prompt are drawn together.
    """
    known = sorted(set(prompts))
    place_of = {prompt: place for place, prompt in enumerate(known)}
    places = np.array([place_of[prompt] for prompt in prompts])
    counts = np.empty((members, len(prompts)))
    for member in range(members):
        generator = np.random.Generator(np.random.Philox(key=np.array([seed, member], dtype=np.uint64)))
        drawn = np.bincount(generator.integers(0, len(known), len(known)), minlength=len(known))
        counts[member] = drawn[places]
    return counts
