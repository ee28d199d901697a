"""Advantages of a whole step against arithmetic done by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.models.families import ids
from tests.training.jobs import preset

from ridgeline.models.batch import Row, completion_row
from ridgeline.objectives.advantages import REWARD_ADVANTAGES
from ridgeline.objectives.presets import PRESETS
from ridgeline.training.advantages import Extras, assign_advantages

NAN = float("nan")
LENGTHS = [2, 3, 1, 4]
REWARDS = torch.tensor([[1.0, 4.0], [10.0, 20.0]])


def make_rows(kl: float = 0.5) -> list[Row]:
    """Two prompts, two samples each; every token has the same k1 of ``kl`` nats."""
    rows = []
    for number, length in enumerate(LENGTHS):
        row = completion_row(ids(3, number // 2), ids(length, number + 50))
        row.fields["sampler_logp"] = np.full(length, -1.0, dtype=np.float32)
        row.fields["ref_logp"] = np.full(length, -1.0 - kl, dtype=np.float32)
        row.fields["old_values"] = np.linspace(0.1, 0.4, length, dtype=np.float32)
        rows.append(row)
    return rows


def per_row(rows: list[Row]) -> list[float]:
    """The advantage of every row, which must be the same on all of its tokens."""
    for row in rows:
        assert len(set(row.fields["advantage"].tolist())) == 1
        assert row.fields["advantage"].dtype == np.float32
        assert len(row.fields["advantage"]) == len(row.targets)
    return [float(row.fields["advantage"][0]) for row in rows]


def test_grpo_compares_within_the_prompt() -> None:
    """Fails if groups were sample-major: then 1 would meet 10, and 4 would meet 20."""
    rows = make_rows()
    signal = assign_advantages(rows, REWARDS, preset("grpo"), kl_coefficient=0.04)
    first, second = 1.5 / (math.sqrt(4.5) + 1e-4), 5 / (math.sqrt(50) + 1e-4)
    assert per_row(rows) == pytest.approx([-first, first, -second, second], rel=1e-5)
    assert signal.tolist() == [True, True]


@pytest.mark.parametrize("name", ["dapo", "gspo", "cispo"])
def test_presets_built_on_grpo_share_its_advantage(name: str) -> None:
    rows, grpo = make_rows(), make_rows()
    assign_advantages(rows, REWARDS, preset(name), kl_coefficient=0)
    assign_advantages(grpo, REWARDS, preset("grpo"), kl_coefficient=0)
    assert per_row(rows) == per_row(grpo)


def test_dr_grpo_only_centres() -> None:
    rows = make_rows()
    assign_advantages(rows, REWARDS, preset("dr_grpo"), kl_coefficient=0)
    assert per_row(rows) == pytest.approx([-1.5, 1.5, -5, 5])


def test_rloo_with_the_kl_in_the_reward() -> None:
    """score - coefficient * sum of k1: 0.5 nats on each of 2, 3, 1 and 4 tokens at coefficient 0.2."""
    rows = make_rows()
    assign_advantages(rows, REWARDS, preset("rloo"), kl_coefficient=0.2)
    shaped = [1 - 0.2, 4 - 0.3, 10 - 0.1, 20 - 0.4]
    expected = [shaped[0] - shaped[1], shaped[1] - shaped[0], shaped[2] - shaped[3], shaped[3] - shaped[2]]
    assert per_row(rows) == pytest.approx(expected, rel=1e-5)


def test_reinforce_subtracts_the_mean_of_the_step() -> None:
    rows = make_rows()
    assign_advantages(rows, REWARDS, preset("reinforce"), kl_coefficient=0.2)
    shaped = np.array([1 - 0.2, 4 - 0.3, 10 - 0.1, 20 - 0.4])
    assert per_row(rows) == pytest.approx((shaped - shaped.mean()).tolist(), rel=1e-5)


def test_a_kl_in_the_loss_is_not_charged_again() -> None:
    rows = make_rows(kl=3.0)
    assign_advantages(rows, REWARDS, preset("dr_grpo"), kl_coefficient=0.5)
    assert per_row(rows) == pytest.approx([-1.5, 1.5, -5, 5])


def test_the_learners_own_log_probs_take_precedence() -> None:
    rows = make_rows()
    for row in rows:
        row.fields["old_logp"] = row.fields["ref_logp"].copy()  # the learner has no KL at all
    assign_advantages(rows, REWARDS, preset("rloo"), kl_coefficient=0.2)
    assert per_row(rows) == pytest.approx([-3, 3, -10, 10])


PER_COMPLETION = [
    name
    for name, preset in PRESETS.items()
    if preset.advantage in REWARD_ADVANTAGES
    and preset.components == "summed"
    and not preset.whiten
    and preset.advantage != "max_rl"
]


@pytest.mark.parametrize("name", PER_COMPLETION)
def test_a_missing_reward_leaves_the_others_alone(name: str) -> None:
    rewards = torch.tensor([[1.0, NAN], [10.0, 20.0]])
    rows = make_rows()
    signal = assign_advantages(rows, rewards, preset(name), kl_coefficient=0)
    advantages = per_row(rows)
    assert np.isfinite(advantages).all()
    assert advantages[1] == 0
    if PRESETS[name].advantage != "batch_centred":
        assert advantages[0] == 0  # nobody to be compared with
        assert signal.tolist() == [False, True]
    assert advantages[2] < advantages[3]


GROUPED = [name for name in PER_COMPLETION if name not in ("reinforce", "rloo")]


@pytest.mark.parametrize("name", GROUPED)
def test_groups_without_spread_carry_no_signal(name: str) -> None:
    rows = make_rows()
    signal = assign_advantages(rows, torch.tensor([[3.3, 3.3], [1, 2]]), preset(name), kl_coefficient=0)
    assert signal.tolist() == [False, True]


def test_greedy_baseline_needs_its_rewards() -> None:
    objective = replace(preset("dr_grpo"), advantage="greedy_baseline")
    rows = make_rows()
    extras = Extras(greedy_P=torch.tensor([2.0, 15.0]))
    assign_advantages(rows, REWARDS, objective, kl_coefficient=0, extras=extras)
    assert per_row(rows) == pytest.approx([-1, 2, -5, 5])
    with pytest.raises(ValueError, match="greedy"):
        assign_advantages(rows, REWARDS, objective, kl_coefficient=0)


def gae_by_hand(values: list[float], rewards: list[float], gamma: float, lam: float) -> list[float]:
    """The sum of the paper's equation 16, term by term."""
    padded = [*values, 0.0]
    deltas = [r + gamma * padded[t + 1] - padded[t] for t, r in enumerate(rewards)]
    n = len(deltas)
    return [sum((gamma * lam) ** k * deltas[t + k] for k in range(n - t)) for t in range(n)]


