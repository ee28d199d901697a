"""Work of stages that learn from rows that exist: sft, reward_model, preference, unpaired."""

from __future__ import annotations

import math

from ridgeline.schema.stages import PreferenceStage, RewardModelStage, SftStage, UnpairedStage
from ridgeline.stages.preference import objective_of as pair_objective_of
from ridgeline.stages.reward_model_data import UNITS
from ridgeline.stages.unpaired import objective_of as unpaired_objective_of
from ridgeline.workbench.costs import Setting, StageWork, evaluations, learning_passes, micro_batches


def sft(stage: SftStage, setting: Setting) -> StageWork:
    """Passes over conversations."""
    whole = setting.data[stage.data]
    rows, held = setting.split(whole, stage.heldout)
    steps = max(1, math.ceil(stage.epochs * rows / stage.rows_per_step))
    tokens = stage.rows_per_step * whole.tokens
    measured = evaluations(steps, stage.evaluate_every)
    work = StageWork(unit_tokens=whole.tokens)
    work.counts = {
        "rows": rows,
        "held-out rows": held.rows,
        "mean tokens per row": round(whole.tokens, 1),
        "optimizer steps": steps,
        "tokens per step": round(tokens),
        "micro-batches per step": micro_batches(
            stage.rows_per_step, whole.tokens, stage.work.tokens_per_microbatch
        ),
        "evaluations": measured,
    }
    work.seconds["learning"] = setting.learn(stage, tokens * steps)
    work.seconds["evaluating"] = setting.forward(held.rows * held.tokens * measured)
    return work


def reward_model(stage: RewardModelStage, setting: Setting) -> StageWork:
    """Features once, or passes through the layers that are read."""
    whole, unit = setting.data[stage.data], UNITS[stage.loss]
    rows, held = setting.split(whole, stage.heldout)
    per_step = min(stage.pairs_per_step, max(rows, 1))
    steps = max(1, math.ceil(stage.epochs * rows / per_step))
    per_token = setting.facts.token_operations(stage.layer)
    work = StageWork(unit_tokens=whole.row_tokens)
    work.counts = {
        unit: rows,
        f"held-out {unit}": held.rows,
        "mean tokens per completion with prompt": round(whole.tokens, 1),
        "layers read": stage.layer or setting.facts.layers,
        "optimizer steps": steps,
    }
    held_tokens = held.rows * held.row_tokens
    if stage.backbone == "frozen":
        everything = rows * whole.row_tokens + held_tokens
        work.seconds["computing features once"] = setting.speed.forward(per_token * everything)
        return work
    tokens = per_step * whole.row_tokens
    work.counts["tokens per step"] = round(tokens)
    work.counts["micro-batches per step"] = micro_batches(
        per_step, whole.row_tokens, stage.work.tokens_per_microbatch
    )
    passes = learning_passes(stage, setting.facts)
    work.seconds["learning"] = setting.speed.train(passes * per_token * tokens * steps)
    measured = evaluations(steps, stage.evaluate_every)
    work.seconds["evaluating"] = setting.speed.forward(measured * per_token * held_tokens)
    return work


def preference(stage: PreferenceStage, setting: Setting) -> StageWork:
    """Pairs that exist: the reference sees each once (where it stays), the policy in every epoch."""
    assert stage.data is not None
    objective = pair_objective_of(stage)
    whole = setting.data[stage.data]
    rows, held = setting.split(whole, stage.heldout)
    per_step = min(stage.pairs_per_step, max(rows, 1))
    steps = max(1, math.ceil(stage.epochs * rows / per_step))
    sides = whole.sides + ("gold" in objective.needs)
    pair_tokens = sides * whole.tokens
    measured = evaluations(steps, stage.evaluate_every)
    held_tokens = held.rows * sides * held.tokens
    step_tokens = per_step * pair_tokens
    work = StageWork(unit_tokens=pair_tokens)
    work.counts = {
        "pairs": rows,
        "held-out pairs": held.rows,
        "mean tokens per completion with prompt": round(whole.tokens, 1),
        "optimizer steps": steps,
        "tokens per step": round(step_tokens),
        "micro-batches per step": micro_batches(per_step, pair_tokens, stage.work.tokens_per_microbatch),
        "evaluations": measured,
    }
    if objective.needs_reference:
        once = rows * pair_tokens + held_tokens
        moving = steps * step_tokens + measured * held_tokens
        work.seconds["comparing with the reference"] = setting.forward(moving if stage.refresh else once)
    passes = 1 if objective.whole_step else 0
    work.seconds["scoring whole steps"] = passes * setting.forward(step_tokens * steps)
    work.seconds["learning"] = setting.learn(stage, step_tokens * steps)
    work.seconds["evaluating"] = setting.forward(measured * held_tokens)
    return work


def unpaired(stage: UnpairedStage, setting: Setting) -> StageWork:
    """Single completions; KTO also scores each under the prompt of another row."""
    loss, _ = unpaired_objective_of(stage)
    whole = setting.data[stage.data]
    rows, held = setting.split(whole, stage.heldout)
    per_step = min(stage.rows_per_step, max(rows, 1))
    steps = max(1, math.ceil(stage.epochs * rows / per_step))
    tokens = per_step * whole.tokens
    measured = evaluations(steps, stage.evaluate_every)
    mismatched = rows if loss == "kto" else 0
    work = StageWork(unit_tokens=whole.tokens)
    work.counts = {
        "rows": rows,
        "held-out rows": held.rows,
        "mean tokens per completion with prompt": round(whole.tokens, 1),
        "optimizer steps": steps,
        "tokens per step": round(tokens),
        "micro-batches per step": micro_batches(per_step, whole.tokens, stage.work.tokens_per_microbatch),
        "evaluations": measured,
    }
    held_tokens = held.rows * held.tokens
    work.seconds["comparing with the reference"] = setting.forward(
        (rows + mismatched) * whole.tokens + held_tokens
    )
    settles = loss in ("kto", "bco")
    work.seconds["scoring whole steps"] = setting.forward(tokens * steps) if settles else 0.0
    work.seconds["learning"] = setting.learn(stage, tokens * steps)
    work.seconds["evaluating"] = setting.forward(measured * held_tokens)
    return work
