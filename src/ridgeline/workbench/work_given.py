"""Work of stages that learn from rows that exist: sft, reward_model, preference, unpaired."""

from __future__ import annotations

import math
from dataclasses import replace

from ridgeline.schema.stages import PreferenceStage, RewardModelStage, SftStage, UnpairedStage
from ridgeline.stages.preference import objective_of as pair_objective_of
from ridgeline.stages.reward_model_data import UNITS
from ridgeline.stages.unpaired import objective_of as unpaired_objective_of
from ridgeline.workbench.costs import Setting, StageWork, adapter_of, evaluations, micro_batches


def sft(stage: SftStage, setting: Setting) -> StageWork:
    """Passes over conversations."""
    whole = setting.data[stage.data]
    rows, held = setting.split(whole, stage.heldout)
    steps = max(1, math.ceil(stage.epochs * rows / stage.rows_per_step))
    shape, units = whole.shape, min(stage.rows_per_step, max(rows, 1))
    measured = evaluations(steps, stage.evaluate_every)
    work = StageWork(shape=shape, units=units, steps=steps)
    work.counts = {
        "rows": rows,
        "held-out rows": held.rows,
        "mean tokens per row": round(whole.tokens, 1),
        "optimizer steps": steps,
        "tokens per step": round(units * whole.tokens),
        "micro-batches per step": micro_batches(units, shape, stage.work.tokens_per_microbatch),
        "evaluations": measured,
    }
    work.add(setting.learn(stage, steps, units, shape, adapter=adapter_of(stage)))
    work.seconds["evaluating"] = setting.forward(stage, held.rows * measured, held.shape)
    return work


def reward_model(stage: RewardModelStage, setting: Setting) -> StageWork:
    """Features once, or passes through the layers that are read."""
    whole, unit = setting.data[stage.data], UNITS[stage.loss]
    rows, held = setting.split(whole, stage.heldout)
    units = min(stage.pairs_per_step, max(rows, 1))
    steps = max(1, math.ceil(stage.epochs * rows / units))
    shape = whole.shape
    work = StageWork(shape=shape, units=units, steps=steps)
    work.counts = {
        unit: rows,
        f"held-out {unit}": held.rows,
        "mean tokens per completion with prompt": round(whole.tokens, 1),
        "layers read": stage.layer or setting.facts.layers,
        "optimizer steps": steps,
    }
    if stage.backbone == "frozen":
        work.seconds["computing features once"] = setting.forward(
            stage, rows, shape, layers=stage.layer, head=False
        ) + setting.forward(stage, held.rows, held.shape, layers=stage.layer, head=False)
        return work
    work.counts["tokens per step"] = round(units * shape.tokens(setting.packed(stage)))
    work.counts["micro-batches per step"] = micro_batches(units, shape, stage.work.tokens_per_microbatch)
    work.add(
        setting.learn(stage, steps, units, shape, layers=stage.layer, head=False, adapter=adapter_of(stage))
    )
    measured = evaluations(steps, stage.evaluate_every)
    work.seconds["evaluating"] = setting.forward(
        stage, measured * held.rows, held.shape, layers=stage.layer, head=False
    )
    return work


def preference(stage: PreferenceStage, setting: Setting) -> StageWork:
    """Pairs that exist: the reference sees each once (where it stays), the policy in every epoch."""
    assert stage.data is not None
    objective = pair_objective_of(stage)
    whole = setting.data[stage.data]
    rows, held = setting.split(whole, stage.heldout)
    units = min(stage.pairs_per_step, max(rows, 1))
    steps = max(1, math.ceil(stage.epochs * rows / units))
    shape = replace(whole.shape, completions=whole.sides + ("gold" in objective.needs))
    held_shape = replace(held.shape, completions=shape.completions)
    measured = evaluations(steps, stage.evaluate_every)
    work = StageWork(shape=shape, units=units, steps=steps)
    if stage.refresh:
        work.in_steps = (*work.in_steps, "comparing with the reference")
    work.counts = {
        "pairs": rows,
        "held-out pairs": held.rows,
        "mean tokens per completion with prompt": round(whole.tokens, 1),
        "optimizer steps": steps,
        "tokens per step": round(units * shape.tokens(setting.packed(stage))),
        "micro-batches per step": micro_batches(units, shape, stage.work.tokens_per_microbatch),
        "evaluations": measured,
    }
    if objective.needs_reference:
        learned, watched = (steps * units, measured * held.rows) if stage.refresh else (rows, held.rows)
        work.seconds["comparing with the reference"] = setting.forward(
            stage, learned, shape
        ) + setting.forward(stage, watched, held_shape)
    if objective.whole_step:
        work.seconds["scoring whole steps"] = setting.forward(stage, steps * units, shape)
    work.add(setting.learn(stage, steps, units, shape, adapter=adapter_of(stage)))
    work.seconds["evaluating"] = setting.forward(stage, measured * held.rows, held_shape)
    return work


def unpaired(stage: UnpairedStage, setting: Setting) -> StageWork:
    """Single completions; KTO also scores each under the prompt of another row."""
    loss, _ = unpaired_objective_of(stage)
    whole = setting.data[stage.data]
    rows, held = setting.split(whole, stage.heldout)
    units = min(stage.rows_per_step, max(rows, 1))
    steps = max(1, math.ceil(stage.epochs * rows / units))
    shape = whole.shape
    measured = evaluations(steps, stage.evaluate_every)
    mismatched = rows if loss == "kto" else 0
    work = StageWork(shape=shape, units=units, steps=steps)
    work.counts = {
        "rows": rows,
        "held-out rows": held.rows,
        "mean tokens per completion with prompt": round(whole.tokens, 1),
        "optimizer steps": steps,
        "tokens per step": round(units * whole.tokens),
        "micro-batches per step": micro_batches(units, shape, stage.work.tokens_per_microbatch),
        "evaluations": measured,
    }
    work.seconds["comparing with the reference"] = setting.forward(
        stage, rows + mismatched, shape
    ) + setting.forward(stage, held.rows, held.shape)
    if loss in ("kto", "bco"):
        work.seconds["scoring whole steps"] = setting.forward(stage, steps * units, shape)
    work.add(setting.learn(stage, steps, units, shape, adapter=adapter_of(stage)))
    work.seconds["evaluating"] = setting.forward(stage, measured * held.rows, held.shape)
    return work
