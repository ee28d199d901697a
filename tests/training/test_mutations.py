"""A sign flipped in ``objectives`` must break a representative check of everything that uses it.

Each check below is a statement about learning, made through the engine: what the gradient does to log-probs,
scores, values or the leash. It holds for the code as it is and must fail for every mutation of its formula.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.families import make_model
from tests.training.jobs import engine_for, flat, judge, pairs, policy, preset, rl_units

from ridgeline.models import forward
from ridgeline.models.forward import PolicyForward
from ridgeline.models.kernels import kernel_library
from ridgeline.models.score_model import score_forward, value_forward
from ridgeline.objectives import advantages as advantage_formulas
from ridgeline.objectives import policy as policy_formulas
from ridgeline.objectives.presets import PRESETS
from ridgeline.training import advantages, next_token, pairwise, policy_gradient
from ridgeline.training.advantages import Extras, assign_advantages
from ridgeline.training.next_token import NextToken
from ridgeline.training.pairwise import PairwiseRanking
from ridgeline.training.policy_gradient import PolicyGradient, ValueRegression

Flip = Callable[[pytest.MonkeyPatch], None]


def flip(module: Any, name: str) -> Flip:
    """Replace ``module.name`` by its negative (the first result, of several)."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        plain = getattr(module, name)

        def negative(*arguments: Any, **options: Any) -> Any:
            result = plain(*arguments, **options)
            if hasattr(result, "_replace"):
                return result._replace(**{result._fields[0]: -result[0]})
            return (-result[0], *result[1:]) if isinstance(result, tuple) else -result

        patch.setattr(module, name, negative)

    return apply


def flip_entry(table_owner: Any, table: str, key: str) -> Flip:
    def apply(patch: pytest.MonkeyPatch) -> None:
        changed = dict(getattr(table_owner, table))
        plain = changed[key]
        changed[key] = lambda *arguments: -plain(*arguments)
        patch.setattr(table_owner, table, changed)

    return apply


def sums(engine: Any, units: Any, name: str) -> np.ndarray:
    return np.array([float(score[name].sum()) for score in engine.score("policy", units)])


def sft_learns(family: str = "llama") -> bool:
    module, units = make_model(family), pairs()

    def likelihood() -> float:  # by transformers alone, which no mutation reaches
        total = 0.0
        with torch.no_grad():
            for row in flat(units):
                ids, targets = torch.from_numpy(row.ids), torch.from_numpy(row.targets)
                logp_TV = torch.log_softmax(module(input_ids=ids[None]).logits[0], -1)
                total += float(logp_TV[targets - 1, ids[targets]].sum())
        return total

    engine, before = engine_for(module, PolicyForward()), likelihood()
    engine.forward_backward("policy", units, NextToken())
    engine.step("policy", 1e-4)
    return likelihood() > before


def sft_learns_on_a_capped_head() -> bool:
    """Log-probs of a head that is not plain are formed in torch, the others' where a kernel is at hand."""
    return sft_learns("gemma2")


def judge_learns() -> bool:
    engine, units = engine_for(judge(), score_forward), pairs()
    before = sums(engine, units, "score")
    engine.forward_backward("policy", units, PairwiseRanking())
    engine.step("policy", 1e-3)
    after = sums(engine, units, "score")
    return bool(((after - before)[0::2] - (after - before)[1::2]).sum() > 0)


def scores_are_centred() -> bool:
    engine, units = engine_for(judge(), score_forward), pairs()
    before = np.square(sums(engine, units, "score").reshape(-1, 2).sum(1)).sum()
    engine.forward_backward("policy", units, PairwiseRanking(centering=100.0))
    engine.step("policy", 1e-4)
    return bool(np.square(sums(engine, units, "score").reshape(-1, 2).sum(1)).sum() < before)


def policy_learns(name: str) -> bool:
    objective = replace(preset(name), kl_coefficient=0.0, positive_nll=0.0)
    engine, units = engine_for(policy(), PolicyForward()), rl_units()
    rows = flat(units)
    for row, score in zip(rows, engine.score("policy", units), strict=True):
        for field in ("ref_logp", "sampler_logp", "old_logp"):
            row.fields[field] = score["logp"]
        row.fields["old_values"] = np.zeros_like(score["logp"])
    rewards_PG = torch.tensor([[1.0, 0.0]] * len(units))
    extras = Extras(
        greedy_P=torch.full((len(units),), 0.5),
        components_PGC=rewards_PG[..., None],
        weights_C=torch.ones(1),
        steps=[[(0, reward)] for reward in rewards_PG.flatten().tolist()],
    )
    assign_advantages(rows, rewards_PG, objective, kl_coefficient=0.0, extras=extras)
    before = sums(engine, units, "logp")
    engine.forward_backward("policy", units, PolicyGradient(objective, kl_coefficient=0.0))
    engine.step("policy", 1e-4)
    change = sums(engine, units, "logp") - before
    return bool(change[0::2].sum() > change[1::2].sum())


