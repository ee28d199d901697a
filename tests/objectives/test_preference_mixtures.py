from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ridgeline.objectives import preference as p
from ridgeline.objectives.log_ratios import divergence_ratio


def inputs(n: int = 7, seed: int = 0) -> p.PairInputs:
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)

    names = ("chosen", "rejected", "ref_chosen", "ref_rejected", "gold")
    lengths = ("chosen_lengths", "rejected_lengths", "gold_lengths")
    return p.PairInputs(
        **{x: uniform(-9, -1) for x in names},
        **{x: uniform(1, 9).ceil() for x in lengths},
        margin=uniform(0, 2),
        chosen_rewards=uniform(1, 3),
        rejected_rewards=uniform(-2, 0),
    )


def part(whole: p.PairInputs, index: slice | Tensor) -> p.PairInputs:
    values = {f.name: getattr(whole, f.name) for f in fields(whole)}
    present: dict[str, Tensor] = {x: y[index] for x, y in values.items() if y is not None}
    return p.PairInputs(**present)


def leaves(whole: p.PairInputs) -> p.PairInputs:
    return replace(
        whole,
        chosen=whole.chosen.clone().requires_grad_(),
        rejected=whole.rejected.clone().requires_grad_(),
    )


def total(losses: dict[str, Tensor]) -> Tensor:
    return sum((x.sum() for x in losses.values()), torch.zeros((), dtype=torch.float64))


def test_a_mixture_is_the_weighted_sum_of_its_terms() -> None:
    objective = p.PAIR_PRESETS["mpo"]
    full = p.whole_step_inputs(inputs(), objective)
    losses = p.pair_losses(full, objective)
    assert full.chosen_lengths is not None
    assert full.shift is not None
    assert full.ref_chosen is not None
    assert full.ref_rejected is not None
    four = (full.chosen, full.rejected, full.ref_chosen, full.ref_rejected)
    torch.testing.assert_close(losses["dpo"], 0.8 * p.dpo(*four, beta=0.1))
    torch.testing.assert_close(losses["bco_pair"], 0.2 * p.bco_pair(*four, beta=0.1, shift=full.shift))
    expected = p.sft_chosen(full.chosen, chosen_lengths=full.chosen_lengths)
    torch.testing.assert_close(losses["sft_chosen"], expected)


def test_dpo_with_nll_is_equation_f87() -> None:
    # (l_c, l_r) = (0.5, -1), |y_c| = 6: 0.620957 + 11.5 / 6.
    c, r, rc, rr = (torch.tensor([x]) for x in (-11.5, -9.0, -12.0, -8.0))
    known = p.PairInputs(
        chosen=c,
        rejected=r,
        ref_chosen=rc,
        ref_rejected=rr,
        chosen_lengths=torch.tensor([6]),
        rejected_lengths=torch.tensor([4]),
    )
    losses = p.pair_losses(known, p.PAIR_PRESETS["dpo_nll"])
    assert total(losses).item() == pytest.approx(0.620957 + 11.5 / 6, abs=1e-6)


@pytest.mark.parametrize("name", sorted(p.PAIR_PRESETS))
def test_micro_batches_change_nothing(name: str) -> None:
    objective = p.PAIR_PRESETS[name]
    start = inputs()
    if objective.weighting == "wpo":
        start = replace(start, weight=torch.linspace(0, 1, 7, dtype=torch.float64))
    whole = leaves(start)
    known = p.whole_step_inputs(whole, objective)
    total(p.pair_losses(known, objective)).backward()
    split = leaves(start)
    known = p.whole_step_inputs(split, objective)
    value = torch.zeros((), dtype=torch.float64)
    for piece in (slice(0, 3), slice(3, 4), slice(4, 7)):
        loss = total(p.pair_losses(part(known, piece), objective))
        loss.backward()
        value += loss.detach()
    reads_rejected = any(term.traits.rejected for term in objective.terms)
    torch.testing.assert_close(value, total(p.pair_losses(known, objective)).detach())
    torch.testing.assert_close(split.chosen.grad, whole.chosen.grad)
    assert whole.chosen.grad is not None
    if reads_rejected:
        torch.testing.assert_close(split.rejected.grad, whole.rejected.grad)
        assert whole.rejected.grad is not None


