"""Batch arithmetic of a stage: how many rows, steps and tokens, and what they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ridgeline.rollout.plain import PlainSampler
from ridgeline.schema.recipe import Recipe
from ridgeline.schema.stages import CollectStage, EvaluateStage, RewardModelStage, RlStage, SftStage, Stage
from ridgeline.stages.rl import objective_of
from ridgeline.workbench.facts import DataFacts, ModelFacts
from ridgeline.workbench.machine import Speed

Numbers = dict[str, float | str]


@dataclass
class StageWork:
    """Counts to read, seconds by kind of work, and what memory depends on.

    Lengths of completions are unknown before sampling, so each is taken at its limit: an upper bound.
    """

    counts: Numbers = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    completions: int = 1
    prompt_tokens: float = 0.0

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())


def stage_work(
    stage: Stage, recipe: Recipe, data: dict[str, DataFacts], facts: ModelFacts, speed: Speed
) -> StageWork:
    """Arithmetic of ``stage``; ``data`` maps each of its sources to what is in it."""
    if isinstance(stage, SftStage):
        return _sft(stage, data, facts, speed)
    if isinstance(stage, RewardModelStage):
        return _reward_model(stage, recipe, data, facts, speed)
    if isinstance(stage, RlStage):
        return _rl(stage, data, facts, speed)
    return _sampled(stage, data[stage.prompts], facts, speed)


def _sft(stage: SftStage, data: dict[str, DataFacts], facts: ModelFacts, speed: Speed) -> StageWork:
    whole = data[stage.data]
    heldout = (
        data[stage.heldout].rows if isinstance(stage.heldout, str) else round(stage.heldout * whole.rows)
    )
    rows = whole.rows if isinstance(stage.heldout, str) else whole.rows - heldout
    steps = max(1, math.ceil(stage.epochs * rows / stage.rows_per_step))
    tokens = stage.rows_per_step * whole.tokens
    per_token = facts.token_operations() + facts.head_operations
    evaluations = 2 + (steps - 1) // stage.evaluate_every if stage.evaluate_every else 2
    work = StageWork()
    work.counts = {
        "rows": rows,
        "held-out rows": heldout,
        "mean tokens per row": round(whole.tokens, 1),
        "optimizer steps": steps,
        "tokens per step": round(tokens),
        "micro-batches per step": _micro_batches(
            stage.rows_per_step, whole.tokens, stage.work.tokens_per_microbatch
        ),
        "evaluations": evaluations,
    }
    work.seconds["learning"] = speed.train(3 * per_token * tokens * steps)
    work.seconds["evaluating"] = speed.forward(per_token * heldout * whole.tokens * evaluations)
    return work


def _reward_model(
    stage: RewardModelStage, recipe: Recipe, data: dict[str, DataFacts], facts: ModelFacts, speed: Speed
) -> StageWork:
    whole = data[stage.data]
    heldout = (
        data[stage.heldout].rows if isinstance(stage.heldout, str) else round(stage.heldout * whole.rows)
    )
    pairs = whole.rows if isinstance(stage.heldout, str) else whole.rows - heldout
    per_step = min(stage.pairs_per_step, max(pairs, 1))
    steps = max(1, math.ceil(stage.epochs * pairs / per_step))
    per_token = facts.token_operations(stage.layer)
    everything = 2 * (pairs + heldout) * whole.tokens
    work = StageWork()
    work.counts = {
        "pairs": pairs,
        "held-out pairs": heldout,
        "mean tokens per completion with prompt": round(whole.tokens, 1),
        "layers read": stage.layer or facts.layers,
        "optimizer steps": steps,
    }
    if stage.backbone == "frozen":
        work.seconds["computing features once"] = speed.forward(per_token * everything)
        return work
    tokens = 2 * per_step * whole.tokens
    work.counts["tokens per step"] = round(tokens)
    work.counts["micro-batches per step"] = _micro_batches(
        per_step, 2 * whole.tokens, stage.work.tokens_per_microbatch
    )
    work.seconds["learning"] = speed.train(3 * per_token * tokens * steps)
    work.seconds["evaluating"] = speed.forward(2 * per_token * 2 * heldout * whole.tokens)
    return work


def _rl(stage: RlStage, data: dict[str, DataFacts], facts: ModelFacts, speed: Speed) -> StageWork:
    prompts = data[stage.prompts]
    per_rollout = min(stage.prompts_per_step, prompts.rows)
    completions = per_rollout * stage.samples_per_prompt
    new = stage.sampling.max_new_tokens
    updates = stage.updates_per_rollout * stage.epochs_per_rollout
    row = prompts.tokens + new
    group = prompts.tokens + stage.samples_per_prompt * new
    critic = objective_of(stage).needs_critic
    evaluations = 2 + (stage.steps - 1) // stage.evaluate_every if stage.evaluate_every else 2
    work = StageWork(completions=completions, prompt_tokens=prompts.tokens)
    work.counts = {
        "prompts": prompts.rows,
        "mean tokens per prompt": round(prompts.tokens, 1),
        "rollouts": stage.steps,
        "prompts per rollout": per_rollout,
        "completions per rollout": completions,
        "tokens per rollout, at most": round(completions * new),
        "passes over the prompts": round(stage.steps * per_rollout / prompts.rows, 2),
        "optimizer steps": stage.steps * updates,
        "micro-batches per step": _micro_batches(
            math.ceil(per_rollout / stage.updates_per_rollout),
            stage.samples_per_prompt * row,
            stage.work.tokens_per_microbatch,
        ),
        "completions decoded at a time": min(completions, PlainSampler.rows),
    }
    through = facts.token_operations() * per_rollout * group
    head = facts.head_operations * completions * new
    scored = 1 + (updates > 1) + critic
    work.seconds["sampling"] = stage.steps * speed.decode(through + head)
    work.seconds["reference and scoring"] = stage.steps * speed.forward(scored * (through + head))
    learning = (1 + critic) * stage.epochs_per_rollout
    work.seconds["learning"] = stage.steps * speed.train(3 * learning * (through + head))
    if stage.heldout is not None:
        heldout = data[stage.heldout]
        count = heldout.rows * stage.evaluation_samples * evaluations
        work.counts["evaluations"] = evaluations
        work.counts["held-out completions per evaluation"] = heldout.rows * stage.evaluation_samples
        per_token = facts.token_operations() + facts.head_operations
        work.seconds["evaluating"] = speed.decode(per_token * count * new) + speed.forward(
            2 * per_token * count * (heldout.tokens + new)
        )
    return work


def _sampled(
    stage: CollectStage | EvaluateStage, prompts: DataFacts, facts: ModelFacts, speed: Speed
) -> StageWork:
    models = len(stage.models) if isinstance(stage, EvaluateStage) else 1
    completions = prompts.rows * stage.samples_per_prompt
    new = stage.sampling.max_new_tokens
    per_token = facts.token_operations() + facts.head_operations
    work = StageWork(completions=completions, prompt_tokens=prompts.tokens)
    work.counts = {
        "prompts": prompts.rows,
        "mean tokens per prompt": round(prompts.tokens, 1),
        "models": models,
        "completions per model": completions,
        "tokens per model, at most": completions * new,
    }
    if isinstance(stage, CollectStage):
        possible = prompts.rows * math.comb(stage.samples_per_prompt, 2)
        work.counts |= {"pairs asked for": stage.pairs, "pairs possible": possible}
        del work.counts["models"]
    decoded = prompts.rows * prompts.tokens + completions * new
    work.seconds["sampling"] = models * speed.decode(per_token * decoded)
    if isinstance(stage, EvaluateStage):
        scored = completions * (prompts.tokens + new)
        work.seconds["comparing with the reference"] = models * speed.forward(2 * per_token * scored)
    return work


def _micro_batches(units: int, tokens_per_unit: float, budget: int) -> int:
    """Whole units fill each micro-batch; a unit beyond the budget has one of its own."""
    fitting = max(1, int(budget // max(tokens_per_unit, 1.0)))
    return math.ceil(units / fitting)
