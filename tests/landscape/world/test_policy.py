"""The Gaussian policy against torch.distributions."""

from __future__ import annotations

import torch
from torch.distributions import Independent, Normal, kl_divergence

from ridgeline.landscape.world.policy import GaussianPolicy


def _distribution(policy, states):
    return Independent(Normal(policy.mean(states), policy.log_std.exp().expand_as(states)), 1)


def _pair():
    first, second = GaussianPolicy(1, 0.6), GaussianPolicy(2, 0.9)
    with torch.no_grad():
        for policy, factor in ((first, 8.0), (second, 5.0)):
            policy.layers[-1].weight.mul_(factor)
        second.log_std.add_(torch.tensor([0.1, -0.4]))
    return first, second


def test_log_prob_entropy_and_kl_are_those_of_torch():
    first, second = _pair()
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(5, 7, 2, generator=generator, dtype=torch.float64)
    actions = torch.randn(5, 7, 2, generator=generator, dtype=torch.float64)
    mine, other = _distribution(first, states), _distribution(second, states)
    assert torch.allclose(first.log_prob(states, actions), mine.log_prob(actions), atol=1e-12)
    assert torch.allclose(first.entropy().expand(5, 7), mine.entropy(), atol=1e-12)
    assert torch.allclose(first.kl(second, states), kl_divergence(mine, other), atol=1e-12)
    assert first.kl(first.copy(), states).abs().max() == 0


def test_356_parameters_in_float64():
    policy = GaussianPolicy()
    assert policy.flat().shape == (356,) and policy.flat().dtype == torch.float64
    assert torch.allclose(policy.log_std.exp(), torch.tensor(0.6, dtype=torch.float64))


def test_initial_weights_come_from_the_seed_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = GaussianPolicy(3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(first.flat(), GaussianPolicy(3).flat())
    assert not torch.equal(first.flat(), GaussianPolicy(4).flat())


def test_copies_are_independent_and_flat_goes_there_and_back():
    first, second = _pair()
    copied = first.copy()
    copied.assign(second.flat())
    assert torch.equal(copied.flat(), second.flat())
    assert not torch.equal(first.flat(), second.flat())


def test_sample_moves_by_sigma():
    policy = GaussianPolicy(0, 0.5)
    states, noise = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    shift = (policy.sample(states, noise) - policy.mean(states)).detach()
    assert torch.allclose(shift, torch.tensor([[0.5, -1.0]], dtype=torch.float64))
