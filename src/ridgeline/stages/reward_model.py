"""Reward modelling from pairs, rankings, outcomes or steps, with a frozen or a tuned backbone.

All of it goes through the same loop. With a frozen backbone the pooled features are computed once and only
the heads learn; the saved reward model is the same kind of folder either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ridgeline.models.batch import Row, Unit
from ridgeline.models.load import LanguageModel
from ridgeline.models.probe import supports_packing
from ridgeline.models.score_heads import HeadKind
from ridgeline.models.score_model import (
    ScoreModel,
    feature_forward,
    head_forward,
    score_forward,
    score_model_from,
)
from ridgeline.schema.errors import UsageError
from ridgeline.schema.records import Preference
from ridgeline.schema.run_folder import read_lines
from ridgeline.schema.stages import RewardModelStage
from ridgeline.stages.context import StageContext, ends
from ridgeline.stages.reward_model_data import UNITS, Judged, datasets
from ridgeline.stages.reward_model_examples import write_examples
from ridgeline.stages.reward_model_heads import START, assign_heads, head_kind, objective_for
from ridgeline.stages.reward_model_job import ROLE, RewardModelJob
from ridgeline.stages.reward_model_reports import combined_report
from ridgeline.statistics.bradley_terry import noise_ceiling
from ridgeline.training.local import LocalEngine

if TYPE_CHECKING:
    from peft import PeftModel

BACKBONE = "backbone"
FEATURE_BYTES = 4 * 2**30
"""Cached features of tokens beyond this are refused: they would silently fill the memory of a laptop."""
HEAD_TOKENS = 2**16
"""A head alone runs on many more tokens at a time than a backbone."""


def run(context: StageContext, config: RewardModelStage) -> dict[str, Any]:
    """Train, save, report held-out accuracy, calibration and the ceiling that label noise sets."""
    language_model = context.language_model(config.model)
    train, heldout = datasets(context, config, language_model.tokenizer)
    kind = head_kind(config, train)
    assign_heads(train, kind, context.seed)
    model = score_model_from(language_model, layer=config.layer, pooling=config.pooling, kind=kind, take=True)
    if config.members > 1:
        model.head.draw(START, context.seed)
    engine = LocalEngine(context.device)
    adapter = _add_roles(context, config, engine, language_model, model, (train, heldout))
    objective = objective_for(config, kind, model.head)
    context.train(engine, RewardModelJob(config, engine, objective, kind, train, heldout, context.seed))
    if adapter is not None:
        _merge(context, model, adapter)
    if not kind.per_token:
        _standardise(model, engine, train.units)
    context.observer.phase("saving the model")
    model.save(context.folder.model, language_model.tokenizer)
    whole = BACKBONE if config.backbone == "frozen" else ROLE
    write_examples(context.folder, engine, whole, kind, (train, heldout), language_model.tokenizer)
    return _result(context, config, engine, kind, (train, heldout))


def _result(
    context: StageContext,
    config: RewardModelStage,
    engine: LocalEngine,
    kind: HeadKind,
    data: tuple[Judged, Judged],
) -> dict[str, Any]:
    train, heldout = data
    before, after = ends(read_lines(context.folder.evaluations))
    unit = UNITS[config.loss]
    result: dict[str, Any] = {
        "loss": config.loss,
        unit: len(train.units),
        f"heldout_{unit}": len(heldout.units),
        "dropped": train.dropped,
        "before": {key: value for key, value in before.items() if key != "step"},
        "after": {key: value for key, value in after.items() if key != "step"},
    }
    if config.loss == "bradley_terry":
        result["ceiling"] = _ceiling(context, config, heldout)
    if config.members > 1 and heldout.units:
        result["combined"] = combined_report(heldout, engine.score(ROLE, heldout.units), kind)
    return result


def _add_roles(
    context: StageContext,
    config: RewardModelStage,
    engine: LocalEngine,
    language_model: LanguageModel,
    model: ScoreModel,
    data: tuple[Judged, Judged],
) -> PeftModel | None:
    """The role that learns, and with a frozen backbone the features it learns on."""
    packed = _packed(config, language_model)
    budget = config.work.tokens_per_microbatch
    if config.backbone == "frozen":
        engine.add(BACKBONE, model, feature_forward, packed=packed, tokens_per_microbatch=budget)
        _cache_features(context, engine, model, data)
        model.head.requires_grad_(True)
        whole = HEAD_TOKENS if model.kind.per_token else 2**40
        engine.add(ROLE, model.head, head_forward, tokens_per_microbatch=whole, optimiser=config.optimiser)
        return None
    adapter = None
    if config.adapter is not None:
        from ridgeline.models.adapters import add_adapter, trainable_share

        adapter = add_adapter(model.backbone, config.adapter, seed=context.seed)
        share = 100 * trainable_share(model.backbone)
        context.observer.note(
            f"{config.adapter.kind} of rank {config.adapter.rank}: {share:.2f} % of the weights learn"
        )
    engine.add(
        ROLE,
        model,
        score_forward,
        packed=packed,
        tokens_per_microbatch=budget,
        optimiser=config.optimiser,
        recompute=config.work.checkpointing,
    )
    return adapter


def _packed(config: RewardModelStage, language_model: LanguageModel) -> bool:
    supported = supports_packing(language_model.module, config.max_length)
    if config.work.layout == "packed" and not supported:
        raise UsageError('this model does not support work.layout = "packed"; use "auto".')
    return supported and config.work.layout != "padded"


def _merge(context: StageContext, model: ScoreModel, adapter: PeftModel) -> None:
    """The adapter by itself beside the model, and in the model's weights."""
    from ridgeline.models.adapters import merge

    adapter.save_pretrained(str(context.folder.adapter), save_embedding_layers=False)
    model.backbone = merge(adapter)


