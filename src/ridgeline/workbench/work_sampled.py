"""Work of stages that sample: collect, rl, preference made on the way, reject, evaluate, merge."""

from __future__ import annotations

import math

from ridgeline.schema.stages import (
    CollectStage,
    EvaluateStage,
    MergeStage,
    PreferenceStage,
    RejectStage,
    RlStage,
)
from ridgeline.schema.stages.merge import TASK_METHODS
from ridgeline.schema.stages.reject import PER_PROMPT
from ridgeline.stages.preference import objective_of as pair_objective_of
from ridgeline.stages.rl import objective_of
from ridgeline.workbench.costs import (
    Setting,
    StageWork,
    evaluations,
    learning_passes,
    micro_batches,
    sampled_at_once,
)
from ridgeline.workbench.data_facts import DataFacts

MERGED_PER_SECOND = 5e7
"""Weights of one model that a merge reads, stores and adds up in a second: two embedded models, one core."""


def rl(stage: RlStage, setting: Setting) -> StageWork:
    """Rollouts, a pass or more to score them, and the passes that learn."""
    prompts = setting.data[stage.prompts]
    per_rollout = min(stage.prompts_per_step, prompts.rows)
    completions = per_rollout * stage.samples_per_prompt
    new = stage.sampling.max_new_tokens
    updates = stage.updates_per_rollout * stage.epochs_per_rollout
    rollouts = stage.steps * stage.repeat
    critic = objective_of(stage).needs_critic
    group = prompts.tokens + stage.samples_per_prompt * new
    work = StageWork(completions=completions, prompt_tokens=prompts.tokens, unit_tokens=group)
    work.counts = {
        "prompts": prompts.rows,
        "mean tokens per prompt": round(prompts.tokens, 1),
        "rollouts": rollouts,
        "prompts per rollout": per_rollout,
        "completions per rollout": completions,
        "tokens per rollout, at most": round(completions * new),
        "passes over the prompts": round(rollouts * per_rollout / prompts.rows, 2),
        "optimizer steps": rollouts * updates,
        "micro-batches per step": micro_batches(
            math.ceil(per_rollout / stage.updates_per_rollout),
            stage.samples_per_prompt * (prompts.tokens + new),
            stage.work.tokens_per_microbatch,
        ),
        "completions decoded at a time": sampled_at_once(completions),
    }
    operations = setting.facts.token_operations() * per_rollout * group
    operations += setting.facts.head_operations * completions * new
    tries = 1 + stage.max_resampling
    work.seconds["sampling"] = rollouts * tries * setting.speed.decode(operations)
    scored = 1 + (updates > 1) + critic
    work.seconds["reference and scoring"] = rollouts * setting.speed.forward(scored * operations)
    passes = (learning_passes(stage, setting.facts) + 3 * critic) * stage.epochs_per_rollout
    work.seconds["learning"] = rollouts * setting.speed.train(passes * operations)
    if stage.pretrain is not None:
        mixed = min(stage.pretrain.max_length, setting.data[stage.pretrain.data].tokens)
        tokens = rollouts * updates * stage.pretrain.rows_per_step * mixed
        work.seconds["learning from other text"] = setting.learn(stage, tokens)
    if stage.heldout is not None:
        measured = evaluations(rollouts, stage.evaluate_every)
        _watch(work, setting, stage.heldout, stage.evaluation_samples, new, measured)
    return work


def collect(stage: CollectStage, setting: Setting) -> StageWork:
    """A pool of completions."""
    work = _pool(setting.data[stage.prompts], stage.samples_per_prompt, stage.sampling.max_new_tokens)
    possible = setting.data[stage.prompts].rows * math.comb(stage.samples_per_prompt, 2)
    work.counts |= {"pairs asked for": stage.pairs, "pairs possible": possible}
    work.seconds["sampling"] = setting.decode(_decoded(work, stage.sampling.max_new_tokens))
    return work


def evaluate(stage: EvaluateStage, setting: Setting) -> StageWork:
    """The same pool of every model, each scored by itself and by the reference."""
    return _compared(
        setting, stage.prompts, len(stage.models), stage.samples_per_prompt, stage.sampling.max_new_tokens
    )


def merge(stage: MergeStage, setting: Setting) -> StageWork:
    """Every weight of every model is read, stored and added up; then the comparison, if any."""
    models = len(stage.models) + (stage.method in TASK_METHODS)
    counts = {"models": len(stage.models), "parameters of each": setting.facts.parameters}
    work = StageWork()
    if stage.heldout is not None:
        work = _compared(setting, stage.heldout, 2, stage.samples_per_prompt, stage.sampling.max_new_tokens)
        work.counts["models compared"] = work.counts["models"]
    work.counts |= counts
    # ties looks at all weights once before, to find what it trims.
    passes = models * (2 if stage.method == "ties" else 1)
    work.seconds["merging"] = passes * setting.facts.parameters / MERGED_PER_SECOND
    return work


