from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import advantages as oracle

from ridgeline.objectives import advantages as adv

NAN = math.nan
REWARD = st.one_of(st.none(), st.floats(-20, 20).map(lambda x: round(x, 3)))


def tensor(groups: list[list[float | None]]) -> torch.Tensor:
    return torch.tensor([[NAN if r is None else r for r in group] for group in groups], dtype=torch.float64)


def test_published_values() -> None:
    z_score = adv.group_zscore(torch.tensor([[1.0, 0.0]]))
    assert z_score[0].tolist() == pytest.approx([0.707007, -0.707007], abs=1e-6)
    loo = adv.leave_one_out(torch.tensor([[1.0, 0.0, 0.5, 0.2]]))
    assert loo[0].tolist() == pytest.approx([0.766667, -0.566667, 0.1, -0.3], abs=1e-6)
    centred = adv.group_centred(torch.tensor([[1.0, 0.0, 0.5, 0.5]]))
    assert centred[0].tolist() == [0.5, -0.5, 0.0, 0.0]
    max_rl = adv.max_rl(torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]))
    assert max_rl.tolist() == [[3.0, -1.0, -1.0, -1.0], [0.0] * 4, [0.0] * 4]
    greedy = adv.greedy_baseline(torch.tensor([[1.0, 0.0], [2.0, NAN]]), torch.tensor([0.25, NAN]))
    assert greedy.tolist() == [[0.75, -0.25], [0.0, 0.0]]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    groups=st.integers(2, 5).flatmap(
        lambda g: st.lists(st.lists(REWARD, min_size=g, max_size=g), min_size=1, max_size=4)
    )
)
def test_group_advantages_agree_with_the_papers(groups: list[list[float | None]]) -> None:
    rewards = tensor(groups)
    for group, z, loo in zip(groups, adv.group_zscore(rewards), adv.leave_one_out(rewards), strict=True):
        assert z.tolist() == pytest.approx(oracle.z_score(group, 1e-4), abs=1e-9)
        assert loo.tolist() == pytest.approx(oracle.leave_one_out(group), abs=1e-9)


def test_groups_are_rows() -> None:
    """Prompt-major: a sample-major reading of the same numbers would compare different prompts."""
    rewards = torch.tensor([[1.0, 3.0], [10.0, 30.0]])
    assert adv.group_centred(rewards).tolist() == [[-1.0, 1.0], [-10.0, 10.0]]
    assert adv.leave_one_out(rewards).tolist() == [[-2.0, 2.0], [-20.0, 20.0]]


def test_leave_one_out_is_a_rescaled_group_mean() -> None:
    rewards = torch.randn(3, 5, dtype=torch.float64)
    torch.testing.assert_close(adv.leave_one_out(rewards), adv.group_centred(rewards) * 5 / 4)


@pytest.mark.parametrize("name", sorted(adv.REWARD_ADVANTAGES))
@pytest.mark.parametrize("value", [0.1, -1e4, 1 / 3])
def test_equal_rewards_give_exactly_zero(name: str, value: float) -> None:
    value = 1.0 if name == "max_rl" else value
    rewards = torch.full((2, 7), value)
    rewards[1, 2:] = NAN
    assert adv.REWARD_ADVANTAGES[name](rewards).tolist() == [[0.0] * 7] * 2


@pytest.mark.parametrize("name", sorted(adv.REWARD_ADVANTAGES))
def test_missing_rewards_are_left_out_of_the_statistics(name: str) -> None:
    full = torch.tensor([[1.0, 0.0, 0.0]])
    holed = torch.tensor([[1.0, NAN, 0.0, 0.0, NAN]])
    result = adv.REWARD_ADVANTAGES[name](holed)
    assert result[0, [1, 4]].tolist() == [0.0, 0.0]
    torch.testing.assert_close(result[:, [0, 2, 3]], adv.REWARD_ADVANTAGES[name](full))
    assert adv.REWARD_ADVANTAGES[name](torch.full((2, 3), NAN)).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("name", ["group_centred", "group_zscore", "max_rl"])
