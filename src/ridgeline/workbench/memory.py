"""Memory of a stage, part by part: shapes are exact, activations are a rule of thumb."""

from __future__ import annotations

from ridgeline.models.forward import HEAD_CHUNK
from ridgeline.rollout.plain import PlainSampler
from ridgeline.schema.config import FUNCTION, marked
from ridgeline.schema.recipe import Recipe
from ridgeline.schema.stages import EvaluateStage, RewardModelStage, RlStage, SftStage, Stage
from ridgeline.schema.stages.common import Sampling
from ridgeline.stages.rl import objective_of
from ridgeline.workbench.facts import ModelFacts

Parts = dict[str, float]
"""Bytes by name."""

SCORING_TOKENS = 2 * 2048
"""Tokens in a forward-only micro-batch at the default ``work.tokens_per_microbatch``."""


def stage_memory(
    stage: Stage, recipe: Recipe, facts: ModelFacts, *, itemsize: int, prompt_tokens: float, completions: int
) -> Parts:
    """Bytes that ``stage`` holds at its peak; ``completions`` are sampled at one time at most."""
    if isinstance(stage, SftStage):
        return _learner(facts.parameters, itemsize) | _learning(
            facts, itemsize, stage.work.tokens_per_microbatch
        )
    if isinstance(stage, RewardModelStage):
        return _reward_model(stage, facts, itemsize)
    judges = _judges(stage, recipe, facts, itemsize)
    if isinstance(stage, RlStage):
        sampling = _sampling(stage.sampling, facts, itemsize, prompt_tokens, completions)
        parts = _learner(facts.parameters, itemsize) | {"reference": facts.parameters * itemsize} | judges
        if objective_of(stage).needs_critic:
            parts["critic with its optimiser"] = sum(_learner(facts.backbone(), itemsize).values())
        return parts | sampling | _learning(facts, itemsize, stage.work.tokens_per_microbatch)
    parts = {"weights": float(facts.parameters * itemsize)}
    if isinstance(stage, EvaluateStage):
        parts["reference"] = float(facts.parameters * itemsize)
        parts["activations"] = _activations(facts, itemsize, SCORING_TOKENS) / facts.layers
    return parts | judges | _sampling(stage.sampling, facts, itemsize, prompt_tokens, completions)


def _reward_model(stage: RewardModelStage, facts: ModelFacts, itemsize: int) -> Parts:
    kept = facts.backbone(stage.layer)
    budget = stage.work.tokens_per_microbatch
    parts = {"language model": float(facts.parameters * itemsize)}
    if stage.backbone == "frozen":
        per_layer = _activations(facts, itemsize, 2 * budget) / facts.layers
        return parts | {"backbone": kept * itemsize, "activations": per_layer}
    share = (stage.layer or facts.layers) / facts.layers
    return parts | _learner(kept, itemsize) | {"activations": _activations(facts, itemsize, budget) * share}


def _learner(parameters: float, itemsize: int) -> Parts:
    """Weights in the working format, float32 masters and gradients, two float32 moments.

    With float32 weights the masters are the weights themselves.
    """
    masters = 4.0 * parameters if itemsize < 4 else 0.0
    working_gradient = parameters * itemsize if itemsize < 4 else 0.0
    return {
        "weights": parameters * itemsize,
        "float32 masters": masters,
        "Adam moments": 8.0 * parameters,
        "gradients": 4.0 * parameters + working_gradient,
    }


def _learning(facts: ModelFacts, itemsize: int, tokens: int) -> Parts:
    # Logits of a chunk, their float32 copy, the log-softmax and the gradient of both.
    chunk = float(min(HEAD_CHUNK, tokens) * facts.vocabulary * (itemsize + 3 * 4))
    return {"logits chunk": chunk, "activations": _activations(facts, itemsize, tokens)}


def _activations(facts: ModelFacts, itemsize: int, tokens: float) -> float:
    """What the backward pass needs: about 10 hidden-sized and 4 feed-forward-sized tensors a layer."""
    per_token = 10 * facts.hidden + 4 * facts.intermediate + 2 * facts.kv_width
    return float(tokens * facts.layers * per_token * itemsize)


def _sampling(sampling: Sampling, facts: ModelFacts, itemsize: int, prompt: float, completions: int) -> Parts:
    rows = min(completions, PlainSampler.rows)
    positions = prompt + sampling.max_new_tokens
    cache = 2.0 * facts.layers * facts.kv_width * itemsize * rows * positions
    # Logits, their float32 log-softmax and the float64 probabilities of the draw.
    return {"key-value cache": cache, "sampling logits": float(rows * facts.vocabulary * (itemsize + 4 + 8))}


def _judges(stage: Stage, recipe: Recipe, facts: ModelFacts, itemsize: int) -> Parts:
    by_name = {each.name: each for each in recipe.stage if isinstance(each, RewardModelStage)}
    parts: Parts = {}
    for function in marked(stage, FUNCTION):
        if function in by_name:
            parts[f"judge {function}"] = facts.backbone(by_name[function].layer) * itemsize
    return parts