def test_ppo_pays_the_score_at_the_last_token_and_the_kl_at_each() -> None:
    objective = replace(preset("ppo"), whiten=False, gamma=0.9)
    rows = make_rows()
    assign_advantages(rows, REWARDS, objective, kl_coefficient=0.2)
    for row, score in zip(rows, REWARDS.flatten().tolist(), strict=True):
        values = row.fields["old_values"].tolist()
        rewards = [-0.2 * 0.5] * len(values)
        rewards[-1] += score
        expected = gae_by_hand(values, rewards, 0.9, objective.lam)
        assert row.fields["advantage"].tolist() == pytest.approx(expected, rel=1e-5)
        returns = [a + v for a, v in zip(expected, values, strict=True)]
        assert row.fields["returns"].tolist() == pytest.approx(returns, rel=1e-5)


def test_ppo_whitens_over_the_tokens_of_the_step() -> None:
    plain, white = make_rows(), make_rows()
    assign_advantages(plain, REWARDS, replace(preset("ppo"), whiten=False), kl_coefficient=0.2)
    assign_advantages(white, REWARDS, preset("ppo"), kl_coefficient=0.2)
    tokens = np.concatenate([row.fields["advantage"] for row in plain])
    expected = (tokens - tokens.mean()) / (tokens.std(ddof=1) + 1e-4)
    np.testing.assert_allclose(
        np.concatenate([row.fields["advantage"] for row in white]), expected, rtol=1e-4
    )
    for a, b in zip(plain, white, strict=True):  # the critic's targets stay in reward units
        np.testing.assert_array_equal(a.fields["returns"], b.fields["returns"])


def test_ppo_with_a_missing_reward() -> None:
    rows = make_rows()
    rewards = torch.tensor([[1.0, NAN], [10.0, 20.0]])
    assign_advantages(rows, rewards, preset("ppo"), kl_coefficient=0.2)
    assert (rows[1].fields["advantage"] == 0).all()
    assert (rows[1].fields["returns"] == rows[1].fields["old_values"]).all()
    others = np.concatenate([rows[n].fields["advantage"] for n in (0, 2, 3)])
    assert others.mean() == pytest.approx(0, abs=1e-5)
    assert others.std(ddof=1) == pytest.approx(1, rel=1e-3)