def leash_pulls() -> bool:
    """With nothing to gain, the KL in the loss must bring the policy nearer to the reference."""
    engine, units = engine_for(policy(), PolicyForward()), rl_units()
    for row, score in zip(flat(units), engine.score("policy", units), strict=True):
        row.fields["old_logp"] = score["logp"]
        row.fields["ref_logp"] = score["logp"] + np.float32(0.5)
        row.fields["advantage"][:] = 0
    before = sums(engine, units, "logp").sum()
    engine.forward_backward("policy", units, PolicyGradient(preset("grpo"), kl_coefficient=1.0))
    engine.step("policy", 1e-4)
    return bool(sums(engine, units, "logp").sum() > before)


def leash_costs() -> bool:
    """In the reward, the sample that strayed from the reference must come out worse."""
    units = rl_units()
    for row in flat(units):
        row.fields.pop("old_logp")
    for unit in units:
        unit[0].fields["ref_logp"] = unit[0].fields["sampler_logp"] - np.float32(1.0)
        unit[1].fields["ref_logp"] = unit[1].fields["sampler_logp"].copy()
    assign_advantages(flat(units), torch.zeros(len(units), 2), preset("rloo"), kl_coefficient=0.5)
    return all(unit[0].fields["advantage"][0] < 0 < unit[1].fields["advantage"][0] for unit in units)


def critic_learns() -> bool:
    engine, units = engine_for(judge(), value_forward), rl_units()
    for row, score in zip(flat(units), engine.score("policy", units), strict=True):
        row.fields["old_values"] = score["values"]
        row.fields["returns"] = score["values"] + np.float32(2.0)
    before = sums(engine, units, "values").sum()
    engine.forward_backward("policy", units, ValueRegression(coefficient=0.5, clip=0.2))
    engine.step("policy", 1e-3)
    return bool(sums(engine, units, "values").sum() > before)


MUTATIONS: list[tuple[str, Callable[[], bool], Flip]] = [
    ("sft / nll", sft_learns, flip(next_token, "nll")),
    ("sft / aggregate", sft_learns, flip(next_token, "aggregate")),
    ("sft / token_logprobs", sft_learns_on_a_capped_head, flip(forward, "token_logprobs")),
    ("reward model / bradley_terry", judge_learns, flip(pairwise, "bradley_terry")),
    ("reward model / centering", scores_are_centred, flip(pairwise, "centering")),
    ("critic / value_loss", critic_learns, flip(policy_gradient, "value_loss")),
    ("critic / aggregate", critic_learns, flip(policy_gradient, "aggregate")),
    ("leash / k3", leash_pulls, flip_entry(policy_formulas, "ESTIMATORS", "k3")),
    ("leash / aggregate", leash_pulls, flip(policy_gradient, "aggregate")),
    ("charge / k1", leash_costs, flip_entry(advantages, "ESTIMATORS", "k1")),
    ("ppo / batch_whiten", lambda: policy_learns("ppo"), flip(advantage_formulas, "batch_whiten")),
]
if kernel_library() is not None:
    MUTATIONS.append(("sft / scored_logprobs", sft_learns, flip(forward, "scored_logprobs")))
for _preset in PRESETS:
    _check = (lambda name: lambda: policy_learns(name))(_preset)
    _advantage = PRESETS[_preset].advantage
    MUTATIONS += [
        (f"{_preset} / {_advantage}", _check,
         flip_entry(advantage_formulas, "REWARD_ADVANTAGES", _advantage)
         if _advantage in advantage_formulas.REWARD_ADVANTAGES else flip(advantage_formulas, _advantage)),
        (f"{_preset} / aggregate", _check, flip(policy_gradient, "aggregate")),
    ]  # fmt: skip
    if PRESETS[_preset].bounding != "regression":  # the negative of a square is no flipped sign
        MUTATIONS.append((f"{_preset} / bounded loss", _check, flip(policy_formulas, "bounded_loss")))


@pytest.mark.parametrize(("check", "mutate"), [case[1:] for case in MUTATIONS], ids=[c[0] for c in MUTATIONS])
def test_a_flipped_sign_is_noticed(
    check: Callable[[], bool], mutate: Flip, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check()
    mutate(monkeypatch)
    assert not check()
