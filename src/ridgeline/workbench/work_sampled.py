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
from ridgeline.schema.stages.common import Sampling
from ridgeline.schema.stages.merge import TASK_METHODS
from ridgeline.schema.stages.reject import PER_PROMPT
from ridgeline.stages.preference import objective_of as pair_objective_of
from ridgeline.stages.rl import objective_of
from ridgeline.workbench.costs import (
    LEARNING,
    STEPPING,
    Setting,
    StageWork,
    adapter_of,
    evaluations,
    micro_batches,
)
from ridgeline.workbench.data_facts import DataFacts
from ridgeline.workbench.shapes import Shape

MERGED_PER_SECOND = 5e7
"""Weights of one model that a merge reads, stores and adds up in a second: two embedded models, one core."""


def rl(stage: RlStage, setting: Setting) -> StageWork:
    """Rollouts, a pass or more to score them, and the passes that learn."""
    prompts = setting.data[stage.prompts]
    per_rollout = min(stage.prompts_per_step, prompts.rows)
    completions = per_rollout * stage.samples_per_prompt
    updates = stage.updates_per_rollout * stage.epochs_per_rollout
    rollouts, steps = stage.steps * stage.repeat, stage.steps * stage.repeat * updates
    critic = objective_of(stage).needs_critic
    longest, shape = _shapes(setting, prompts, stage.sampling, stage.samples_per_prompt)
    units = math.ceil(per_rollout / stage.updates_per_rollout)
    work = _sampling_work(setting, longest, completions, prompts)
    work.units, work.steps = units, steps
    work.counts = {
        "prompts": prompts.rows,
        "mean tokens per prompt": round(prompts.tokens, 1),
        "rollouts": rollouts,
        "prompts per rollout": per_rollout,
        "completions per rollout": completions,
        "tokens per rollout, at most": round(completions * longest.completion),
        "passes over the prompts": round(rollouts * per_rollout / prompts.rows, 2),
        "optimizer steps": steps,
        "micro-batches per step": micro_batches(units, longest, stage.work.tokens_per_microbatch),
        "completions decoded at a time": setting.sampled_at_once(
            completions, longest.prompt + longest.completion
        ),
    }
    tries = 1 + stage.max_resampling
    work.seconds["sampling"] = (
        rollouts
        * tries
        * setting.decode(per_rollout, prompts.tokens, stage.samples_per_prompt, stage.sampling)
    )
    scored = 1 + (updates > 1) + critic
    work.seconds["reference and scoring"] = setting.forward(
        stage, rollouts * scored * per_rollout, shape, states=stage.features
    )
    learned = per_rollout / stage.updates_per_rollout
    work.add(setting.learn(stage, steps, learned, shape, entropy=True, adapter=adapter_of(stage)))
    if critic:
        work.add(setting.learn(stage, steps, learned, shape, head=False))
    if stage.pretrain is not None:
        mixed = min(stage.pretrain.max_length, setting.data[stage.pretrain.data].tokens)
        extra = setting.learn(stage, steps, stage.pretrain.rows_per_step, Shape(1, mixed))
        work.seconds["learning from other text"] = extra[LEARNING]
    if stage.heldout is not None:
        measured = evaluations(rollouts, stage.evaluate_every)
        _watch(work, setting, stage, stage.heldout, stage.evaluation_samples, stage.sampling, measured)
    return work


def collect(stage: CollectStage, setting: Setting) -> StageWork:
    """A pool of completions."""
    prompts = setting.data[stage.prompts]
    work = _pool(setting, prompts, stage.samples_per_prompt, stage.sampling)
    possible = prompts.rows * math.comb(stage.samples_per_prompt, 2)
    work.counts |= {"pairs asked for": stage.pairs, "pairs possible": possible}
    work.seconds["sampling"] = setting.decode(
        prompts.rows, prompts.tokens, stage.samples_per_prompt, stage.sampling
    )
    return work


def evaluate(stage: EvaluateStage, setting: Setting) -> StageWork:
    """The same pool of every model, each scored by itself and by the reference."""
    return _compared(setting, stage, stage.prompts, len(stage.models))


def merge(stage: MergeStage, setting: Setting) -> StageWork:
    """Every weight of every model is read, stored and added up; then the comparison, if any."""
    models = len(stage.models) + (stage.method in TASK_METHODS)
    counts = {"models": len(stage.models), "parameters of each": setting.facts.parameters}
    work = StageWork()
    if stage.heldout is not None:
        work = _compared(setting, stage, stage.heldout, 2)
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
    prompts = setting.data[online.prompts]
    per_step = min(online.prompts_per_step, prompts.rows)
    own = online.samples_per_prompt if online.method in ("dpo", "d2po") else 2
    learned = 1 if online.method == "nash_md" else 2
    longest, shape = _shapes(setting, prompts, online.sampling, learned)
    work = _sampling_work(setting, longest, per_step * own, prompts)
    work.units, work.steps = per_step, online.steps
    work.counts = {
        "prompts": prompts.rows,
        "mean tokens per prompt": round(prompts.tokens, 1),
        "optimizer steps": online.steps,
        "pairs per step, at most": per_step,
        "completions per step": per_step * own,
        "tokens per step, at most": round(per_step * own * longest.completion),
        "passes over the prompts": round(online.steps * per_step / prompts.rows, 2),
        "micro-batches per step": micro_batches(per_step, longest, stage.work.tokens_per_microbatch),
        "completions decoded at a time": setting.sampled_at_once(
            per_step * own, longest.prompt + longest.completion
        ),
    }
    # The mixture that nash_md plays against asks both models.
    models = 1.5 if online.method == "nash_md" else 1.0
    work.seconds["sampling"] = (
        online.steps * models * setting.decode(per_step, prompts.tokens, own, online.sampling)
    )
    scored = 1 + objective.whole_step
    work.seconds["reference and scoring"] = setting.forward(stage, online.steps * scored * per_step, shape)
    work.add(setting.learn(stage, online.steps, per_step, shape, adapter=adapter_of(stage)))
    if online.heldout is not None:
        measured = evaluations(online.steps, stage.evaluate_every)
        _watch(work, setting, stage, online.heldout, online.evaluation_samples, online.sampling, measured)
    return work