def test_one_sample_has_nothing_to_compare(name: str) -> None:
    assert adv.REWARD_ADVANTAGES[name](torch.tensor([[1.0], [0.0]])).tolist() == [[0.0], [0.0]]


def test_leave_one_out_refuses_one_sample() -> None:
    with pytest.raises(ValueError, match="at least 2 samples per prompt"):
        adv.leave_one_out(torch.tensor([[1.0], [0.0]]))


def test_max_rl_refuses_graded_rewards() -> None:
    with pytest.raises(ValueError, match="0 or 1"):
        adv.max_rl(torch.tensor([[0.5, 1.0]]))


def test_greedy_baseline_refuses_another_number_of_prompts() -> None:
    with pytest.raises(ValueError, match="one entry per prompt"):
        adv.greedy_baseline(torch.zeros(2, 3), torch.zeros(3))


@pytest.mark.parametrize("shift", [-1e3, 7.0])
def test_a_constant_shift_changes_nothing(shift: float) -> None:
    rewards = torch.randn(3, 4, dtype=torch.float64)
    for name in sorted(set(adv.REWARD_ADVANTAGES) - {"max_rl"}):
        f = adv.REWARD_ADVANTAGES[name]
        torch.testing.assert_close(f(rewards + shift), f(rewards), rtol=0, atol=1e-9)