@pytest.mark.parametrize("name", ["aot", "aot_unpaired"])
def test_matched_losses_of_micro_batches_are_those_of_the_sorted_step(name: str) -> None:
    start = inputs(9)
    assert start.ref_chosen is not None
    assert start.ref_rejected is not None
    sorted_step = leaves(start)
    a, b = sorted_step.chosen - sorted_step.rejected, start.ref_chosen - start.ref_rejected
    if name == "aot_unpaired":
        a, b = sorted_step.chosen - start.ref_chosen, sorted_step.rejected - start.ref_rejected
    plain = torch.nn.functional.softplus(-0.01 * (a.sort().values - b.sort().values)).sum()
    plain.backward()
    objective = p.PAIR_PRESETS[name]
    split = leaves(start)
    known = p.whole_step_inputs(split, objective)
    pieces = [total(p.pair_losses(part(known, slice(i, i + 2)), objective)) for i in range(0, 9, 2)]
    value = torch.stack(pieces).sum()
    value.backward()
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(split.chosen.grad, sorted_step.chosen.grad)
    torch.testing.assert_close(split.rejected.grad, sorted_step.rejected.grad)
    # Sorting each micro-batch by itself is another loss.
    columns = torch.stack([start.chosen, start.rejected, start.ref_chosen, start.ref_rejected])
    alone = [p.PAIR_FUNCTIONS[name](*columns[:, i : i + 2]).sum() for i in range(0, 9, 2)]
    assert torch.stack(alone).sum().item() != pytest.approx(value.item(), abs=1e-6)


def test_rank_matching() -> None:
    values = torch.tensor([3.0, -1.0, 2.0], requires_grad=True)
    targets = torch.tensor([0.5, 0.1, 0.9], requires_grad=True)
    matched = p.rank_match(values, targets)
    assert matched.tolist() == pytest.approx([0.9, 0.1, 0.5])
    assert not matched.requires_grad
    # Ties keep the order of the batch.
    assert p.rank_match(torch.zeros(3), torch.tensor([3.0, 1.0, 2.0])).tolist() == [1.0, 2.0, 3.0]
    assert p.rank_match(torch.zeros(0), torch.zeros(0)).shape == (0,)
    with pytest.raises(ValueError, match="as many targets as values"):
        p.rank_match(torch.zeros(3), torch.zeros(2))


def test_the_shift_is_the_mean_reward_of_the_step() -> None:
    known = inputs()
    objective = p.PairObjective(terms=(p.PairTerm(loss="bco_pair", options={"beta": 0.5}),))
    full = p.whole_step_inputs(leaves(known), objective)
    assert full.shift is not None
    assert known.ref_chosen is not None
    assert known.ref_rejected is not None
    rewards = 0.5 * torch.cat([known.chosen - known.ref_chosen, known.rejected - known.ref_rejected])
    torch.testing.assert_close(full.shift, rewards.mean().expand(7))
    assert not full.shift.requires_grad
    assert p.whole_step_inputs(known, p.PAIR_PRESETS["dpo"]) == known


@pytest.mark.parametrize(
    "objective",
    [
        p.PairObjective(
            terms=(p.PairTerm(loss="dpo"), p.PairTerm(loss="sft_chosen")), divergence="forward_kl"
        ),
        p.PairObjective(
            terms=(p.PairTerm(loss="dpo"), p.PairTerm(loss="sft_chosen")),
            divergence="alpha",
            divergence_alpha=0.3,
        ),
    ],
)
def test_divergence_replaces_ratios_but_not_likelihoods(objective: p.PairObjective) -> None:
    known = inputs()
    assert known.ref_chosen is not None
    assert known.ref_rejected is not None
    assert known.chosen_lengths is not None
    kind, alpha = objective.divergence, objective.divergence_alpha
    losses = p.pair_losses(known, objective)
    scores = (
        divergence_ratio(known.chosen - known.ref_chosen, kind, alpha),
        divergence_ratio(known.rejected - known.ref_rejected, kind, alpha),
    )
    zero = torch.zeros_like(scores[0])
    torch.testing.assert_close(losses["dpo"], p.dpo(*scores, zero, zero, beta=0.1))
    torch.testing.assert_close(
        losses["sft_chosen"], p.sft_chosen(known.chosen, chosen_lengths=known.chosen_lengths)
    )


