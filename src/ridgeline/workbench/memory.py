"""Memory of a stage, part by part: shapes are exact, activations are counted on a stand-in of the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ridgeline.models.distributions import CHUNK_LOGITS
from ridgeline.models.kernels.pages import LANES
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
from ridgeline.schema.stages.common import Sampling, Work
from ridgeline.stages.preference import objective_of as pair_objective_of
from ridgeline.stages.rl import objective_of
from ridgeline.workbench.activations import kept, logits_bytes
from ridgeline.workbench.costs import Setting, StageWork, adapter_of, units_at_once
from ridgeline.workbench.facts import ModelFacts
from ridgeline.workbench.stand_in import StandIns

Parts = dict[str, float]
"""Bytes by name."""

PASSING = ("activations", "logits", "gradients in the working format", "activations and logits of scoring")
"""Parts that come and go within a step."""
STAYING = 0.6
"""Of what comes and goes, how much more than its size the allocator ends up holding.

Freed blocks stay with the process (training/allocator.py), and parts of other sizes do not fit into them.
Calibrated on peak resident memory of five steps of the embedded model, in a process of its own per stage: as
measured by benchmarks/plan_accuracy.py, the ratio of planned to measured was 0.95 (sft), 0.98 (reward_model,
preference), 0.76 (preference with an adapter) and 0.78 (rl) without it; with it 0.92 (rl) to 1.03.
"""


def stage_memory(stage: Stage, setting: Setting, work: StageWork) -> Parts:
    """Bytes that ``stage`` holds at its peak, without what Python and its libraries need."""
    room = Room(setting, work)
    parts = ROOMS[stage.type](stage, room)
    if room.models.device.type == "cpu":
        passing = sum(parts.get(name, 0.0) for name in PASSING)
        parts |= {"freed blocks that stay": STAYING * passing}
    return {name: size for name, size in parts.items() if size}


@dataclass(frozen=True)
class Room:
    """Sizes of the parts that stages are put together from."""

    setting: Setting
    work: StageWork

    @property
    def facts(self) -> ModelFacts:
        return self.setting.facts

    @property
    def models(self) -> StandIns:
        return self.setting.passes.models

    @property
    def itemsize(self) -> int:
        """Bytes of a number in the working format."""
        return torch.finfo(self.models.dtype).bits // 8

    def model(self, facts: ModelFacts | None = None) -> float:
        """Weights in the working format."""
        return float((facts or self.facts).parameters * self.itemsize)

    def learner(self, stage: Any, parameters: float | None = None) -> Parts:
        """Weights in the working format, float32 masters and gradients, two float32 moments.

        The masters of bfloat16 weights are these and two bytes more; float32 weights are their own masters.
        An adapter is kept in float32, and only what it adds is learned.
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
        return {
            "weights": whole * self.itemsize,
            "float32 masters": 2.0 * whole if self.itemsize < 4 else 0.0,
            "Adam moments": 8.0 * whole,
            "gradients": 4.0 * whole,
        }

    def learning(self, stage: Any, *, head: bool = True, share: float = 1.0) -> Parts:
        """What a micro-batch needs for a while: what waits for its backward pass, and logits.

        When that is gone, gradients in the working format have come, which may be more. ``share`` of the
        layers is read.
        """
        shape, packed, adapter = self.work.shape, self.setting.packed(stage), adapter_of(stage)
        units = units_at_once(self.work.units, shape, stage.work.tokens_per_microbatch)
        logits = logits_bytes(self.models, units * shape.scored, learns=True) if head else 0.0
        waiting = {
            "activations": share * self.activations(stage, units * shape.tokens(packed), packed),
            "logits": logits,
        }
        coming = self.model() * share if adapter is None and self.itemsize < 4 else 0.0
        return larger(waiting, {"gradients in the working format": coming})

    def activations(self, stage: Any, tokens: float, packed: bool) -> float:
        """What waits for the backward pass; recomputed, a layer's inputs and one layer at a time."""
        each = kept(self.models, self.work.shape, packed, adapter_of(stage))
        layers, rest = self.facts.layers, tokens * each.rest
        if stage.work.checkpointing:
            inputs = 2.0 * self.facts.hidden * self.itemsize
            return rest + tokens * (layers * inputs + each.layer)
        return rest + tokens * layers * each.layer

    def forward_only(self, stage: Any) -> Parts:
        """One layer at a time, and logits. Without a backward pass twice the tokens go together."""
        shape, packed = self.work.shape, self.setting.packed(stage)
        budget = 2 * getattr(stage, "work", Work()).tokens_per_microbatch
        units = units_at_once(self.work.units or 10**9, shape, budget)
        each = kept(self.models, shape, packed, None)
        return {
            "activations": units * shape.tokens(packed) * (each.layer + each.rest),
            "logits": logits_bytes(self.models, units * shape.scored, learns=False),
        }

    def reference(self, stage: Any, *, moves: bool = False) -> Parts:
        """A frozen copy; none where the policy without its adapter is the same."""
        shared = adapter_of(stage) is not None and getattr(stage, "reference", None) is None and not moves
        return {} if shared else {"reference": self.model()}

    def sampling(self, stage: Any, sampling: Sampling, *, then: Parts | None = None) -> Parts:
        """Keys and values of what is decoded side by side, and the logits of its next tokens.

        The native sampler also has a page per prompt, and may copy weights. ``then`` is what another part of
        the step needs for a while: of it and the logits, the larger.
        """
        then = then or {}
        if not self.work.completions:
            return then
        facts, setting = self.facts, self.setting
        prompt, new = self.work.prompt_tokens, float(sampling.max_new_tokens)
        rows = setting.sampled_at_once(self.work.completions, prompt + new)
        position = 2.0 * facts.layers * facts.kv_width * self.itemsize
        logits = float(rows * facts.vocabulary * self.itemsize)
        if not setting.native:
            # Their float32 log-softmax and the float64 probabilities of the draw.
            logits += float(rows * facts.vocabulary * (4 + 8))
            return {"key-value cache": position * rows * (prompt + new)} | larger({"logits": logits}, then)
        prompts = math.ceil(rows / max(self.work.shape.completions, 1.0))
        pages = rows * _whole_lanes(new) + prompts * _whole_lanes(prompt)
        parts = self.copies(stage) | {"key-value cache": position * pages}
        return parts | larger({"logits": logits}, then)

    def copies(self, stage: Any) -> Parts:
        """Weights that the native sampler cannot read where they lie: packed, or with an adapter added."""
        facts, adapter = self.facts, adapter_of(stage)
        if not (facts.in_place and self.itemsize == 2):
            packed = facts.per_layer * facts.layers + facts.vocabulary * facts.hidden
            return {"packed weights": packed * self.itemsize}
        if adapter is None:
            return {}
        return {"weights with the adapter": float(facts.adapted_weights(adapter) * self.itemsize)}

    def judges(self, stage: Stage) -> Parts:
        """The reward models that ``stage`` asks."""
        stages = self.setting.recipe.stage
        by_name = {each.name: each for each in stages if isinstance(each, RewardModelStage)}
        return {
            f"judge {function}": self.facts.backbone(by_name[function].layer) * self.itemsize
            for function in marked(stage, FUNCTION)
            if function in by_name
        }


