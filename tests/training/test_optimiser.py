from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from ridgeline.models.gradient_sum import gradient_sum
from ridgeline.schema.stages.common import Optimiser
from ridgeline.training import optimiser as module_of_optimiser
from ridgeline.training import split_master as module_of_split
from ridgeline.training.optimiser import MasterAdamW, learning_rate


def rates(steps: int, **options: object) -> list[float]:
    config = Optimiser(learning_rate=1.0, **options)
    return [learning_rate(config, step, steps) for step in range(steps)]


def test_schedules_by_hand() -> None:
    assert rates(4, warmup=0) == [1, 1, 1, 1]
    assert rates(5, warmup=3) == [0.25, 0.5, 0.75, 1, 1]
    assert rates(4, warmup=0, schedule="linear") == [1, 0.75, 0.5, 0.25]
    assert rates(6, warmup=2, schedule="linear") == pytest.approx([1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25])
    cosine = [0.5 * (1 + math.cos(math.pi * t / 4)) for t in range(4)]
    assert rates(4, warmup=0, schedule="cosine") == pytest.approx(cosine)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_rates_stay_within_bounds_and_every_step_learns(schedule: str) -> None:
    for steps in (1, 2, 3, 10):
        for warmup in (0, 3, 20):
            found = rates(steps, warmup=warmup, schedule=schedule)
            assert all(0 < rate <= 1 for rate in found)
    config = Optimiser(learning_rate=1.0, warmup=0, schedule=schedule)
    assert learning_rate(config, 10, 10) == pytest.approx(1.0 if schedule == "constant" else 0.0)


def make_module(dtype: torch.dtype = torch.float32) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 3)).to(dtype)


def give_gradients(module: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for p in module.parameters():
        p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)


def nearest(working: torch.Tensor, master: torch.Tensor) -> bool:
    """Whether no bfloat16 is nearer to the master; which of two that are equally near is left open."""
    return torch.equal((working.float() - master).abs(), (master.bfloat16().float() - master).abs())


def test_float32_is_torch_adamw_bit_for_bit() -> None:
    ours, theirs = make_module(), make_module()
    config = Optimiser(learning_rate=0.01, betas=(0.8, 0.95), epsilon=1e-7, weight_decay=0.1,
                       max_gradient_norm=1e9)  # fmt: skip
    optimiser = MasterAdamW(ours, config)
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in theirs.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    oracle = torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.95), eps=1e-7, fused=True)
    for step in range(5):
        for module in (ours, theirs):
            give_gradients(module, step)
        optimiser.accumulate()
        optimiser.step(0.01, optimiser.gradient_norm())
        oracle.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert not torch.equal(next(ours.parameters()), next(make_module().parameters()))


def test_weight_decay_spares_norms_and_biases() -> None:
    module = make_module()
    before = {name: p.clone() for name, p in module.named_parameters()}
    optimiser = MasterAdamW(module, Optimiser(weight_decay=0.5))
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    optimiser.step(0.1, 0.0)
    for name, p in module.named_parameters():
        expected = before[name] * (1 - 0.05) if p.ndim == 2 else before[name]
        torch.testing.assert_close(p.detach(), expected)


def test_the_norm_is_of_the_whole_gradient_and_clips_it() -> None:
    first, second = make_module(), make_module()
    small = MasterAdamW(first, Optimiser(max_gradient_norm=0.5, betas=(0.0, 0.0), epsilon=1.0))
    plain = MasterAdamW(second, Optimiser(max_gradient_norm=1e9, betas=(0.0, 0.0), epsilon=1.0))
    for module in (first, second):
        give_gradients(module, 1)
    flat = torch.cat([p.grad.flatten() for p in first.parameters()])
    norm = small.gradient_norm()
    assert norm == pytest.approx(float(flat.norm()), rel=1e-6)
    for p in second.parameters():
        p.grad.mul_(0.5 / norm)
    small.step(0.1, norm)
    plain.step(0.1, plain.gradient_norm())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_bfloat16_working_weights_are_the_rounded_masters() -> None:
    narrow, wide = make_module(torch.bfloat16), make_module(torch.bfloat16).float()
    ours = MasterAdamW(narrow, Optimiser(max_gradient_norm=1e9))
    oracle = MasterAdamW(wide, Optimiser(max_gradient_norm=1e9))
    for step in range(4):
        for module in (narrow, wide):
            give_gradients(module, step)
        for p, q in zip(narrow.parameters(), wide.parameters(), strict=True):
            q.grad = p.grad.float()
        for optimiser in (ours, oracle):
            optimiser.accumulate()
            optimiser.step(1e-3, optimiser.gradient_norm())
        for name, working in ours.working.items():
            torch.testing.assert_close(ours.master(name), oracle.master(name), rtol=1e-6, atol=1e-7)
            assert nearest(working, ours.master(name))
            assert working.dtype == torch.bfloat16