def preference(stage: PreferenceStage, setting: Setting) -> StageWork:
    """Pairs made on the way: sample, compare with the reference, learn."""
    online = stage.online
    assert online is not None
    objective = pair_objective_of(stage)
    prompts, new = setting.data[online.prompts], online.sampling.max_new_tokens
    per_step = min(online.prompts_per_step, prompts.rows)
    own = online.samples_per_prompt if online.method in ("dpo", "d2po") else 2
    learned = 1 if online.method == "nash_md" else 2
    row = prompts.tokens + learned * new
    work = StageWork(completions=per_step * own, prompt_tokens=prompts.tokens, unit_tokens=row)
    work.counts = {
        "prompts": prompts.rows,
        "mean tokens per prompt": round(prompts.tokens, 1),
        "optimizer steps": online.steps,
        "pairs per step, at most": per_step,
        "completions per step": per_step * own,
        "tokens per step, at most": per_step * own * new,
        "passes over the prompts": round(online.steps * per_step / prompts.rows, 2),
        "micro-batches per step": micro_batches(per_step, row, stage.work.tokens_per_microbatch),
        "completions decoded at a time": sampled_at_once(per_step * own),
    }
    # The mixture that nash_md plays against asks both models.
    models = 1.5 if online.method == "nash_md" else 1.0
    decoded = per_step * (prompts.tokens + own * new)
    work.seconds["sampling"] = online.steps * models * setting.decode(decoded)
    scored = 1 + objective.whole_step
    work.seconds["reference and scoring"] = online.steps * setting.forward(scored * per_step * row)
    work.seconds["learning"] = online.steps * setting.learn(stage, per_step * row)
    if online.heldout is not None:
        measured = evaluations(online.steps, stage.evaluate_every)
        _watch(work, setting, online.heldout, online.evaluation_samples, new, measured)
    return work


def reject(stage: RejectStage, setting: Setting) -> StageWork:
    """A pool for each round, and passes over what is selected of it; the control learns as much again."""
    prompts, new = setting.data[stage.prompts], stage.sampling.max_new_tokens
    work = _pool(prompts, stage.samples_per_prompt, new)
    pool = prompts.rows * stage.samples_per_prompt
    selected = prompts.rows * stage.number if stage.selection in PER_PROMPT else min(stage.number, pool)
    if stage.selection == "threshold":
        selected = pool
    work.counts |= {"rounds": stage.repeat, "completions selected per round, at most": selected}
    # In the first round the control has the policy's weights, hence its pool.
    pools = stage.repeat + (stage.repeat - 1) * (stage.train and stage.control)
    work.seconds["sampling"] = pools * setting.decode(_decoded(work, new))
    if not stage.train:
        return work
    learners = 1 + stage.control
    per_step = min(stage.rows_per_step, max(1, selected))
    steps = stage.repeat * max(1, math.ceil(stage.epochs * selected / per_step))
    row = work.unit_tokens = prompts.tokens + new
    work.counts |= {
        "optimizer steps, at most": steps,
        "micro-batches per step": micro_batches(per_step, row, stage.work.tokens_per_microbatch),
        "models that learn": learners,
    }
    work.seconds["learning"] = learners * setting.learn(stage, steps * per_step * row)
    if stage.heldout is not None:
        every = stage.evaluate_every
        measured = 1 + learners * (stage.repeat + ((steps - 1) // every if every else 0))
        _watch(work, setting, stage.heldout, stage.evaluation_samples, new, measured)
    return work


def _compared(setting: Setting, source: str, models: int, samples: int, new: int) -> StageWork:
    prompts = setting.data[source]
    work = _pool(prompts, samples, new)
    work.counts = {
        "prompts": prompts.rows,
        "mean tokens per prompt": round(prompts.tokens, 1),
        "models": models,
        "completions per model": prompts.rows * samples,
        "tokens per model, at most": prompts.rows * samples * new,
    }
    work.seconds["sampling"] = models * setting.decode(_decoded(work, new))
    scored = prompts.rows * samples * (prompts.tokens + new)
    work.seconds["comparing with the reference"] = models * setting.forward(2 * scored)
    return work


def _pool(prompts: DataFacts, samples: int, new: int) -> StageWork:
    completions = prompts.rows * samples
    work = StageWork(completions=completions, prompt_tokens=prompts.tokens)
    work.counts = {
        "prompts": prompts.rows,
        "mean tokens per prompt": round(prompts.tokens, 1),
        "completions": completions,
        "tokens, at most": completions * new,
    }
    return work


def _decoded(work: StageWork, new: int) -> float:
    """Tokens of a pool that pass the model: every prompt once, and what is written."""
    prompts = work.counts["prompts"]
    assert not isinstance(prompts, str)
    return prompts * work.prompt_tokens + work.completions * new


def _watch(work: StageWork, setting: Setting, source: str, samples: int, new: int, measured: int) -> None:
    """Held-out evaluations: sampled, then scored by the policy and the reference."""
    heldout = setting.data[source]
    count = heldout.rows * samples * measured
    work.counts["evaluations"] = measured
    work.counts["held-out completions per evaluation"] = heldout.rows * samples
    work.seconds["evaluating"] = setting.decode(count * new) + setting.forward(
        2 * count * (heldout.tokens + new)
    )