def _cache_features(
    context: StageContext, engine: LocalEngine, model: ScoreModel, data: tuple[Judged, Judged]
) -> None:
    """Features of every row, or of its scored tokens where the model answers there.

    Standardised by the training rows.
    """
    context.observer.phase("computing features")
    train, heldout = ([row for unit in part.units for row in unit] for part in data)
    rows = [*train, *heldout]
    _check_size(model, rows)
    distinct: dict[tuple[bytes, bytes], Row] = {}
    for row in rows:  # a completion stands in several pairs; its features are computed once
        distinct.setdefault(_key(row), row)
    units = _by_prompt(list(distinct.values()))
    scored = [row for unit in units for row in unit]
    features = {}
    for row, score in zip(scored, engine.score(BACKBONE, units), strict=True):
        own = score["features"]
        # A copy, so that the padding beside it can be freed.
        features[_key(row)] = own[: len(row.targets)].copy() if model.kind.per_token else own
    for row in rows:
        row.features = features[_key(row)]
    stacked = [row.features for row in train if row.features is not None]
    training = np.concatenate(stacked) if model.kind.per_token else np.stack(stacked)
    model.head.standardise_features(torch.from_numpy(training).to(context.device))


def _key(row: Row) -> tuple[bytes, bytes]:
    return row.ids.tobytes(), row.targets.tobytes()


def _by_prompt(rows: Sequence[Row]) -> list[Unit]:
    """Rows of one prompt together, so that a packed layout reads it once."""
    units: dict[bytes, Unit] = {}
    for row in rows:
        units.setdefault(row.ids[: row.prefix].tobytes(), []).append(row)
    return list(units.values())


def _check_size(model: ScoreModel, rows: Sequence[Row]) -> None:
    places = sum(len(row.targets) for row in rows) if model.kind.per_token else len(rows)
    size = 4 * places * model.head.linear.in_features
    if size > FEATURE_BYTES:
        raise UsageError(
            f"the features of {places} tokens take {size / 2**30:.1f} GiB, and {FEATURE_BYTES // 2**30} are "
            'the limit; use fewer rows, or backbone = "full" with an adapter.'
        )


def _standardise(model: ScoreModel, engine: LocalEngine, units: Sequence[Unit]) -> None:
    """Scores of the training completions get mean 0 and deviation 1, head by head.

    A KL coefficient then means the same whatever the head's scale, and members of an ensemble differ by what
    they say and not by their free levels. Calibration is measured before, on the scale on which differences
    are log-odds.
    """
    scores_RK = np.array([score["heads"][0] for score in engine.score(ROLE, units)])
    model.head.standardise_scores(torch.from_numpy(scores_RK).to(model.head.offset.device))


def _ceiling(context: StageContext, config: RewardModelStage, heldout: Judged) -> dict[str, float] | None:
    """The best accuracy and loss that any model could reach, known when the annotator was simulated."""
    stage = next((stage for stage in context.recipe.stage if stage.name == config.data), None)
    pairs = [entry.item for entry in heldout.entries if isinstance(entry.item, Preference)]
    if not pairs or stage is None or stage.type != "collect" or stage.annotator.shuffle_labels:
        return None
    gaps = [pair.scores["chosen"] - pair.scores["rejected"] for pair in pairs]
    ceiling = noise_ceiling(np.abs(gaps), stage.annotator.temperature)
    return {"accuracy": ceiling.accuracy, "nll": ceiling.nll}