def larger(first: Parts, second: Parts) -> Parts:
    """What needs more room of two things that follow one another."""
    return first if sum(first.values()) >= sum(second.values()) else second


def _whole_lanes(positions: float) -> float:
    """As pages are laid out."""
    return math.ceil(max(positions, 1.0) / LANES) * LANES


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
    then = room.learning(stage)
    parts["activations and logits of scoring"] = sum(room.forward_only(stage).values())
    return parts | room.judges(stage) | room.sampling(stage, stage.online.sampling, then=then)


def _reward_model(stage: RewardModelStage, room: Room) -> Parts:
    read = room.facts.backbone(stage.layer)
    parts = {"language model": room.model()}
    if stage.backbone == "frozen":
        return parts | {"backbone": read * room.itemsize} | room.forward_only(stage)
    share = (stage.layer or room.facts.layers) / room.facts.layers
    return parts | room.learner(stage, read) | room.learning(stage, head=False, share=share)


def _rl(stage: RlStage, room: Room) -> Parts:
    parts = room.learner(stage) | room.reference(stage, moves=stage.repeat > 1) | room.judges(stage)
    if objective_of(stage).needs_critic:
        # A critic learns all of its weights, whatever the policy learns.
        parts["critic with its optimiser"] = sum(room.learner(None, room.facts.backbone()).values())
    parts["activations and logits of scoring"] = sum(room.forward_only(stage).values())
    return parts | room.sampling(stage, stage.sampling, then=room.learning(stage))


def _reject(stage: RejectStage, room: Room) -> Parts:
    if not stage.train:
        return {"weights": room.model()} | room.judges(stage) | room.sampling(stage, stage.sampling)
    parts = room.learner(stage)
    if stage.control:
        parts["control with its optimiser"] = sum(room.learner(stage).values())
    if stage.heldout is not None:
        parts |= room.reference(stage)
    return parts | room.judges(stage) | room.sampling(stage, stage.sampling, then=room.learning(stage))


def _distill(stage: DistillStage, room: Room) -> Parts:
    parts = room.learner(stage)
    for teacher in stage.teacher:
        parts[f"teacher {teacher.model}"] = room.model(room.setting.teachers[teacher.model])
    if stage.privileged is not None and stage.privileged.average < 1:
        parts["teacher (a copy of the student)"] = room.model()
    # Logits of both sides, a chunk at a time, as in Room.learning.
    sides = 1 + len(stage.teacher)
    learning = room.learning(stage) | {"logits": float(sides * CHUNK_LOGITS * (room.itemsize + 3 * 4))}
    return parts | room.judges(stage) | room.sampling(stage, stage.sampling, then=learning)


def _merge(stage: MergeStage, room: Room) -> Parts:
    parts = {"two models": 2 * room.model()}
    if stage.heldout is None:
        return parts
    return parts | room.judges(stage) | room.sampling(stage, stage.sampling, then=room.forward_only(stage))


def _collect(stage: Any, room: Room) -> Parts:
    return {"weights": room.model()} | room.judges(stage) | room.sampling(stage, stage.sampling)


def _evaluate(stage: EvaluateStage, room: Room) -> Parts:
    parts = {"weights": room.model(), "reference": room.model()}
    return parts | room.judges(stage) | room.sampling(stage, stage.sampling, then=room.forward_only(stage))


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
