"""Frozen roles: views of another role, references that move, and what a checkpoint keeps of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models.families import make_model, mixed_units

from ridgeline.models.forward import PolicyForward
from ridgeline.schema.stages.common import Optimiser
from ridgeline.training.local import LocalEngine
from ridgeline.training.next_token import NextToken


def engine_of(dtype: torch.dtype = torch.float32) -> LocalEngine:
    engine = LocalEngine()
    fast = Optimiser(learning_rate=1e-2, warmup=0)
    engine.add("policy", make_model("llama", dtype), PolicyForward(), optimiser=fast)
    engine.add("reference", make_model("llama", dtype), PolicyForward(), persistent=True)
    return engine


def learn(engine: LocalEngine, steps: int = 2, rate: float = 1e-2) -> None:
    for _ in range(steps):
        engine.forward_backward("policy", mixed_units(), NextToken())
        engine.step("policy", rate)


def weights(engine: LocalEngine, role: str) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in engine.roles[role].weights.items()}


def test_copy_replaces_and_a_share_goes_part_of_the_way() -> None:
    engine = engine_of()
    start = weights(engine, "reference")
    learn(engine)
    engine.copy_weights("policy", "reference", 0.25)
    newest = weights(engine, "policy")
    for name, weight in weights(engine, "reference").items():
        torch.testing.assert_close(weight, start[name] + 0.25 * (newest[name] - start[name]))
    engine.copy_weights("policy", "reference")
    assert all(torch.equal(w, newest[name]) for name, w in weights(engine, "reference").items())
    learn(engine)
    assert any(not torch.equal(w, newest[name]) for name, w in weights(engine, "policy").items())
    assert all(torch.equal(w, newest[name]) for name, w in weights(engine, "reference").items())


def test_small_shares_add_up_in_bfloat16() -> None:
    """300 steps of 1 % end where one step of 95 % does; rounded at every step they would not move."""
    engine = engine_of(torch.bfloat16)
    start = weights(engine, "reference")
    learn(engine, rate=3e-3)
    for _ in range(300):
        engine.copy_weights("policy", "reference", 0.01)
    optimiser = engine.roles["policy"].optimiser
    assert optimiser is not None
    moved = wanted = 0.0
    for name, weight in weights(engine, "reference").items():
        moved += float((weight - start[name]).float().norm() ** 2)
        wanted += float((optimiser.master(name) - start[name].float()).norm() ** 2)
    assert moved**0.5 == pytest.approx(0.951 * wanted**0.5, rel=0.05)


def test_a_persistent_role_survives_a_checkpoint(tmp_path: Path) -> None:
    engine = engine_of(torch.bfloat16)
    learn(engine)
    engine.copy_weights("policy", "reference", 0.3)
    engine.save(tmp_path)
    again = engine_of(torch.bfloat16)
    again.load(tmp_path)
    for each in (engine, again):
        learn(each)
        each.copy_weights("policy", "reference", 0.3)
    ours, theirs = weights(engine, "reference"), weights(again, "reference")
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


def test_a_view_follows_its_role_and_never_learns() -> None:
    engine = engine_of()
    engine.add_view("cold", "policy", PolicyForward(temperature=0.5))
    learn(engine)
    cold = engine.score("cold", mixed_units())
    engine.roles["policy"].forward = PolicyForward(temperature=0.5)
    for ours, theirs in zip(cold, engine.score("policy", mixed_units()), strict=True):
        assert (ours["logp"] == theirs["logp"]).all()
    with pytest.raises(ValueError, match="does not learn"):
        engine.forward_backward("cold", mixed_units(), NextToken())


def test_a_role_that_learns_is_never_overwritten() -> None:
    engine = engine_of()
    with pytest.raises(ValueError, match="'policy' learns"):
        engine.copy_weights("reference", "policy")
