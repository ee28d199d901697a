"""A reward model whose head goes on learning while a policy is trained against it (D2PO).

The labels are what is expensive. Every few steps some of the newest pairs get one; the head learns from all
labels so far and judges what the policy says next, so the judge follows the policy to where its first labels
say nothing.
Source: Singhal et al. 2024.
"""

from __future__ import annotations

from collections.abc import Sequence

from ridgeline.models.batch import Row, Unit, completion_row
from ridgeline.models.score_model import feature_forward, head_forward
from ridgeline.rewards.reward_model import ModelReward
from ridgeline.schema.errors import UsageError
from ridgeline.schema.run_folder import Metrics
from ridgeline.schema.stages.preference import Discriminator
from ridgeline.stages.context import StageContext
from ridgeline.stages.duels import Duel
from ridgeline.stages.judging import component_for
from ridgeline.training.local import LocalEngine
from ridgeline.training.loop import Update
from ridgeline.training.pairwise import PairwiseRanking

BACKBONE, HEAD = "discriminator backbone", "discriminator"


class DiscriminatorJudge:
    """The roles on the engine, the reward that they give, and the updates that new labels call for."""

    def __init__(self, context: StageContext, engine: LocalEngine, config: Discriminator) -> None:
        self.engine, self.config = engine, config
        model = context.score_model(config.start)
        if model.kind.per_token or len(model.kind.heads) > 1:
            raise UsageError(
                f"online.discriminator.start = '{config.start}' has to rank whole completions with one head; "
                "train that stage with a ranking loss, without members and heads_by."
            )
        engine.add(BACKBONE, model, feature_forward)
        model.head.requires_grad_(True)
        engine.add(HEAD, model.head, head_forward, tokens_per_microbatch=2**40, optimiser=config.optimiser)
        self.labelled: list[Unit] = []
        self.gold = component_for(context, engine, config.gold)
        self.component = ModelReward(
            config.start, lambda units: self._scores([row for unit in units for row in unit])
        )

    def updates(self, step: int, duels: Sequence[Duel]) -> tuple[list[Update], Metrics]:
        """Label the newest pairs where labels are due, and learn from all labels so far."""
        if step % self.config.every:
            return [], {}
        asked = list(duels)[: self.config.pairs]
        samples = [sample for duel in asked for sample in (duel.winner, duel.loser)]
        labels = self.gold(samples) if samples else []
        units, agreed = [], 0
        for number, duel in enumerate(asked):
            first, second = labels[2 * number : 2 * number + 2]
            if first is None or second is None or first == second:
                continue
            agreed += first > second
            pair = (duel.winner, duel.loser) if first > second else (duel.loser, duel.winner)
            units.append([completion_row(sample.prompt_ids, sample.completion_ids) for sample in pair])
        metrics: Metrics = {"labels": (float(len(units)), 1.0)}
        if units:
            metrics["discriminator_agrees"] = (float(agreed), float(len(units)))
            self._featurise([row for unit in units for row in unit])
            self.labelled += units
        if not self.labelled:
            return [], metrics
        update = Update(HEAD, self.labelled, PairwiseRanking(), self.config.optimiser)
        return [update] * self.config.updates, metrics

    def close(self) -> None:
        self.gold.close()

    def _scores(self, rows: Sequence[Row]) -> list[float]:
        self._featurise(rows)
        return [float(score["heads"][0, 0]) for score in self.engine.score(HEAD, [[row] for row in rows])]

    def _featurise(self, rows: Sequence[Row]) -> None:
        for row, score in zip(rows, self.engine.score(BACKBONE, [[row] for row in rows]), strict=True):
            row.features = score["features"]
