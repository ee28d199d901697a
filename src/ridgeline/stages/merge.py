"""Model merging: one model out of several by arithmetic on their weights, and what became of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from ridgeline.models import merge
from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import LanguageModel
from ridgeline.models.merge import StoredModel
from ridgeline.rewards.combine import TOTAL, RewardSet
from ridgeline.schema.errors import RunError
from ridgeline.schema.records import Sample
from ridgeline.schema.stages.common import Work
from ridgeline.schema.stages.merge import TASK_METHODS, MergeStage
from ridgeline.stages.collecting import sample_in_parts
from ridgeline.stages.context import StageContext, requests_for
from ridgeline.stages.heldout import differences
from ridgeline.stages.judging import reward_set
from ridgeline.stages.measuring import measurements
from ridgeline.training.local import LocalEngine

Formula = Callable[[str, Tensor, list[Tensor]], Tensor]
"""(name, start, models) -> merged, for one parameter; the start is the first model where none is needed."""


def run(context: StageContext, config: MergeStage) -> dict[str, Any]:
    """Merge, save, and report how far the merged model is from each of its parts.

    Memory holds at most two models: the parts wait on disk, in the stage's folder, and are read tensor by
    tensor. With ``heldout``, also the rewards of the first model (``before``) and the merged one.
    """
    waiting = context.folder.path / "merging"
    try:
        merged, stored = _stored(context, config)
        context.observer.phase(f"merging {len(config.models)} models ({config.method})")
        distances = _merge_into(merged, stored, config, _formula(config, stored, context.seed))
    except SafetensorError as error:
        raise RunError(
            f"stage '{config.name}' could not store its models in {waiting}: {error}; free some space, then: "
            f"ridgeline resume {context.run.path}."
        ) from None
    finally:
        shutil.rmtree(waiting, ignore_errors=True)
    context.save_model(merged)
    weights = {} if config.method == "ties" else dict(zip(config.models, config.shares, strict=True))
    compared = _compare(context, config, merged) if config.heldout is not None else {}
    return {"method": config.method, "weights": weights, "distance": distances, **compared}


def _stored(context: StageContext, config: MergeStage) -> tuple[LanguageModel, dict[str, StoredModel]]:
    """The first model, whose weights the merged ones will replace, and all of them on disk by name."""
    first = context.language_model(config.models[0])
    folder = context.folder.path / "merging"
    stored: dict[str, StoredModel] = {}
    for name in dict.fromkeys([*config.models, *_start(config)]):
        model = first if name == config.models[0] else context.language_model(name)
        merge.check_mergeable(first, model, (config.models[0], name))
        stored[name] = StoredModel.of(model.module, folder / f"{len(stored)}.safetensors")
    return first, stored


def _start(config: MergeStage) -> list[str]:
    return [config.start or "base"] if config.method in TASK_METHODS else []


def _formula(config: MergeStage, stored: Mapping[str, StoredModel], seed: int) -> Formula:
    shares, density = config.shares, config.density
    if config.method == "linear":
        return lambda name, start, models: merge.linear(models, shares)
    if config.method == "slerp":
        return lambda name, start, models: merge.slerp(models[0], models[1], shares[1])
    if config.method == "task_arithmetic":
        return lambda name, start, models: merge.task_arithmetic(start, models, shares)
    if config.method == "ties":
        thresholds = _thresholds(config, stored)
        scale = 1.0 if config.scale is None else config.scale
        return lambda name, start, models: merge.ties(start, models, thresholds, scale)
    assert density is not None

    def dare(name: str, start: Tensor, models: list[Tensor]) -> Tensor:
        kept = [merge.random_mask(start.shape, density, seed, model, name) for model in config.models]
        return merge.dare(start, models, shares, kept, density)

    return dare


def _thresholds(config: MergeStage, stored: Mapping[str, StoredModel]) -> list[float]:
    """Per model, the magnitude from which an entry of its task vector is kept, over all parameters."""
    start = stored[_start(config)[0]]

    def deltas(model: StoredModel) -> Iterable[Tensor]:
        return (model.tensor(name).float() - start.tensor(name).float() for name in model.names())

    density = 0.2 if config.density is None else config.density
    return [
        merge.trim_threshold(lambda model=stored[name]: deltas(model), density)  # type: ignore[misc]
        for name in config.models
    ]


@torch.no_grad()
def _merge_into(
    target: LanguageModel, stored: Mapping[str, StoredModel], config: MergeStage, formula: Formula
) -> dict[str, float]:
    """Replace the weights of ``target``; per model, the root mean square difference to the merged weights."""
    origin = stored[next(iter(_start(config)), config.models[0])]
    squares = dict.fromkeys(config.models, 0.0)
    entries = 0
    for name, parameter in target.module.named_parameters():
        models = [stored[model].tensor(name) for model in config.models]
        merged = formula(name, origin.tensor(name), models)
        parameter.copy_(merged)
        for model, tensor in zip(config.models, models, strict=True):
            squares[model] += float((merged - tensor.float()).square().sum(dtype=torch.float64))
        entries += merged.numel()
    return {model: float((total / entries) ** 0.5) for model, total in squares.items()}


def _compare(context: StageContext, config: MergeStage, merged: LanguageModel) -> dict[str, Any]:
    """The first model and the merged one on the same prompts and draws; KL is to the first."""
    assert config.heldout is not None
    rows = context.prompts(config.heldout)
    engine = LocalEngine(context.device)
    scoring = PolicyForward(temperature=config.sampling.temperature or 1.0)
    models = {"before": context.language_model(config.models[0]), "after": merged}
    for role, model in models.items():
        context.add_policy(engine, role, model, Work(), forward=scoring)
    rewards = reward_set(context, engine, config.rewards)
    requests = requests_for(merged, rows, config.samples_per_prompt)
    samples: dict[str, list[Sample]] = {}
    try:
        for role in models:
            folder = context.folder.samples / role
            samples[role] = sample_in_parts(
                context, engine, role, requests, config.sampling, folder, partial(_score, rewards)
            )
    finally:
        rewards.close()
    measured = {role: measurements(engine, role, samples[role], reference="before") for role in models}
    return {**measured, "difference": differences(samples["before"], samples["after"])}


def _score(rewards: RewardSet, samples: list[Sample]) -> None:
    """Every reward by itself: nothing is trained on their sum."""
    rewards.score(samples)
    for sample in samples:
        del sample.rewards[TOTAL]