def test_reinforce_plus_plus_returns_what_follows_and_whitens_it() -> None:
    """The score at the end, 0.5 nats at 0.2 for every token from here on, then the moments of the step."""
    rows = make_rows()
    assign_advantages(rows, REWARDS, preset("reinforce++"), kl_coefficient=0.2)
    returns = [
        score - 0.1 * (length - t)
        for score, length in zip(REWARDS.flatten().tolist(), LENGTHS, strict=True)
        for t in range(length)
    ]
    expected = (np.array(returns) - np.mean(returns)) / (np.std(returns, ddof=1) + 1e-4)
    actual = np.concatenate([row.fields["advantage"] for row in rows])
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_reinforce_plus_plus_with_a_group_baseline() -> None:
    rows = make_rows()
    assign_advantages(rows, REWARDS, preset("reinforce++_baseline"), kl_coefficient=0.2)
    tokens = np.repeat([-1.5, 1.5, -5, 5], LENGTHS)
    expected = (tokens - tokens.mean()) / (tokens.std(ddof=1) + 1e-4)
    np.testing.assert_allclose(np.concatenate([r.fields["advantage"] for r in rows]), expected, rtol=1e-4)


def test_vapo_decouples_the_critic_and_adapts_to_the_length() -> None:
    """Advantages with 1 - 1 / (0.5 * tokens), targets with lambda 1: the plain return."""
    rows = make_rows()
    objective = replace(preset("vapo"), whiten=False, lam_length=0.5)
    assign_advantages(rows, REWARDS, objective, kl_coefficient=0)
    for row, score in zip(rows, REWARDS.flatten().tolist(), strict=True):
        values = row.fields["old_values"].tolist()
        rewards = [0.0] * (len(values) - 1) + [score]
        lam = max(0.0, 1 - 1 / (0.5 * len(values)))
        expected = gae_by_hand(values, rewards, 1.0, lam)
        assert row.fields["advantage"].tolist() == pytest.approx(expected, rel=1e-5)
        assert row.fields["returns"].tolist() == pytest.approx([score] * len(values), rel=1e-5)


def test_process_supervision_pays_each_token_what_follows_it() -> None:
    rows = make_rows()
    steps = [[(0, 1.0), (1, 2.0)], [(2, 3.0)], [(0, 5.0)], []]
    signal = assign_advantages(
        rows, REWARDS, preset("process_grpo"), kl_coefficient=0, extras=Extras(steps=steps)
    )
    z = [(r - 2.0) / (1.0 + 1e-4) for r in (1.0, 2.0, 3.0)]
    assert rows[0].fields["advantage"].tolist() == pytest.approx([z[0] + z[1], z[1]], abs=1e-6)
    assert rows[1].fields["advantage"].tolist() == pytest.approx([z[2]] * 3, abs=1e-6)
    assert rows[2].fields["advantage"].tolist() == [0.0]  # the only step of its prompt
    assert rows[3].fields["advantage"].tolist() == [0.0] * 4
    assert signal.tolist() == [True, False]
    with pytest.raises(ValueError, match="every step"):
        assign_advantages(rows, REWARDS, preset("process_grpo"), kl_coefficient=0)


def test_gdpo_compares_every_reward_by_itself() -> None:
    components = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 5.0], [0.0, 0.0]]])
    extras = Extras(components_PGC=components, weights_C=torch.tensor([1.0, 0.5]))
    rows = make_rows()
    assign_advantages(rows, components.sum(-1), preset("gdpo"), kl_coefficient=0, extras=extras)
    first, second, third, fourth = per_row(rows)
    assert first == pytest.approx(-second)
    assert third == pytest.approx(1.5 * first, rel=1e-3)
    assert fourth == pytest.approx(-third)
    assert np.std([first, second, third, fourth], ddof=1) == pytest.approx(1, rel=1e-3)
    with pytest.raises(ValueError, match="every reward by itself"):
        assign_advantages(rows, REWARDS, preset("gdpo"), kl_coefficient=0)


def test_a2po_subtracts_the_value_of_the_regularised_optimum() -> None:
    rows = make_rows()
    assign_advantages(rows, REWARDS, preset("a2po"), kl_coefficient=0)
    value = 0.5 * math.log((math.exp(1 / 0.5) + math.exp(4 / 0.5)) / 2)
    assert per_row(rows)[:2] == pytest.approx([1 - value, 4 - value], rel=1e-5)


def test_only_the_tokens_of_highest_entropy_keep_their_advantage() -> None:
    rows = make_rows()
    for number, row in enumerate(rows):
        row.fields["entropy"] = np.arange(len(row.targets), dtype=np.float32) + 0.1 * number
    objective = replace(preset("dr_grpo"), entropy_share=0.3)  # 3 of 10 tokens
    assign_advantages(rows, REWARDS, objective, kl_coefficient=0)
    kept = [row.fields["advantage"].tolist() for row in rows]
    assert kept == [[0, 0], [0, 0, 1.5], [0], [0, 0, 5, 5]]


def test_rows_say_whether_they_succeeded() -> None:
    rows = make_rows()
    assign_advantages(rows, torch.tensor([[1.0, 0.0], [NAN, -1.0]]), preset("grpo"), kl_coefficient=0)
    assert [row.values["positive"] for row in rows] == [1.0, 0.0, 0.0, 0.0]