@pytest.mark.parametrize("kind", ["forward_kl", "js", "alpha"])
@pytest.mark.parametrize("name", sorted(n for n, loss in p.PAIR_LOSSES.items() if loss.margin_based))
def test_every_margin_survives_an_extreme_ratio_under_a_divergence(name: str, kind: p.Divergence) -> None:
    objective = p.PairObjective(
        terms=(p.PairTerm(loss=name),), divergence=kind, divergence_alpha=0.5 if kind == "alpha" else None
    )
    ends = torch.tensor([-1e4, 0.0])
    grid = torch.cartesian_prod(ends, ends, ends, ends)
    one = torch.ones(len(grid))
    known = p.PairInputs(
        chosen=grid[:, 0].clone().requires_grad_(),
        rejected=grid[:, 1].clone().requires_grad_(),
        ref_chosen=grid[:, 2],
        ref_rejected=grid[:, 3],
        margin=one,
        chosen_rewards=2 * one,
        rejected_rewards=one,
    )
    losses = p.pair_losses(known, objective)[name]
    grads = torch.autograd.grad(losses.sum(), (known.chosen, known.rejected))
    assert torch.isfinite(losses).all()
    assert all(torch.isfinite(x).all() for x in grads)


def test_weights_multiply_every_term_and_carry_no_gradient() -> None:
    weight = torch.linspace(0, 1, 7, dtype=torch.float64).requires_grad_()
    known = leaves(replace(inputs(), weight=weight))
    weighted = p.pair_losses(known, p.PAIR_PRESETS["dpo_nll"])
    plain = p.pair_losses(replace(known, weight=None), p.PAIR_PRESETS["dpo_nll"])
    for name, loss in weighted.items():
        torch.testing.assert_close(loss, weight.detach() * plain[name])
    total(weighted).backward()
    assert weight.grad is None


def test_labels_reach_the_losses_that_understand_them() -> None:
    known = replace(inputs(), label=torch.full((7,), 0.5))
    assert known.ref_chosen is not None
    assert known.ref_rejected is not None
    losses = p.pair_losses(known, p.PAIR_PRESETS["dpo"])["dpo"]
    four = (known.chosen, known.rejected, known.ref_chosen, known.ref_rejected)
    torch.testing.assert_close(losses, p.dpo(*four, beta=0.1, label=torch.full((7,), 0.5)))
    with pytest.raises(ValueError, match="loss 'sft_chosen' takes no soft label"):
        p.pair_losses(known, p.PAIR_PRESETS["dpo_nll"])


@pytest.mark.parametrize("name", sorted(p.PAIR_LOSSES))
def test_missing_inputs_are_named(name: str) -> None:
    objective = p.PairObjective(terms=(p.PairTerm(loss=name),))
    known = p.whole_step_inputs(inputs(), objective)
    p.pair_losses(known, objective)
    for missing in p.PAIR_LOSSES[name].inputs:
        if missing not in ("chosen", "rejected"):
            with pytest.raises(ValueError, match=f"loss '{name}' needs the input '{missing}'"):
                p.pair_losses(replace(known, **dict[str, Any]({missing: None})), objective)


def test_wpo_needs_weights() -> None:
    with pytest.raises(ValueError, match="'wpo' needs the input 'weight'"):
        p.pair_losses(inputs(), p.PAIR_PRESETS["wpo"])
