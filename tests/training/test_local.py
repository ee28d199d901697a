"""Micro-batches, the order of units and padding change neither loss nor gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.families import group, ids, make_model, mixed_units, pure_float64
from tests.oracles.rows import distance
from tests.tiny import make_tokenizer
from tests.training.jobs import CASES, case, engine_for, flat, judge, policy, preset, rl_units

from ridgeline.models.batch import Row, Unit, completion_row
from ridgeline.models.forward import PolicyForward
from ridgeline.models.kernels import kernel_library
from ridgeline.models.score_model import feature_forward, value_forward
from ridgeline.rollout.plain import PlainSampler
from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.run_folder import Metrics
from ridgeline.schema.stages.common import Sampling
from ridgeline.training.advantages import assign_advantages
from ridgeline.training.local import LocalEngine
from ridgeline.training.next_token import NextToken
from ridgeline.training.policy_gradient import PolicyGradient


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    with pure_float64():
        yield


def run(
    name: str,
    dtype: torch.dtype,
    *,
    tokens: int = 10_000,
    packed: bool = False,
    order: list[int] | None = None,
) -> tuple[Metrics, dict[str, torch.Tensor]]:
    module, forward, units, objective = case(name, dtype)
    units = units if order is None else [units[index] for index in order]
    engine = engine_for(module, forward, tokens=tokens, packed=packed)
    metrics = engine.forward_backward("policy", units, objective)
    optimiser = engine.roles["policy"].optimiser
    assert optimiser is not None
    grads = {name: g.clone() for name, g in optimiser.gradients().items()}
    assert grads and max(float(g.abs().max()) for g in grads.values()) > 1e-4
    return metrics, grads


def assert_same(
    ours: tuple[Metrics, dict[str, torch.Tensor]],
    theirs: tuple[Metrics, dict[str, torch.Tensor]],
    tolerance: float,
) -> None:
    assert ours[0].keys() == theirs[0].keys()
    for key, (total, count) in theirs[0].items():
        # Metrics are summed in float32 whatever the model's format.
        loose = tolerance if key.startswith("loss/") else max(tolerance, 2e-5)
        assert ours[0][key] == (pytest.approx(total, rel=loose, abs=loose), pytest.approx(count)), key
    scale = max(float(g.abs().max()) for g in theirs[1].values())
    assert ours[1].keys() == theirs[1].keys()
    for key, grad in theirs[1].items():
        assert float((ours[1][key] - grad).abs().max()) <= tolerance * scale, key


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_splitting_ordering_and_layout_change_nothing(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    whole = run(name, dtype)
    last = len(case(name, dtype)[2]) - 1
    variants: list[dict[str, Any]] = [
        {"tokens": 1},
        {"tokens": 30},
        {"packed": True},
        {"packed": True, "tokens": 1},
        {"order": list(range(last, -1, -1)), "tokens": 20},
    ]
    for variant in variants:
        assert_same(run(name, dtype, **variant), whole, tolerance)


@pytest.mark.parametrize("name", ["sft", "pairs", "policy-grpo"])
def test_in_bfloat16_splitting_changes_gradients_by_rounding_only(name: str) -> None:
    """Two thousandths (2^-9) from rounding each share once; the shares are added up in float32.

    Without kernels other bins give attention other shapes too, which bfloat16 rounds otherwise.
    """
    limit = 0.005 if kernel_library() is not None else 0.03
    whole = run(name, torch.bfloat16, packed=True)
    exact = run(name, torch.float32, packed=True)
    for variant in ({"tokens": 1}, {"tokens": 30}):
        split = run(name, torch.bfloat16, packed=True, **variant)
        assert all(gradient.dtype == torch.float32 for gradient in split[1].values())
        assert distance(split[1], whole[1]) < limit
        assert distance(split[1], exact[1]) < 0.05


# Constant weights (stopped gradients) make a gradient another one than that of the value.
STOPPED = {"policy-cispo", "policy-gspo_token", "policy-vespo", "policy-topr"}


@pytest.mark.parametrize("name", [name for name in CASES if name not in STOPPED])
def test_the_gradient_is_that_of_the_reported_loss(name: str) -> None:
    """A small step against the gradient lowers the sum of the reported losses by rate * |g|^2."""
    module, forward, units, objective = case(name, torch.float64)
    engine = engine_for(module, forward, tokens=25)

    def loss() -> float:
        metrics = engine.forward_backward("policy", units, objective)
        return sum(total / count for key, (total, count) in metrics.items() if key.startswith("loss/"))

    before = loss()
    grads = {key: g.clone() for key, g in engine.roles["policy"].optimiser.gradients().items()}  # fmt: skip
    engine.roles["policy"].optimiser.forget_gradients()
    squared = sum(float(g.square().sum()) for g in grads.values())
    rate = 1e-7 / squared**0.5
    with torch.no_grad():
        for key, grad in grads.items():
            engine.roles["policy"].optimiser.working[key].sub_(rate * grad)
    assert (before - loss()) / (rate * squared) == pytest.approx(1, rel=1e-3)


def test_bfloat16_gradients_are_added_up_in_float32() -> None:
    """Many micro-batches in bfloat16: adding them in bfloat16 would lose most of the small ones."""
    module = make_model("llama", torch.bfloat16)
    engine = engine_for(module, PolicyForward(), tokens=1)
    units = [group(3, [2], seed) for seed in range(32)]  # a power of two scales exactly
    engine.forward_backward("policy", units, NextToken())
    optimiser = engine.roles["policy"].optimiser
    summed = {name: g.clone() for name, g in optimiser.gradients().items()}
    assert summed.keys() == optimiser.working.keys()
    assert {g.dtype for g in summed.values()} == {torch.float32}
    expected = {name: torch.zeros_like(g) for name, g in summed.items()}
    for unit in units:
        optimiser.forget_gradients()
        engine.forward_backward("policy", [unit], NextToken())
        for name, g in optimiser.gradients().items():
            expected[name] += g / len(units)
    for name, g in summed.items():
        torch.testing.assert_close(g, expected[name], atol=1e-6, rtol=1e-5)
    assert all(p.grad is None for p in module.parameters())


def test_fully_masked_rows_count_for_nothing() -> None:
    empty: Unit = [Row(np.asarray(ids(6, 1)), np.empty(0, dtype=np.int64), values={"positive": 1.0})]
    for name in ("old_logp", "ref_logp", "sampler_logp", "advantage"):
        empty[0].fields[name] = np.empty(0, dtype=np.float32)
    for name in CASES:
        if not name.startswith(("policy", "sft")):
            continue
        module, forward, units, objective = case(name, torch.float64)
        without = engine_for(module, forward).forward_backward("policy", units, objective)
        module, forward, units, objective = case(name, torch.float64)
        engine = engine_for(module, forward, tokens=15)
        with_empty = engine.forward_backward("policy", [empty, *units, empty], objective)
        for key, value in without.items():
            if key.startswith("loss/"):
                assert with_empty[key] == pytest.approx(value, rel=1e-9), (name, key)


@pytest.mark.parametrize("name", [n for n in CASES if n.startswith(("policy", "sft"))])
def test_a_fully_masked_batch_gives_a_finite_zero(name: str) -> None:
    empty: Unit = [Row(np.asarray(ids(6, 1)), np.empty(0, dtype=np.int64), values={"positive": 1.0})]
    for key in ("old_logp", "ref_logp", "sampler_logp", "advantage"):
        empty[0].fields[key] = np.empty(0, dtype=np.float32)
    module, forward, _, objective = case(name, torch.float32)
    before = [p.clone() for p in module.parameters()]
    engine = engine_for(module, forward)
    metrics = engine.forward_backward("policy", [empty, empty], objective)
    assert all(total == 0 for key, (total, _) in metrics.items() if key.startswith("loss/"))
    assert engine.step("policy", 0.1) == 0.0
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_policy_equal_to_reference_and_old_policy() -> None:
    """KL 0 and ratio 1, and the on-policy shortcut (no old_logp) is the same gradient."""
    module, forward, units, _ = case("policy-grpo", torch.float32)
    engine = engine_for(module, forward)
    for row, score in zip(flat(units), engine.score("policy", units), strict=True):
        row.fields["ref_logp"] = row.fields["sampler_logp"] = row.fields["old_logp"] = score["logp"]
    gradient = PolicyGradient(preset("grpo"), kl_coefficient=0.04)
    metrics = engine.forward_backward("policy", units, gradient)
    assert metrics["kl_k1"][0] == pytest.approx(0, abs=1e-4)
    assert metrics["kl_k3_per_token"][0] == pytest.approx(0, abs=1e-6)
    assert metrics["ratio"][0] / metrics["ratio"][1] == pytest.approx(1, abs=1e-5)
    assert metrics["sampler_gap"][0] / metrics["sampler_gap"][1] == pytest.approx(0, abs=1e-5)
    assert metrics["clip_fraction"][0] == metrics["outside_fraction"][0] == 0
    assert metrics["loss/kl"][0] == pytest.approx(0, abs=1e-6)
    norm = engine.roles["policy"].optimiser.gradient_norm()
    engine.roles["policy"].optimiser.forget_gradients()
    for row in flat(units):
        del row.fields["old_logp"]
    engine.forward_backward("policy", units, gradient)
    assert engine.roles["policy"].optimiser.gradient_norm() == pytest.approx(norm, rel=1e-4)


# A regression pulls the log-ratio itself to 0.
PULLED = {"policy-mirror_descent", "policy-a2po"}


@pytest.mark.parametrize("name", [n for n in CASES if n.startswith("policy") and n not in PULLED])
def test_zero_advantage_gives_zero_policy_gradient(name: str) -> None:
    module, forward, units, _ = case(name, torch.float64)
    for row in flat(units):
        row.fields["advantage"][:] = 0
    objective = replace(preset(name.removeprefix("policy-")), kl_coefficient=0.0, positive_nll=0.0)
    engine = engine_for(module, forward)
    metrics = engine.forward_backward("policy", units, PolicyGradient(objective, kl_coefficient=0.0))
    assert metrics["loss/policy"][0] == 0
    assert engine.roles["policy"].optimiser.gradient_norm() == 0


def test_a_good_completion_becomes_likelier_and_a_bad_one_less() -> None:
    """Groups are prompt-major from the sampler to the gradient; sample-major groups would fail here.

    The reward is that of the prompt's own first sample against its second, with a large constant per prompt:
    baselines taken over the wrong rows would be swamped by those constants.
    """
    module = policy()
    engine = engine_for(module, PolicyForward())
    sampler = PlainSampler(module, make_tokenizer(), [])
    prompts = [PromptRequest(f"p{n}", ids(4, n), 2) for n in range(4)]
    samples = sampler(prompts, Sampling(max_new_tokens=6), seed=1, step=0)
    rows = [completion_row(sample.prompt_ids, sample.completion_ids) for sample in samples]
    rewards = torch.tensor([100.0 * int(s.prompt_id[1:]) + (1.0 if s.index == 0 else 0.0) for s in samples])
    units = [rows[start : start + 2] for start in range(0, 8, 2)]
    before = [score["logp"] for score in engine.score("policy", units)]
    for row, logp in zip(rows, before, strict=True):
        row.fields["ref_logp"] = row.fields["sampler_logp"] = logp
    objective = preset("grpo")
    assign_advantages(rows, rewards.view(4, 2), objective, kl_coefficient=0.0)
    engine.forward_backward("policy", units, PolicyGradient(objective, kl_coefficient=0.0))
    engine.step("policy", 1e-4)
    after = [score["logp"] for score in engine.score("policy", units)]
    changes = [float((new - old).sum()) for new, old in zip(after, before, strict=True)]
    assert all(change > 0 for change in changes[0::2])
    assert all(change < 0 for change in changes[1::2])


def test_score_keeps_order_and_trims() -> None:
    module = policy()
    units = mixed_units()
    small, large = (engine_for(module, PolicyForward(), tokens=t).score("policy", units) for t in (1, 10_000))
    for row, few, many in zip(flat(units), small, large, strict=True):
        assert few["logp"].shape == (len(row.targets),)
        assert few["logp"].dtype == np.float32
        np.testing.assert_allclose(few["logp"], many["logp"], rtol=1e-5)
    assert not any(p.grad is not None for p in module.parameters())


def test_score_runs_another_forward_on_request() -> None:
    engine = engine_for(judge(), value_forward)
    units = rl_units()
    features = engine.score("policy", units, feature_forward)
    assert {score["features"].shape for score in features} == {(32,)}
    values = engine.score("policy", units)
    assert [len(score["values"]) for score in values] == [len(row.targets) for row in flat(units)]


def test_features_as_wide_as_the_batch_are_not_cut() -> None:
    """32 features and a completion of 32 tokens: shapes alone cannot tell them apart."""
    engine = engine_for(judge(), value_forward)
    units = [group(3, [32, 1], 1)]
    assert {s["features"].shape for s in engine.score("policy", units, feature_forward)} == {(32,)}


def test_a_frozen_role_gets_no_gradient_and_does_not_learn() -> None:
    engine = engine_for(policy(), PolicyForward())
    engine.add("reference", policy(), PolicyForward())
    assert not any(p.requires_grad for p in engine.roles["reference"].module.parameters())
    assert all(p.requires_grad for p in engine.roles["policy"].module.parameters())
    with pytest.raises(ValueError, match="'reference' does not learn"):
        engine.forward_backward("reference", mixed_units(), NextToken())
    with pytest.raises(ValueError, match="'reference' does not learn"):
        engine.step("reference", 0.1)
    with pytest.raises(ValueError, match="no sampler"):
        engine.sample("policy", [], Sampling(), seed=0, step=0)


def test_freezing_a_role_never_freezes_a_learner_that_shares_its_weights() -> None:
    """The reference must be a snapshot: registering the policy itself would silently stop all learning."""
    module = policy()
    engine = engine_for(module, PolicyForward())
    with pytest.raises(ValueError, match="shares weights"):
        engine.add("reference", module, PolicyForward())
    assert all(p.requires_grad for p in module.parameters())


def test_a_broken_gradient_moves_nothing() -> None:
    module = policy()
    engine = engine_for(module, PolicyForward())
    before = [p.clone() for p in module.parameters()]
    engine.forward_backward("policy", mixed_units(), NextToken())
    next(iter(engine.roles["policy"].optimiser.gradients().values()))[0] = float("nan")
    assert not np.isfinite(engine.step("policy", 0.1))
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_publish_numbers_the_weights_of_the_sampler() -> None:
    module = policy()
    engine = LocalEngine()
    engine.add("policy", module, PolicyForward(), sampler=PlainSampler(module, make_tokenizer(), []))
    assert [engine.publish("policy") for _ in range(3)] == [1, 2, 3]
    request = [PromptRequest("p", ids(3, 1))]
    (sample,) = engine.sample("policy", request, Sampling(max_new_tokens=1), seed=0, step=0)
    assert sample.weight_version == 3
    engine.set_versions({"policy": 1})
    assert engine.versions() == {"policy": 1}


def test_save_and_load_are_bit_exact_and_so_is_the_next_step(tmp_path: Path) -> None:
    def learn(engine: LocalEngine, steps: int) -> None:
        for _ in range(steps):
            engine.forward_backward("policy", mixed_units(), NextToken())
            engine.step("policy", 1e-3)

    for dtype in (torch.float32, torch.bfloat16):
        first = engine_for(make_model("llama", dtype), PolicyForward())
        learn(first, 2)
        first.save(tmp_path)
        second = engine_for(make_model("llama", dtype, seed=9), PolicyForward())
        second.load(tmp_path)
        for engine in (first, second):
            learn(engine, 2)
        ours, theirs = (engine.roles["policy"].optimiser for engine in (first, second))
        for name in ours.working:
            assert torch.equal(ours.working[name], theirs.working[name])
            assert torch.equal(ours.master(name), theirs.master(name))


def test_score_of_no_units() -> None:
    assert engine_for(policy(), PolicyForward()).score("policy", []) == []
