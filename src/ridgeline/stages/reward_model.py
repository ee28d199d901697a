"""Reward modelling: Bradley-Terry on preference pairs, with a frozen or a fully tuned backbone.

Both go through the same loop. With a frozen backbone the pooled features are computed once and only the head
learns; the saved reward model is the same kind of folder either way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from ridgeline.data.formats import preferences
from ridgeline.data.order import batch_indices
from ridgeline.data.pairs import PairData, build_pairs
from ridgeline.data.sources import read_rows
from ridgeline.data.split import holdout
from ridgeline.models.batch import Unit
from ridgeline.models.load import LanguageModel
from ridgeline.models.score_model import (
    ScoreModel,
    feature_forward,
    head_forward,
    score_forward,
    score_model_from,
)
from ridgeline.schema.records import Preference
from ridgeline.schema.run_folder import Metrics, read_lines
from ridgeline.schema.stages import RewardModelStage
from ridgeline.stages.collect import OUTPUT
from ridgeline.stages.context import StageContext, ends
from ridgeline.statistics.agreement import (
    expected_calibration_error,
    pairwise_accuracy_interval,
    pearson,
    reliability_table,
)
from ridgeline.statistics.bradley_terry import noise_ceiling, probability
from ridgeline.training.local import LocalEngine
from ridgeline.training.loop import StepPlan, Update
from ridgeline.training.pairwise import PairwiseRanking


def run(context: StageContext, config: RewardModelStage) -> dict[str, Any]:
    """Train, save, report held-out accuracy, calibration and the ceiling that label noise sets."""
    language_model = context.language_model(config.model)
    train_pairs, heldout_pairs, heldout = _datasets(context, config, language_model)
    model = score_model_from(language_model, layer=config.layer, pooling=config.pooling)
    engine = LocalEngine(context.device)
    budget = config.work.tokens_per_microbatch
    if config.backbone == "frozen":
        engine.add("backbone", model, feature_forward, tokens_per_microbatch=budget)
        _cache_features(
            context, engine, model, [*train_pairs.units, *heldout_pairs.units], len(train_pairs.units)
        )
        model.head.requires_grad_(True)
        engine.add(
            "reward", model.head, head_forward, tokens_per_microbatch=2**40, optimiser=config.optimiser
        )
    else:
        engine.add("reward", model, score_forward, tokens_per_microbatch=budget, optimiser=config.optimiser)
    objective = PairwiseRanking(centering=config.centering, penalty=config.penalty, head=model.head)
    job = RewardModelJob(config, engine, objective, train_pairs.units, heldout_pairs, heldout, context.seed)
    context.train(engine, job)
    _standardise(model, engine, train_pairs.units)
    context.observer.phase("saving the model")
    model.save(context.folder.model, language_model.tokenizer)
    before, after = ends(read_lines(context.folder.evaluations))
    return {
        "pairs": len(train_pairs.units),
        "heldout_pairs": len(heldout_pairs.units),
        "dropped": train_pairs.dropped,
        "before": {key: value for key, value in before.items() if key != "step"},
        "after": {key: value for key, value in after.items() if key != "step"},
        "ceiling": _ceiling(context, config, job.heldout_preferences),
    }


def _datasets(
    context: StageContext, config: RewardModelStage, language_model: LanguageModel
) -> tuple[PairData, PairData, list[Preference]]:
    context.observer.phase("preparing data")
    source = config.data
    if context.is_stage(source):
        source = str(context.output_of(source).path / OUTPUT)
    rows = preferences(read_rows(source), source)
    if isinstance(config.heldout, str):
        heldout = preferences(read_rows(config.heldout), config.heldout)
    else:
        rows, heldout = holdout(rows, config.heldout, _prompt_key, context.seed)
    sets = [
        build_pairs(part, language_model.tokenizer, max_length=config.max_length, overlong=config.overlong)
        if part
        else PairData()  # heldout = 0
        for part in (rows, heldout)
    ]
    for pairs in sets:
        for reason, count in pairs.dropped.items():
            context.warn(f"{count} pairs dropped: {reason}")
    return sets[0], sets[1], heldout


def _prompt_key(preference: Preference) -> str:
    return preference.prompt_id or preference.prompt[-1].content


def _cache_features(
    context: StageContext, engine: LocalEngine, model: ScoreModel, units: Sequence[Unit], fitted: int
) -> None:
    """Pooled features of every row; standardised by the training rows (the first ``fitted`` units)."""
    context.observer.phase("computing features")
    rows = [row for unit in units for row in unit]
    # A completion stands in several pairs; its features are computed once.
    distinct = {(row.ids.tobytes(), row.prefix): row for row in rows}
    scores = engine.score("backbone", [[row] for row in distinct.values()])
    features = {key: score["features"] for key, score in zip(distinct, scores, strict=True)}
    for row in rows:
        row.features = features[row.ids.tobytes(), row.prefix]
    training = np.stack([row.features for row in rows[: 2 * fitted] if row.features is not None])
    model.head.standardise_features(torch.from_numpy(training).to(context.device))


def _standardise(model: ScoreModel, engine: LocalEngine, units: Sequence[Unit]) -> None:
    """Scores of the training completions get mean 0 and deviation 1.

    A KL coefficient then means the same whatever the head's scale. Calibration is measured before, on the
    scale on which differences are log-odds.
    """
    scores = torch.tensor([float(score["score"]) for score in engine.score("reward", units)])
    model.head.standardise_scores(scores.to(model.head.offset.device))


def _ceiling(
    context: StageContext, config: RewardModelStage, heldout: Sequence[Preference]
) -> dict[str, float] | None:
    """The best accuracy and loss that any model could reach, known when the annotator was simulated."""
    stage = next((stage for stage in context.recipe.stage if stage.name == config.data), None)
    if not heldout or stage is None or stage.type != "collect" or stage.annotator.shuffle_labels:
        return None
    gaps = [preference.scores["chosen"] - preference.scores["rejected"] for preference in heldout]
    ceiling = noise_ceiling(np.abs(gaps), stage.annotator.temperature)
    return {"accuracy": ceiling.accuracy, "nll": ceiling.nll}


class RewardModelJob:
    """Batches of pairs as a pure function of (seed, step)."""

    def __init__(
        self,
        config: RewardModelStage,
        engine: LocalEngine,
        objective: PairwiseRanking,
        units: Sequence[Unit],
        heldout: PairData,
        heldout_preferences: Sequence[Preference],
        seed: int,
    ) -> None:
        self.config = config
        self.engine = engine
        self.objective = objective
        self.units = units
        self.heldout = heldout
        self.heldout_preferences = [heldout_preferences[index] for index in heldout.source]
        self.seed = seed
        self.per_step = min(config.pairs_per_step, len(units))
        self.steps = max(1, math.ceil(config.epochs * len(units) / self.per_step))
        self.evaluate_every = config.evaluate_every
        self.checkpoint_every = config.checkpoint_every

    def plan(self, step: int) -> StepPlan:
        chosen = batch_indices(len(self.units), self.per_step, step, self.seed)
        units = [self.units[index] for index in chosen]
        return StepPlan([Update("reward", units, self.objective, self.config.optimiser)])

    def evaluate(self, step: int) -> dict[str, Any]:
        if not self.heldout.units:
            return {}
        scores = np.array(
            [float(score["score"]) for score in self.engine.score("reward", self.heldout.units)]
        )
        return heldout_report(scores[0::2], scores[1::2], self.heldout_preferences)

    def after_step(self, step: int, metrics: Metrics) -> None: ...

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None: ...


def heldout_report(
    chosen: np.ndarray[Any, np.dtype[np.float64]],
    rejected: np.ndarray[Any, np.dtype[np.float64]],
    pairs: Sequence[Preference],
) -> dict[str, Any]:
    """Accuracy against the labels (interval over prompts), loss, calibration; the same against known gold.

    Calibration looks at each pair in the order it was shown: with the chosen one always first every outcome
    would be 1 and nothing could be miscalibrated.
    """
    clusters = [_prompt_key(pair) for pair in pairs]
    probabilities = probability(chosen - rejected)
    first_is_chosen = np.array([pair.first_shown == "chosen" for pair in pairs])
    shown_first = np.where(first_is_chosen, probabilities, 1 - probabilities)
    report: dict[str, Any] = {
        "accuracy": pairwise_accuracy_interval(chosen, rejected, clusters).as_dict(),
        "nll": float(np.logaddexp(0, rejected - chosen).mean()),
        "calibration_error": expected_calibration_error(shown_first, first_is_chosen.astype(float)),
        "reliability": [
            asdict(bin_) for bin_ in reliability_table(shown_first, first_is_chosen.astype(float))
        ],
    }
    if all({"chosen", "rejected"} <= pair.scores.keys() for pair in pairs):
        report |= _against_gold(chosen, rejected, pairs, clusters)
    return report


def _against_gold(
    chosen: np.ndarray[Any, np.dtype[np.float64]],
    rejected: np.ndarray[Any, np.dtype[np.float64]],
    pairs: Sequence[Preference],
    clusters: Sequence[str],
) -> dict[str, Any]:
    gold = np.array([[pair.scores["chosen"], pair.scores["rejected"]] for pair in pairs])
    better = np.where(gold[:, 0] > gold[:, 1], chosen, rejected)
    worse = np.where(gold[:, 0] > gold[:, 1], rejected, chosen)
    decided = gold[:, 0] != gold[:, 1]
    correlation = pearson(np.concatenate([chosen, rejected]), gold.T.flatten())
    if not decided.any():  # every pair ties, so there is no order to agree with
        return {}
    names = [cluster for cluster, keep in zip(clusters, decided, strict=True) if keep]
    return {
        "accuracy_against_gold": pairwise_accuracy_interval(better[decided], worse[decided], names).as_dict(),
        "correlation_with_gold": None if math.isnan(correlation) else correlation,
    }
