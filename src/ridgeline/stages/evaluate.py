"""Evaluation: several models on the same held-out prompts, with intervals over prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ridgeline.models.forward import PolicyForward
from ridgeline.rewards.combine import TOTAL, RewardSet
from ridgeline.rollout.store import write_samples
from ridgeline.rollout.traces import Pieces
from ridgeline.schema.records import Sample
from ridgeline.schema.stages import EvaluateStage
from ridgeline.schema.stages.common import Work
from ridgeline.stages.collecting import sample_in_parts
from ridgeline.stages.context import StageContext, requests_for
from ridgeline.stages.judging import reward_set
from ridgeline.stages.measuring import measurements
from ridgeline.stages.recording import Recorder
from ridgeline.statistics.paired import paired_difference, win_rate
from ridgeline.training.local import LocalEngine


def run(context: StageContext, config: EvaluateStage) -> dict[str, Any]:
    """Per model: every reward, KL to the reference, length, stop share; wins and differences to the first."""
    rows = context.prompts(config.prompts)
    reference = context.language_model(config.reference or config.models[0])
    samples: dict[str, list[Sample]] = {}
    models: dict[str, dict[str, Any]] = {}
    for name in config.models:
        engine = LocalEngine(context.device)
        scoring = PolicyForward(temperature=config.sampling.temperature or 1.0)
        seen = replace(scoring, states=config.features)
        context.add_policy(engine, "reference", reference, Work(), forward=seen)
        model = context.language_model(name)
        context.add_policy(engine, name, model, Work(), forward=scoring)
        rewards = reward_set(context, engine, config.rewards)
        try:
            samples[name] = sample_in_parts(
                context,
                engine,
                name,
                requests_for(model, rows, config.samples_per_prompt),
                config.sampling,
                context.folder.samples / name,
                partial(_score, rewards),
            )
        finally:
            rewards.close()
        context.observer.phase(f"measuring {name}")
        recorder = Recorder(context.folder, Pieces(model.tokenizer))
        save = partial(recorder.save, name, samples[name])
        models[name] = measurements(engine, name, samples[name], save=save)
    write_samples(
        context.folder.samples / "all.parquet", [s for name in config.models for s in samples[name]]
    )
    deciding = config.rewards[0].function
    return {
        "baseline": config.models[0],
        "reference": config.reference or config.models[0],
        "deciding_reward": deciding,
        "prompts": len(rows),
        "models": models,
        "against_baseline": {
            name: _compare(samples[config.models[0]], samples[name], deciding) for name in config.models[1:]
        },
    }


def _score(rewards: RewardSet, samples: list[Sample]) -> None:
    """Every reward by itself: their sum is what a policy is trained on and means nothing here."""
    rewards.score(samples)
    for sample in samples:
        del sample.rewards[TOTAL]


def _compare(baseline: Sequence[Sample], other: Sequence[Sample], reward: str) -> dict[str, Any]:
    """Win rate over all pairs of samples of one prompt, and the difference of means, both over prompts."""
    sides = []
    for samples in (baseline, other):
        known = [(s.rewards[reward], s.prompt_id) for s in samples if s.rewards.get(reward) is not None]
        sides.append(([float(v) for v, _ in known if v is not None], [p for _, p in known]))
    (a, a_prompts), (b, b_prompts) = sides
    shared = set(a_prompts) & set(b_prompts)
    if not shared:
        return {}
    kept_a = [(v, p) for v, p in zip(a, a_prompts, strict=True) if p in shared]
    kept_b = [(v, p) for v, p in zip(b, b_prompts, strict=True) if p in shared]
    arguments = ([v for v, _ in kept_a], [v for v, _ in kept_b], [p for _, p in kept_a])
    clusters_b = [p for _, p in kept_b]
    return {
        "win_rate": win_rate(*arguments, clusters_b=clusters_b).as_dict(),
        "difference": paired_difference(*arguments, clusters_b=clusters_b).as_dict(),
    }
