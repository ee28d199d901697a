"""Roles, units and a job small enough to train for real in a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.models.families import group, make_model, mixed_units
from tests.tiny import make_tokenizer
from torch import nn

from ridgeline.models.batch import Unit, pack_units, unpack_units
from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import LanguageModel
from ridgeline.models.score_model import score_forward, score_model_from, value_forward
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.presets import PRESETS
from ridgeline.schema.run_folder import Metrics, RunFolder, StageFolder, mean
from ridgeline.schema.stages.common import Optimiser
from ridgeline.training.interrupts import StopRequest
from ridgeline.training.local import LocalEngine
from ridgeline.training.loop import Context, StepPlan, Update
from ridgeline.training.next_token import NextToken
from ridgeline.training.objective import Objective
from ridgeline.training.observer import Silent
from ridgeline.training.pairwise import PairwiseRanking
from ridgeline.training.policy_gradient import PolicyGradient, ValueRegression

OPTIMISER = Optimiser(learning_rate=1e-2, warmup=0)


def preset(name: str) -> PolicyObjective:
    """A preset that is ready to run: fixed aggregation gets a length."""
    found = PRESETS[name]
    return replace(found, length=7) if found.aggregation == "fixed" and found.length is None else found


def rl_units(seed: int = 0) -> list[Unit]:
    """Groups of two with every per-token field, off-policy enough for clipping to bite."""
    units = [group(5, [3, 1], 1), group(2, [6, 2], 2), group(7, [4, 4], 3), group(3, [1, 5], 4)]
    rng = np.random.default_rng(seed)
    for unit in units:
        for row in unit:
            n = len(row.targets)
            base = rng.normal(-4, 0.7, n)
            for name, spread in (("old_logp", 0.0), ("ref_logp", 0.4), ("sampler_logp", 0.1)):
                row.fields[name] = (base + spread * rng.normal(size=n)).astype(np.float32)
            for name in ("advantage", "returns", "old_values"):
                row.fields[name] = rng.normal(size=n).astype(np.float32)
            row.values["positive"] = float(len(row.targets) % 2)
    return units


def pairs() -> list[Unit]:
    return [group(5, [3, 1], 1), group(2, [6, 2], 2), group(7, [4, 4], 3), group(3, [1, 5], 4)]


def policy(dtype: torch.dtype = torch.float32) -> nn.Module:
    return make_model("llama", dtype)


def judge(dtype: torch.dtype = torch.float32) -> nn.Module:
    language_model = LanguageModel(make_model("llama", dtype), make_tokenizer(), "test")
    model = score_model_from(language_model, layer=None, pooling="mean")
    nn.init.normal_(model.head.linear.weight, generator=torch.Generator().manual_seed(1))
    return model.to(dtype) if dtype == torch.float64 else model


CASES = ["sft", "mix", "pairs", "value", *(f"policy-{name}" for name in PRESETS)]


def case(name: str, dtype: torch.dtype) -> tuple[nn.Module, Any, list[Unit], Objective]:
    """(module, forward, units, objective) of one learning stage."""
    if name == "sft":
        return policy(dtype), PolicyForward(entropy=True), mixed_units(), NextToken()
    if name == "mix":
        return policy(dtype), PolicyForward(), mixed_units(), NextToken(name="pretrain", coefficient=0.5)
    if name == "pairs":
        model = judge(dtype)
        ranking = PairwiseRanking(centering=0.1, penalty=0.2, head=model.head)
        return model, score_forward, pairs(), ranking
    if name == "value":
        return judge(dtype), value_forward, rl_units(), ValueRegression(coefficient=0.5, clip=0.2)
    objective = preset(name.removeprefix("policy-"))
    gradient = PolicyGradient(objective, kl_coefficient=objective.kl_coefficient)
    return policy(dtype), PolicyForward(entropy=True), rl_units(), gradient


def engine_for(module: nn.Module, forward: Any, *, tokens: int = 10_000, packed: bool = False) -> LocalEngine:
    engine = LocalEngine()
    engine.add("policy", module, forward, packed=packed, tokens_per_microbatch=tokens, optimiser=OPTIMISER)
    return engine


class TinyJob:
    """A job with everything that must survive: a buffer made every second step, a coefficient, a counter."""

    def __init__(self, engine: LocalEngine, *, steps: int = 5, checkpoint_every: int = 2) -> None:
        self.engine = engine
        self.steps = steps
        self.evaluate_every = 2
        self.checkpoint_every = checkpoint_every
        self.units: list[Unit] = []
        self.coefficient = 0.1

    def plan(self, step: int) -> StepPlan:
        if step % 2 == 0:  # the rollout buffer: depends on the weights of this moment
            self.units = rl_units(seed=step)
            for row, score in zip(flat(self.units), self.engine.score("policy", self.units), strict=True):
                row.fields["old_logp"] = score["logp"]
        gradient = PolicyGradient(preset("grpo"), kl_coefficient=self.coefficient)
        return StepPlan(
            [Update("policy", self.units[step % 2 :: 2], gradient, OPTIMISER)],
            {"coefficient": (self.coefficient, 1.0)},
        )

    def evaluate(self, step: int) -> dict[str, Any]:
        scores = self.engine.score("policy", mixed_units())
        return {"logp": float(sum(score["logp"].sum() for score in scores))}

    def after_step(self, step: int, metrics: Metrics) -> None:
        self.coefficient *= 1 + 0.01 * mean(metrics["kl_k1"])

    def state(self) -> dict[str, Any]:
        return {
            "units": pack_units(self.units),
            "coefficient": self.coefficient,
            "versions": self.engine.versions(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.units = unpack_units(state["units"])
        self.coefficient = state["coefficient"]
        self.engine.set_versions(state["versions"])


def context_in(path: Path, stop: StopRequest | None = None) -> Context:
    run = RunFolder(path)
    folder: StageFolder = run.stage(0, "policy")
    folder.create()
    return Context(run, folder, Silent(), stop or StopRequest())


def flat(units: Sequence[Unit]) -> list[Any]:
    return [row for unit in units for row in unit]