def test_batch_statistics_cross_groups_and_ignore_padding() -> None:
    values = torch.tensor([[1.0, 2.0, NAN], [6.0, 1e9, math.inf]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert adv.batch_centred(values, mask).tolist() == [[-2.0, -1.0, 0.0], [3.0, 0.0, 0.0]]
    whitened = adv.batch_whiten(values, mask)
    std = math.sqrt(7.0)
    expected = [x / (std + 1e-4) for x in (-2.0, -1.0, 0.0, 3.0, 0.0, 0.0)]
    assert whitened.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    assert adv.batch_whiten(values, torch.zeros(2, 3)).abs().sum().item() == 0


def test_published_optimal_value() -> None:
    """V* of rewards 1, 0, 0, 0 at beta 0.5 is 0.477229 (and 0.5 log((e^2 + 3) / 4))."""
    result = adv.optimal_value(torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.3] * 4, [1.0, NAN, NAN, NAN]]), 0.5)
    assert result[0].tolist() == pytest.approx([1 - 0.477229, *[-0.477229] * 3], abs=1e-6)
    assert result[1:].tolist() == [[0.0] * 4] * 2
    far = adv.optimal_value(torch.tensor([[1e4, -1e4]]), 1e-3)
    assert torch.isfinite(far).all()
    assert far[0].tolist() == pytest.approx([1e-3 * math.log(2), -2e4], rel=1e-4)
    assert adv.optimal_value(torch.full((1, 2), NAN), 1.0).tolist() == [[0.0, 0.0]]
    with pytest.raises(ValueError, match="beta = 0"):
        adv.optimal_value(torch.zeros(1, 2), 0.0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(group=st.lists(REWARD, min_size=1, max_size=5), beta=st.floats(0.1, 5))
def test_optimal_value_agrees_with_the_paper(group: list[float | None], beta: float) -> None:
    result = adv.optimal_value(tensor([group]), beta)[0].tolist()
    assert result == pytest.approx(oracle.optimal_value(group, beta), abs=1e-8)


def test_optimal_value_lies_between_the_mean_and_the_best() -> None:
    rewards = torch.tensor([[0.0, 1.0, 5.0]], dtype=torch.float64)
    for beta, value in ((1e4, 2.0), (1e-3, 5.0)):
        torch.testing.assert_close(
            rewards - adv.optimal_value(rewards, beta), torch.full_like(rewards, value), rtol=0, atol=1e-2
        )


STEPS = st.lists(
    st.tuples(st.integers(1, 6), st.lists(st.tuples(st.integers(0, 5), st.floats(-3, 3)), max_size=3)),
    min_size=2,
    max_size=4,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(samples=STEPS)
def test_process_rewards_agree_with_the_paper(samples: list[tuple[int, list[tuple[int, float]]]]) -> None:
    lengths = [length for length, _ in samples]
    steps = [[(min(end, n - 1), round(r, 3)) for end, r in own] for n, own in samples]
    rewards = torch.full((1, len(steps), 3), NAN, dtype=torch.float64)
    ends = torch.zeros(len(steps), 3, dtype=torch.long)
    mask = torch.zeros(len(steps), 6)
    for i, own in enumerate(steps):
        mask[i, : lengths[i]] = 1
        for j, (end, reward) in enumerate(own):
            rewards[0, i, j], ends[i, j] = reward, end
    normalised = adv.process_zscore(rewards)
    result = adv.following_steps(normalised[0], ends, mask)
    for row, n, expected in zip(result, lengths, oracle.process(steps, lengths, 1e-4), strict=True):
        assert row[:n].tolist() == pytest.approx(expected, abs=1e-8)
        assert row[n:].abs().sum() == 0


def test_tokens_earn_the_steps_that_follow_them() -> None:
    values, ends = torch.tensor([[1.0, 10.0, 100.0]]), torch.tensor([[0, 2, 3]])
    result = adv.following_steps(values, ends, torch.tensor([[1, 1, 1, 1, 1, 0]]))
    assert result.tolist() == [[111.0, 110.0, 110.0, 100.0, 0.0, 0.0]]


KNOWN = st.floats(-20, 20).map(lambda x: round(x, 3))
COMPONENTS = st.tuples(st.lists(KNOWN, min_size=3, max_size=3), st.lists(REWARD, min_size=3, max_size=3))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    prompts=st.lists(COMPONENTS.map(list), min_size=1, max_size=3),
    weights=st.lists(st.floats(0.1, 2), min_size=2, max_size=2),
)
def test_separate_components_agree_with_the_paper(
    prompts: list[list[list[float | None]]], weights: list[float]
) -> None:
    rewards = torch.stack([tensor(p).T for p in prompts])
    result = adv.separate_components(rewards, torch.tensor(weights, dtype=torch.float64), adv.group_zscore)
    expected = oracle.separate(prompts, weights, 1e-4)
    for row, group in zip(result.tolist(), expected, strict=True):
        assert row == pytest.approx(group, abs=1e-6)


def test_separate_components_keep_mixtures_apart_that_a_sum_confuses() -> None:
    """Two of two rewards, or one of one: the z-scores of the sums agree, GDPO's do not."""
    both, one = [[1.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]
    rewards, weights = torch.tensor([both, one]), torch.ones(2)
    summed = adv.group_zscore(rewards.sum(-1))
    torch.testing.assert_close(summed[0], summed[1], rtol=1e-3, atol=0)
    separate = adv.separate_components(rewards, weights, adv.group_zscore)
    assert separate[0, 0].item() == pytest.approx(2 * separate[1, 0].item(), rel=1e-3)


def test_separate_components_without_spread_are_exactly_zero() -> None:
    rewards = torch.full((2, 3, 2), 0.1)
    rewards[1] = torch.tensor([[1.0, 0.1], [0.0, 0.1], [0.0, 0.1]])
    result = adv.separate_components(rewards, torch.ones(2), adv.group_zscore)
    assert result[0].tolist() == [0.0] * 3
    assert result[1, 0] > 0 > result[1, 1]


def test_rewards_to_go() -> None:
    rewards, mask = torch.tensor([[1.0, 9.0, 2.0, 3.0]]), torch.tensor([[1, 0, 1, 1]])
    assert adv.rewards_to_go(rewards, mask, 1.0).tolist() == [[6.0, 0.0, 5.0, 3.0]]
    assert adv.rewards_to_go(rewards, mask, 0.5).tolist() == [[1 + 0.5 * 3.5, 0.0, 3.5, 3.0]]


def test_the_trace_decay_grows_with_the_length() -> None:
    mask = torch.tensor([[1] * 4 + [0] * 36, [1] * 40, [0] * 40])
    assert adv.length_adaptive_lam(mask, 0.05).tolist() == pytest.approx([0.0, 0.5, 0.0])


def test_gae_with_one_decay_for_each_row() -> None:
    rewards, values = torch.randn(2, 3, 5, dtype=torch.float64)
    mask, lams = torch.ones(3, 5), [0.0, 0.5, 1.0]
    together, _ = adv.gae(rewards, values, mask, 0.9, torch.tensor(lams, dtype=torch.float64))
    for row, lam in enumerate(lams):
        alone, _ = adv.gae(rewards[row : row + 1], values[row : row + 1], mask[:1], 0.9, lam)
        torch.testing.assert_close(together[row : row + 1], alone)
    with pytest.raises(ValueError, match="between 0 and 1"):
        adv.gae(rewards, values, mask, 0.9, torch.tensor([0.5, 0.5, 1.5]))


def test_advantages_are_constants() -> None:
    rewards = torch.tensor([[1.0, 0.0]], requires_grad=True)
    for f in adv.REWARD_ADVANTAGES.values():
        assert not f(rewards).requires_grad
    values = torch.zeros(1, 2, requires_grad=True)
    assert not any(x.requires_grad for x in adv.gae(rewards, values, torch.ones(1, 2), 1.0, 0.95))


def test_gae_by_hand() -> None:
    rewards = torch.tensor([[0.0, 1.0, 99.0]])
    values = torch.tensor([[0.5, 0.25, 99.0]])
    advantages, returns = adv.gae(rewards, values, torch.tensor([[1, 1, 0]]), gamma=0.5, lam=0.5)
    # delta_1 = 1 - 0.25; delta_0 = 0.5 * 0.25 - 0.5; the last valid token is terminal.
    assert advantages.tolist() == [[-0.375 + 0.25 * 0.75, 0.75, 0.0]]
    assert returns.tolist() == [[0.3125, 1.0, 0.0]]


ROWS = st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.booleans()), min_size=0, max_size=6)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(row=ROWS, gamma=st.floats(0, 1), lam=st.floats(0, 1))
def test_gae_is_the_sum_of_discounted_residuals(
    row: list[tuple[float, float, bool]], gamma: float, lam: float
) -> None:
    rewards, values, valid = [r for r, _, _ in row], [v for _, v, _ in row], [m for _, _, m in row]
    garbage = [[x if ok else NAN for x, ok in zip(xs, valid, strict=True)] for xs in (rewards, values)]
    r, v = (torch.tensor([xs], dtype=torch.float64) for xs in garbage)
    advantages, returns = adv.gae(r, v, torch.tensor([valid], dtype=torch.bool), gamma, lam)
    expected = oracle.gae(rewards, values, valid, gamma, lam)
    assert advantages[0].tolist() == pytest.approx(expected, abs=1e-9)
    targets = [a + x if ok else 0.0 for a, x, ok in zip(expected, values, valid, strict=True)]
    assert returns[0].tolist() == pytest.approx(targets, abs=1e-9)


def test_gae_limits_are_monte_carlo_and_temporal_difference() -> None:
    rewards, values = torch.randn(2, 2, 5, dtype=torch.float64)
    mask = torch.ones(2, 5)
    _, returns = adv.gae(rewards, values, mask, gamma=1.0, lam=1.0)
    torch.testing.assert_close(returns, rewards.flip(-1).cumsum(-1).flip(-1))
    residuals, _ = adv.gae(rewards, values, mask, gamma=0.9, lam=0.0)
    after = torch.cat([values[:, 1:], torch.zeros(2, 1, dtype=torch.float64)], -1)
    torch.testing.assert_close(residuals, rewards + 0.9 * after - values)


def test_gae_refuses_a_discount_outside_its_range() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        adv.gae(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1), gamma=1.1, lam=0.5)