def reject(stage: RejectStage, setting: Setting) -> StageWork:
    """A pool for each round, and passes over what is selected of it; the control learns as much again."""
    prompts = setting.data[stage.prompts]
    work = _pool(setting, prompts, stage.samples_per_prompt, stage.sampling)
    pool = prompts.rows * stage.samples_per_prompt
    selected = prompts.rows * stage.number if stage.selection in PER_PROMPT else min(stage.number, pool)
    if stage.selection == "threshold":
        selected = pool
    work.counts |= {"rounds": stage.repeat, "completions selected per round, at most": selected}
    # In the first round the control has the policy's weights, hence its pool.
    pools = stage.repeat + (stage.repeat - 1) * (stage.train and stage.control)
    work.seconds["sampling"] = pools * setting.decode(
        prompts.rows, prompts.tokens, stage.samples_per_prompt, stage.sampling
    )
    if not stage.train:
        return work
    learners = 1 + stage.control
    per_step = min(stage.rows_per_step, max(1, selected))
    steps = stage.repeat * max(1, math.ceil(stage.epochs * selected / per_step))
    work.shape, shape = _shapes(setting, prompts, stage.sampling, 1)
    work.units, work.steps, work.in_steps = per_step, steps, (LEARNING, STEPPING)
    work.counts |= {
        "optimizer steps, at most": steps,
        "micro-batches per step": micro_batches(per_step, work.shape, stage.work.tokens_per_microbatch),
        "models that learn": learners,
    }
    work.add(setting.learn(stage, learners * steps, per_step, shape, entropy=True, adapter=adapter_of(stage)))
    if stage.heldout is not None:
        every = stage.evaluate_every
        measured = 1 + learners * (stage.repeat + ((steps - 1) // every if every else 0))
        _watch(work, setting, stage, stage.heldout, stage.evaluation_samples, stage.sampling, measured)
    return work


def _shapes(setting: Setting, prompts: DataFacts, sampling: Sampling, samples: int) -> tuple[Shape, Shape]:
    """A prompt with its completions at their longest, and as long as is expected."""
    return (
        Shape(prompts.tokens, sampling.max_new_tokens, samples),
        Shape(prompts.tokens, setting.written(sampling), samples),
    )


def _sampling_work(setting: Setting, longest: Shape, completions: int, prompts: DataFacts) -> StageWork:
    unknown = setting.mean_tokens is None
    return StageWork(shape=longest, completions=completions, prompt_tokens=prompts.tokens, at_most=unknown)


def _compared(setting: Setting, stage: EvaluateStage | MergeStage, source: str, models: int) -> StageWork:
    prompts, samples, sampling = setting.data[source], stage.samples_per_prompt, stage.sampling
    work = _pool(setting, prompts, samples, sampling)
    longest, shape = _shapes(setting, prompts, sampling, samples)
    work.counts = {
        "prompts": prompts.rows,
        "mean tokens per prompt": round(prompts.tokens, 1),
        "models": models,
        "completions per model": prompts.rows * samples,
        "tokens per model, at most": round(prompts.rows * longest.scored),
    }
    work.seconds["sampling"] = models * setting.decode(prompts.rows, prompts.tokens, samples, sampling)
    work.seconds["comparing with the reference"] = setting.forward(stage, 2 * models * prompts.rows, shape)
    return work


def _pool(setting: Setting, prompts: DataFacts, samples: int, sampling: Sampling) -> StageWork:
    longest, _ = _shapes(setting, prompts, sampling, samples)
    completions = prompts.rows * samples
    work = _sampling_work(setting, longest, completions, prompts)
    work.counts = {
        "prompts": prompts.rows,
        "mean tokens per prompt": round(prompts.tokens, 1),
        "completions": completions,
        "tokens, at most": round(prompts.rows * longest.scored),
    }
    return work


def _watch(
    work: StageWork,
    setting: Setting,
    stage: RlStage | PreferenceStage | RejectStage,
    source: str,
    samples: int,
    sampling: Sampling,
    measured: int,
) -> None:
    """Held-out evaluations: sampled, then scored by the policy and the reference."""
    heldout = setting.data[source]
    _, shape = _shapes(setting, heldout, sampling, samples)
    work.counts["evaluations"] = measured
    work.counts["held-out completions per evaluation"] = heldout.rows * samples
    once = setting.decode(heldout.rows, heldout.tokens, samples, sampling)
    work.seconds["evaluating"] = measured * (once + setting.forward(stage, 2 * heldout.rows, shape))
