"""What joins the policy's loss, and second objectives in one optimizer step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.jobs import OPTIMISER, TinyJob, context_in, engine_for, flat, policy, preset, rl_units

from ridgeline.models.batch import Unit
from ridgeline.models.forward import PolicyForward
from ridgeline.training.loop import StepPlan, Update, train
from ridgeline.training.next_token import NextToken
from ridgeline.training.policy_gradient import PolicyGradient


def losses(objective: Any, units: list[Unit], forward: PolicyForward | None = None) -> dict[str, float]:
    engine = engine_for(policy(torch.float64), forward or PolicyForward(entropy=True))
    metrics = engine.forward_backward("policy", units, objective)
    return {name: total / count for name, (total, count) in metrics.items() if name.startswith("loss/")}


def test_what_succeeded_is_imitated_per_token() -> None:
    units = rl_units()
    rows = flat(units)
    for number, row in enumerate(rows):
        row.values["positive"] = float(number % 3 == 0)
    objective = replace(preset("vapo"), positive_nll=0.1)
    found = losses(PolicyGradient(objective, kl_coefficient=0.0), units)
    engine = engine_for(policy(torch.float64), PolicyForward())
    logps = [score["logp"] for score in engine.score("policy", units)]
    positive = np.concatenate([logp for logp, row in zip(logps, rows, strict=True) if row.values["positive"]])
    assert found["loss/positive_nll"] == pytest.approx(-0.1 * positive.mean(), rel=1e-5)


def test_without_success_there_is_nothing_to_imitate() -> None:
    units = rl_units()
    for row in flat(units):
        row.values["positive"] = 0.0
        row.fields["advantage"][:] = 0
    engine = engine_for(policy(), PolicyForward())
    engine.forward_backward("policy", units, PolicyGradient(preset("vapo"), kl_coefficient=0.0))
    assert engine.step("policy", 0.1) == 0


def mean_entropy(engine: Any, units: list[Unit]) -> float:
    scores = engine.score("policy", units, PolicyForward(entropy=True))
    return float(np.concatenate([score["entropy"] for score in scores]).mean())


@pytest.mark.parametrize("name", ["grpo", "dapo", "dr_grpo", "reinforce"])
def test_an_entropy_bonus_raises_the_entropy(name: str) -> None:
    units = rl_units()
    for row in flat(units):
        row.fields["advantage"][:] = 0
    engine = engine_for(policy(), PolicyForward(entropy=True, differentiable_entropy=True))
    before = mean_entropy(engine, units)
    objective = replace(preset(name), entropy_coefficient=0.1)
    engine.forward_backward("policy", units, PolicyGradient(objective, kl_coefficient=0.0))
    engine.step("policy", 1e-3)
    assert mean_entropy(engine, units) > before


def test_an_entropy_bonus_refuses_an_entropy_without_gradient() -> None:
    objective = PolicyGradient(preset("dapo"), kl_coefficient=0.0, entropy_coefficient=0.1)
    with pytest.raises(ValueError, match="differentiable_entropy"):
        losses(objective, rl_units(), PolicyForward(entropy=True))


def test_the_coefficient_in_force_scales_the_bonus() -> None:
    forward = PolicyForward(entropy=True, differentiable_entropy=True)
    found = [
        losses(PolicyGradient(preset("dapo"), kl_coefficient=0.0, entropy_coefficient=c), rl_units(), forward)
        for c in (0.1, 0.4)
    ]
    assert found[1]["loss/entropy_bonus"] == pytest.approx(4 * found[0]["loss/entropy_bonus"])
    assert found[0]["loss/entropy_bonus"] < 0


class MixedJob(TinyJob):
    """One step: the policy gradient on some units, a pretraining mix on others."""

    def plan(self, step: int) -> StepPlan:
        mix = [(rl_units(seed=9), NextToken(name="pretrain", coefficient=0.5))]
        gradient = PolicyGradient(preset("grpo"), kl_coefficient=0.1)
        return StepPlan([Update("policy", rl_units(), gradient, OPTIMISER, mix)])


def test_a_second_objective_joins_the_same_optimizer_step(tmp_path: Path) -> None:
    looped, by_hand = (engine_for(policy(), PolicyForward(entropy=True)) for _ in range(2))
    train(looped, MixedJob(looped, steps=1), context_in(tmp_path))
    by_hand.forward_backward("policy", rl_units(), PolicyGradient(preset("grpo"), kl_coefficient=0.1))
    alone = by_hand.forward_backward("policy", rl_units(seed=9), NextToken(name="pretrain", coefficient=0.5))
    by_hand.step("policy", OPTIMISER.learning_rate)
    for a, b in zip(
        looped.roles["policy"].module.parameters(), by_hand.roles["policy"].module.parameters(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    total, count = alone["loss/pretrain"]
    nll, tokens = alone["pretrain_nll"]
    assert total / count == pytest.approx(0.5 * nll / tokens, rel=1e-6)