@pytest.mark.parametrize("compiled", [True, False])
def test_twenty_steps_end_where_float32_masters_do(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against torch's AdamW on float32 weights that get the same gradients; without the kernel in chunks."""
    monkeypatch.setattr(module_of_split, "_CHUNK", 100)
    if not compiled:
        monkeypatch.setattr(module_of_optimiser, "kernel", lambda name, like: None)
    config = Optimiser(betas=(0.8, 0.95), epsilon=1e-7, weight_decay=0.1, max_gradient_norm=1e9)
    generator = torch.Generator().manual_seed(0)
    start = {
        "matrix": torch.randn(130, 7, generator=generator),
        "vector": torch.randn(333, generator=generator),
    }
    start["across"] = torch.randn(20, 30, generator=generator).T
    module = nn.ParameterDict({name: p.bfloat16() for name, p in start.items()})
    masters = {name: nn.Parameter(p.detach().float()) for name, p in module.items()}
    groups = [
        {"params": [masters["matrix"], masters["across"]], "weight_decay": 0.1},
        {"params": [masters["vector"]], "weight_decay": 0.0},
    ]
    oracle = torch.optim.AdamW(groups, lr=1e-3, betas=(0.8, 0.95), eps=1e-7)
    ours = MasterAdamW(module, config)
    for step in range(20):
        give_gradients(module, step)
        for name, p in module.items():
            masters[name].grad = p.grad.float()
        ours.accumulate()
        ours.step(1e-3, ours.gradient_norm())
        oracle.step()
    for name, expected in masters.items():
        # Rounding errors of a sum are relative to its terms, of which the largest here are about 1.
        torch.testing.assert_close(ours.master(name), expected.detach(), rtol=1e-6, atol=2e-7)
        assert nearest(module[name], ours.master(name))
        assert float((expected.detach() - start[name].bfloat16()).abs().mean()) > 3e-3


@pytest.mark.parametrize("compiled", [True, False])
def test_a_step_loses_no_bit_of_a_master(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a rate nothing moves, whatever the bits; a gradient of NaN makes a weight of NaN."""
    if not compiled:
        monkeypatch.setattr(module_of_optimiser, "kernel", lambda name, like: None)
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (50_000,), generator=generator, dtype=torch.int64)
    masters = bits.to(torch.int32).view(torch.float32)
    masters = masters[masters.isfinite()]
    module = nn.ParameterDict({"some": torch.zeros_like(masters, dtype=torch.bfloat16)})
    optimiser = MasterAdamW(module, Optimiser())
    optimiser.restart({"some": masters})
    module["some"].grad = torch.ones_like(module["some"])
    optimiser.accumulate()
    optimiser.step(0.0, 1.0)
    assert torch.equal(optimiser.master("some").view(torch.int32), masters.view(torch.int32))
    module["some"].grad = torch.full_like(module["some"], float("nan"))
    optimiser.accumulate()
    optimiser.step(1e-3, 1.0)
    assert bool(optimiser.master("some").isnan().all()) and bool(module["some"].isnan().all())


@pytest.mark.parametrize("size", [1, 33, 40_000])
@pytest.mark.parametrize("limit", [1e-3, 1e9])
def test_the_compiled_step_is_that_of_torch(size: int, limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that do not fill a vector, or are shared among threads; clipped or not."""
    config = Optimiser(betas=(0.8, 0.95), epsilon=1e-7, weight_decay=0.1, max_gradient_norm=limit)
    found = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(module_of_optimiser, "kernel", lambda name, like: None)
        generator = torch.Generator().manual_seed(0)
        shapes = {"matrix": (size, 2), "vector": (size,)}
        weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        module = nn.ParameterDict(weights).to(torch.bfloat16)
        optimiser = MasterAdamW(module, config)
        for step in range(4):
            give_gradients(module, step)
            optimiser.accumulate()
            optimiser.step(1e-2, optimiser.gradient_norm())
        found.append((optimiser, dict(module.items())))
    (ours, our_weights), (theirs, their_weights) = found
    for name in theirs.working:
        torch.testing.assert_close(ours.master(name), theirs.master(name), rtol=1e-6, atol=1e-7)
        assert nearest(our_weights[name], ours.master(name))
        assert nearest(their_weights[name], theirs.master(name))
        states = ours.moments[name], theirs.moments[name]
        for key in ("step", "exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(states[0][key], states[1][key], rtol=1e-6, atol=2e-7)


def test_updates_below_the_spacing_of_bfloat16_survive_in_the_masters() -> None:
    module = make_module(torch.bfloat16)
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(1.0)  # the spacing of bfloat16 below 1 is 2^-8
    optimiser = MasterAdamW(module, Optimiser())
    for step in range(300):
        for p in module.parameters():
            p.grad = torch.ones_like(p)
        optimiser.accumulate()
        optimiser.step(1e-5, optimiser.gradient_norm())
        if step == 0:
            assert all((p == 1).all() for p in module.parameters())
            assert all((optimiser.master(name) < 1).all() for name in optimiser.working)
    for p in module.parameters():
        assert torch.equal(p, torch.full_like(p, 1 - 2.0**-8))


def test_a_mixed_module_keeps_a_master_only_where_it_needs_one() -> None:
    module = nn.ModuleDict({"body": nn.Linear(3, 3).bfloat16(), "head": nn.Linear(3, 1)})
    optimiser = MasterAdamW(module, Optimiser())
    for name, working in optimiser.working.items():
        own = optimiser.master(name).data_ptr() == working.data_ptr()
        assert own == (name not in optimiser.rests) == name.startswith("head")
        assert optimiser.master(name).dtype == torch.float32


def test_frozen_parameters_are_left_alone() -> None:
    module = make_module()
    module[0].requires_grad_(False)
    assert set(MasterAdamW(module, Optimiser()).working) == {"1.weight", "1.bias", "2.weight", "2.bias"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_save_and_load_are_bit_exact(dtype: torch.dtype, before: int, tmp_path: Path) -> None:
    def learn(optimiser: MasterAdamW, module: nn.Module, steps: range) -> None:
        for step in steps:
            give_gradients(module, step)
            optimiser.accumulate()
            optimiser.step(1e-2, optimiser.gradient_norm())

    first = make_module(dtype)
    optimiser = MasterAdamW(first, Optimiser())
    learn(optimiser, first, range(before))
    optimiser.save(tmp_path / "policy.safetensors")
    second = make_module(dtype)
    with torch.no_grad():
        for p in second.parameters():
            p.add_(1)
    other = MasterAdamW(second, Optimiser())
    learn(other, second, range(2))  # a past of its own, to be forgotten
    other.load(tmp_path / "policy.safetensors")
    for each, module in ((optimiser, first), (other, second)):
        learn(each, module, range(before, before + 2))
    for name in optimiser.working:
        assert torch.equal(optimiser.master(name), other.master(name))
        assert torch.equal(optimiser.working[name], other.working[name])


def test_a_step_counts_as_a_change_of_the_weights() -> None:
    """A sampler that keeps packed copies looks at version counters, which the fused step leaves alone."""
    for dtype in (torch.float32, torch.bfloat16):
        module = torch.nn.Linear(3, 2).to(dtype)
        optimiser = MasterAdamW(module, Optimiser())
        before = module.weight._version
        module(torch.ones(1, 3, dtype=dtype)).sum().backward()
        optimiser.accumulate()
        optimiser.step(1e-3, optimiser.gradient_norm())
        assert module.weight._version > before


def test_only_weights_with_a_master_of_their_own_have_a_sum() -> None:
    module = nn.ModuleDict({"body": nn.Linear(3, 3).bfloat16(), "head": nn.Linear(3, 1)})
    module["body"].bias.requires_grad_(False)
    optimiser = MasterAdamW(module, Optimiser())
    assert set(optimiser.sums) == {"body.weight"}
    assert gradient_sum(module["body"].weight) is optimiser.sums["body.weight"]
    assert all(gradient_sum(p) is None for p in (module["body"].bias, *module["head"].parameters()))


def test_what_is_added_to_a_sum_and_what_autograd_leaves_are_one_gradient() -> None:
    """A weight that is used twice may get its gradient both ways."""
    module = make_module(torch.bfloat16)
    optimiser = MasterAdamW(module, Optimiser(max_gradient_norm=1e9))
    weight, total = module[0].weight, optimiser.sums["0.weight"]
    for _ in range(2):
        total.add(torch.full_like(weight, 256))
        weight.grad = torch.ones_like(weight)
        optimiser.accumulate()
        assert weight.grad is None
    assert (optimiser.gradient("0.weight") == 514).all()  # no number of bfloat16
    assert optimiser.gradient_norm() == pytest.approx(514 * 30**0.5)
    assert optimiser.gradients().keys() == {"0.weight"}


@pytest.mark.parametrize("way", ["forget", "step"])
def test_a_gradient_counts_once(way: str) -> None:
    module = make_module(torch.bfloat16)
    optimiser = MasterAdamW(module, Optimiser())
    give_gradients(module, 1)
    optimiser.accumulate()
    once = {name: g.clone() for name, g in optimiser.gradients().items()}
    if way == "forget":
        optimiser.forget_gradients()
    else:
        optimiser.step(1e-3, optimiser.gradient_norm())
    assert optimiser.gradient_norm() == 0
    optimiser.accumulate()
    assert optimiser.gradients() == {}
    give_gradients(module, 1)
    optimiser.accumulate()
    assert once and all(torch.equal(optimiser.gradient(name), g) for name, g in once.items())
