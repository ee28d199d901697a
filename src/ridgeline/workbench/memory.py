"""Memory of a stage, part by part: shapes are exact, activations are a rule of thumb."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ridgeline.models.distributions import CHUNK_LOGITS
from ridgeline.models.forward import HEAD_CHUNK
from ridgeline.schema.config import FUNCTION, marked
from ridgeline.schema.stages import (
    DistillStage,
    EvaluateStage,
    MergeStage,
    PreferenceStage,
    RejectStage,
    RewardModelStage,
    RlStage,
    Stage,
    UnpairedStage,
)
from ridgeline.schema.stages.common import Sampling
from ridgeline.stages.preference import objective_of as pair_objective_of
from ridgeline.stages.rl import objective_of
from ridgeline.workbench.costs import Setting, StageWork, adapter_of, sampled_at_once
from ridgeline.workbench.facts import ModelFacts

Parts = dict[str, float]
"""Bytes by name."""

SCORING_TOKENS = 2 * 2048
"""Tokens in a forward-only micro-batch at the default ``work.tokens_per_microbatch``."""


def stage_memory(stage: Stage, setting: Setting, work: StageWork, *, itemsize: int) -> Parts:
    """Bytes that ``stage`` holds at its peak; ``itemsize`` is that of the working weights."""
    room = Room(setting, work, itemsize)
    parts = ROOMS[stage.type](stage, room)
    return {name: size for name, size in parts.items() if size}


@dataclass(frozen=True)
class Room:
    """Sizes of the parts that stages are put together from."""

    setting: Setting
    work: StageWork
    itemsize: int

    @property
    def facts(self) -> ModelFacts:
        return self.setting.facts

    def model(self, facts: ModelFacts | None = None) -> float:
        """Weights in the working format."""
        return float((facts or self.facts).parameters * self.itemsize)

    def learner(self, stage: Any, parameters: float | None = None) -> Parts:
        """Weights in the working format, float32 masters and gradients, two float32 moments.

        With float32 weights the masters are the weights themselves. An adapter is kept in float32, and only
        what it adds is learned.
        """
        whole = self.facts.parameters if parameters is None else parameters
        adapter = adapter_of(stage)
        if adapter is not None:
            added = 4.0 * self.facts.adapter_parameters(adapter)
            return {
                "weights": whole * self.itemsize,
                "adapter": added,
                "Adam moments": 2 * added,
                "gradients": added,
            }
        masters = 4.0 * whole if self.itemsize < 4 else 0.0
        working_gradient = whole * self.itemsize if self.itemsize < 4 else 0.0
        return {
            "weights": whole * self.itemsize,
            "float32 masters": masters,
            "Adam moments": 8.0 * whole,
            "gradients": 4.0 * whole + working_gradient,
        }

    def learning(self, stage: Any) -> Parts:
        """What a micro-batch leaves for its backward pass; a unit is never split."""
        tokens = max(stage.work.tokens_per_microbatch, self.work.unit_tokens)
        # Logits of a chunk, their float32 copy, the log-softmax and the gradient of both.
        chunk = float(min(HEAD_CHUNK, tokens) * self.facts.vocabulary * (self.itemsize + 3 * 4))
        return {"logits chunk": chunk, "activations": self.activations(stage, tokens)}

    def activations(self, stage: Any, tokens: float) -> float:
        """About 10 hidden-sized and 4 feed-forward-sized tensors a layer; recomputed, only its input."""
        facts = self.facts
        per_layer = tokens * self.itemsize * (10 * facts.hidden + 4 * facts.intermediate + 2 * facts.kv_width)
        if stage.work.checkpointing:
            return float(per_layer + facts.layers * tokens * facts.hidden * self.itemsize)
        return float(per_layer * facts.layers)

    def forward_only(self, tokens: float) -> Parts:
        """Activations of one layer at a time."""
        facts = self.facts
        per_token = 10 * facts.hidden + 4 * facts.intermediate + 2 * facts.kv_width
        return {"activations": float(tokens * per_token * self.itemsize)}

    def reference(self, stage: Any, *, moves: bool = False) -> Parts:
        """A frozen copy; none where the policy without its adapter is the same."""
        shared = adapter_of(stage) is not None and getattr(stage, "reference", None) is None and not moves
        return {} if shared else {"reference": self.model()}

    def sampling(self, sampling: Sampling) -> Parts:
        """Keys and values of what is decoded side by side, and the logits of its next tokens."""
        rows, facts = sampled_at_once(self.work.completions), self.facts
        if not rows:
            return {}
        positions = self.work.prompt_tokens + sampling.max_new_tokens
        cache = 2.0 * facts.layers * facts.kv_width * self.itemsize * rows * positions
        # Logits, their float32 log-softmax and the float64 probabilities of the draw.
        logits = float(rows * facts.vocabulary * (self.itemsize + 4 + 8))
        return {"key-value cache": cache, "sampling logits": logits}

    def judges(self, stage: Stage) -> Parts:
        """The reward models that ``stage`` asks."""
        stages = self.setting.recipe.stage
        by_name = {each.name: each for each in stages if isinstance(each, RewardModelStage)}
        return {
            f"judge {function}": self.facts.backbone(by_name[function].layer) * self.itemsize
            for function in marked(stage, FUNCTION)
            if function in by_name
        }


def _sft(stage: Any, room: Room) -> Parts:
    return room.learner(stage) | room.learning(stage)


def _unpaired(stage: UnpairedStage, room: Room) -> Parts:
    return room.learner(stage) | room.reference(stage) | room.learning(stage)


def _preference(stage: PreferenceStage, room: Room) -> Parts:
    parts = room.learner(stage)
    if stage.online is not None or pair_objective_of(stage).needs_reference:
        parts |= room.reference(stage, moves=stage.refresh is not None)
    if stage.online is None:
        return parts | room.learning(stage)
    discriminator = stage.online.discriminator
    if discriminator is not None:
        layer = next(each for each in room.setting.recipe.stage if each.name == discriminator.start)
        assert isinstance(layer, RewardModelStage)
        parts["discriminator"] = room.facts.backbone(layer.layer) * room.itemsize
    return parts | room.judges(stage) | room.sampling(stage.online.sampling) | room.learning(stage)


def _reward_model(stage: RewardModelStage, room: Room) -> Parts:
    kept = room.facts.backbone(stage.layer)
    parts = {"language model": room.model()}
    if stage.backbone == "frozen":
        scoring = room.forward_only(2 * stage.work.tokens_per_microbatch)
        return parts | {"backbone": kept * room.itemsize} | scoring
    share = (stage.layer or room.facts.layers) / room.facts.layers
    tokens = max(stage.work.tokens_per_microbatch, room.work.unit_tokens)
    return parts | room.learner(stage, kept) | {"activations": share * room.activations(stage, tokens)}


def _rl(stage: RlStage, room: Room) -> Parts:
    parts = room.learner(stage) | room.reference(stage, moves=stage.repeat > 1) | room.judges(stage)
    if objective_of(stage).needs_critic:
        # A critic learns all of its weights, whatever the policy learns.
        parts["critic with its optimiser"] = sum(room.learner(None, room.facts.backbone()).values())
    return parts | room.sampling(stage.sampling) | room.learning(stage)


def _reject(stage: RejectStage, room: Room) -> Parts:
    if not stage.train:
        return {"weights": room.model()} | room.judges(stage) | room.sampling(stage.sampling)
    parts = room.learner(stage)
    if stage.control:
        parts["control with its optimiser"] = sum(room.learner(stage).values())
    if stage.heldout is not None:
        parts |= room.reference(stage)
    return parts | room.judges(stage) | room.sampling(stage.sampling) | room.learning(stage)


def _distill(stage: DistillStage, room: Room) -> Parts:
    parts = room.learner(stage)
    for teacher in stage.teacher:
        parts[f"teacher {teacher.model}"] = room.model(room.setting.teachers[teacher.model])
    if stage.privileged is not None and stage.privileged.average < 1:
        parts["teacher (a copy of the student)"] = room.model()
    # Logits of both sides, a chunk at a time, as in Room.learning.
    sides = 1 + len(stage.teacher)
    learning = room.learning(stage) | {"logits chunk": float(sides * CHUNK_LOGITS * (room.itemsize + 3 * 4))}
    return parts | room.judges(stage) | room.sampling(stage.sampling) | learning


def _merge(stage: MergeStage, room: Room) -> Parts:
    parts = {"two models": 2 * room.model()}
    if stage.heldout is None:
        return parts
    return parts | room.judges(stage) | room.sampling(stage.sampling) | room.forward_only(SCORING_TOKENS)


def _collect(stage: Any, room: Room) -> Parts:
    return {"weights": room.model()} | room.judges(stage) | room.sampling(stage.sampling)


def _evaluate(stage: EvaluateStage, room: Room) -> Parts:
    parts = {"weights": room.model(), "reference": room.model()}
    parts |= room.forward_only(SCORING_TOKENS)
    return parts | room.judges(stage) | room.sampling(stage.sampling)


ROOMS: dict[str, Callable[[Any, Room], Parts]] = {
    "sft": _sft,
    "collect": _collect,
    "reward_model": _reward_model,
    "preference": _preference,
    "unpaired": _unpaired,
    "rl": _rl,
    "reject": _reject,
    "distill": _distill,
    "merge": _merge,
    "evaluate": _evaluate,
}
