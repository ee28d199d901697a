"""Preference collection: sample, pair within a prompt, annotate."""

from __future__ import annotations

from typing import Any

from ridgeline.models.forward import PolicyForward
from ridgeline.preferences.annotators import SimulatedAnnotator
from ridgeline.preferences.pairing import draw_pairs
from ridgeline.preferences.store import summary, write_preferences
from ridgeline.rewards.function_reward import FunctionReward
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Sample
from ridgeline.schema.stages import CollectStage
from ridgeline.schema.stages.common import RewardSpec, Work
from ridgeline.stages.collecting import sample_in_parts
from ridgeline.stages.context import StageContext, requests_for
from ridgeline.stages.judging import component_for
from ridgeline.training.local import LocalEngine

OUTPUT = "preferences.jsonl"


def run(context: StageContext, config: CollectStage) -> dict[str, Any]:
    """Write ``preferences.jsonl``; report label accuracy and what limits it."""
    model = context.language_model(config.model)
    rows = context.prompts(config.prompts)
    engine = LocalEngine(context.device)
    context.add_policy(engine, "policy", model, Work(), forward=PolicyForward())
    gold = component_for(context, engine, RewardSpec(function=config.annotator.gold))

    def score(samples: list[Sample]) -> None:
        for sample, value in zip(samples, gold(samples), strict=True):
            sample.rewards["gold"] = value

    try:
        requests = requests_for(model, rows, config.samples_per_prompt)
        samples = sample_in_parts(
            context, engine, "policy", requests, config.sampling, context.folder.samples, score
        )
    finally:
        gold.close()
        if isinstance(gold, FunctionReward) and gold.first_failure is not None:
            context.warn(gold.first_failure)
    context.observer.phase("annotating pairs")
    messages = {row.id: row.messages for row in rows}
    drawn = draw_pairs(samples, config.pairs, context.seed)
    if drawn.unscored:
        context.warn(f"{drawn.unscored} samples have no gold reward and were left out")
    if drawn.identical:
        context.warn(f"{drawn.identical} pairs of identical texts were left out")
    if not drawn.pairs:
        raise DataError(
            f"stage '{config.name}': no pair can be drawn; raise samples_per_prompt or max_new_tokens."
        )
    if len(drawn.pairs) < config.pairs:
        context.warn(f"{config.pairs} pairs were asked for, only {len(drawn.pairs)} exist")
    annotator = SimulatedAnnotator(
        temperature=config.annotator.temperature,
        seed=context.seed,
        shuffle_labels=config.annotator.shuffle_labels,
        gold_name=config.annotator.gold,
    )
    shuffled = config.annotator.shuffle_labels
    preferences = [annotator.annotate(a, b, messages[a.prompt_id]) for a, b in drawn.pairs]
    write_preferences(context.folder.path / OUTPUT, preferences)
    return {
        "samples": len(samples),
        "stopped": sum(not sample.truncated for sample in samples) / len(samples),
        "length": sum(len(sample.completion_ids) for sample in samples) / len(samples),
        **summary(preferences, temperature=None if shuffled else config.annotator.temperature),
    }
