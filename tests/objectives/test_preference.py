from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ridgeline.objectives import preference as p
from ridgeline.objectives.log_ratios import divergence_ratio

LOG2 = math.log(2.0)
COMPARING = sorted(name for name, loss in p.PAIR_LOSSES.items() if loss.reference)


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


# The fixture of reference/peers-trl.md 4.2: chosen log-ratio +0.5 of 6 tokens, rejected -1.0 of 4.
PAIR = (one(-11.5), one(-9.0), one(-12.0), one(-8.0))
LENGTHS = {"chosen_lengths": torch.tensor([6]), "rejected_lengths": torch.tensor([4])}


def test_golden_values_of_the_pair() -> None:
    # sigmoid: log(1 + e^-0.15). sppo: (0.5 - 5)^2 + (-1 + 5)^2. hinge: 1 - 0.15. Others in the peer's table.
    golden = {
        "dpo": 0.620957,
        "aot": 0.620957,
        "aot_unpaired": 0.620957,
        "hinge": 0.85,
        "exo": 2.505517,
        "nca": 1.349888,
        "robust_dpo": 0.602207,
        "bco_pair": 1.312856,
        "sppo": 36.25,
        "apo_zero": 0.962523,
        "apo_down": 0.975068,
        "discopop": 0.849338,
    }
    for name, value in golden.items():
        assert p.PAIR_FUNCTIONS[name](*PAIR, beta=0.1).item() == pytest.approx(value, abs=1e-6), name
    assert p.dpo_norm(*PAIR, beta=0.1, **LENGTHS).item() == pytest.approx(0.676619, abs=1e-6)


def test_ipo_acts_on_sums() -> None:
    assert p.ipo(*PAIR, beta=0.1).item() == pytest.approx(12.25)  # (1.5 - 5)^2
    averages = [x / n for x, n in zip(PAIR, (6, 4, 6, 4), strict=True)]
    assert p.ipo(*averages, beta=0.1).item() == pytest.approx(21.777778, abs=1e-6)  # the peer's


@pytest.mark.parametrize(
    ("kind", "alpha", "value"),
    [
        ("reverse_kl", None, 0.620957),
        ("forward_kl", None, 0.593124),
        ("js", None, 0.652068),
        ("alpha", 0.5, 0.609934),
    ],
)
def test_golden_values_of_f_dpo(kind: p.Divergence, alpha: float | None, value: float) -> None:
    chosen = divergence_ratio(PAIR[0] - PAIR[2], kind, alpha)
    rejected = divergence_ratio(PAIR[1] - PAIR[3], kind, alpha)
    assert p.dpo(chosen, rejected, one(0), one(0), beta=0.1).item() == pytest.approx(value, abs=1e-6)


def test_golden_values_without_a_reference() -> None:
    assert p.cpo(one(-12), one(-14), beta=0.1).item() == pytest.approx(0.598139, abs=1e-6)
    # The peer's CPO hinge (0.8) and CPO ipo (12.25 on averages) are links of ours with a reference of 0.
    assert p.hinge(one(-12), one(-14), one(0), one(0), beta=0.1).item() == pytest.approx(0.8)
    assert p.ipo(one(-2), one(-3.5), one(0), one(0), beta=0.1).item() == pytest.approx(12.25)
    sums = one(-12), one(-14)  # averages -2 and -3.5
    assert p.simpo(*sums, beta=0.1, gamma=0.5, **LENGTHS).item() == pytest.approx(0.883382, abs=1e-6)
    assert p.alphapo(*sums, beta=0.1, gamma=0.5, alpha=0.0, **LENGTHS).item() == pytest.approx(
        0.883382, abs=1e-6
    )
    assert p.alphapo(*sums, beta=0.1, gamma=0.5, alpha=1e-12, **LENGTHS).item() == pytest.approx(
        0.883382, abs=1e-6
    )
    # r_c = 4 (1 - e^0.5), r_r = 4 (1 - e^0.875), their difference 3.000620.
    assert p.alphapo(*sums, beta=1.0, gamma=0.0, alpha=0.25, **LENGTHS).item() == pytest.approx(
        math.log1p(math.exp(-4 * (math.exp(0.875) - math.exp(0.5)))), abs=1e-9
    )
    # log odds 1.614751 apart: odds term 0.018144 = 0.1 log(1 + e^-1.614751), on top of an NLL of 2.
    odds_term = p.orpo(*sums, beta=0.1, **LENGTHS) - p.sft_chosen(
        sums[0], chosen_lengths=LENGTHS["chosen_lengths"]
    )
    assert odds_term.item() == pytest.approx(0.018144, abs=1e-6)
    assert math.log(math.expm1(odds_term.item() / 0.1)) == pytest.approx(-1.614751, abs=1e-4)
    assert p.slic(*sums, delta=3.0).item() == pytest.approx(1.0)


def test_the_two_parameterisations_of_simpo() -> None:
    ratio, beta = 0.3, 2.0
    ours = p.simpo(one(-12), one(-14), beta=beta, gamma=beta * ratio, **LENGTHS)
    assert ours.item() == pytest.approx(math.log1p(math.exp(-beta * (1.5 - ratio))))


def test_golden_values_with_rewards() -> None:
    rewards = {"chosen_rewards": one(3.0), "rejected_rewards": one(1.0)}
    # 0.15 - log 2 inside the sigmoid.
    odpo = p.odpo(*PAIR, beta=0.1, alpha=1.0, **rewards).item()
    assert odpo == pytest.approx(math.log1p(2 * math.exp(-0.15)))
    assert p.odpo(*PAIR, beta=0.1, alpha=0.0, **rewards).item() == pytest.approx(0.620957, abs=1e-6)
    assert p.rebel(*PAIR, beta=2.0, **rewards).item() == pytest.approx(1.0)  # (2 * 1.5 - 2)^2
    # s(b) = 0.880797, s(a) = 0.537430.
    assert p.rpo(*PAIR, beta=0.1, eta=1.0, **rewards).item() == pytest.approx(0.273504, abs=1e-6)
    assert p.rpo(*PAIR, beta=2.0, eta=1.5, **rewards).item() == pytest.approx(0.0, abs=1e-12)


def test_policy_equal_to_reference() -> None:
    same = torch.tensor([-4.0, -90.0], dtype=torch.float64)
    other = torch.tensor([-7.0, -2.0], dtype=torch.float64)
    at_start = {
        "dpo": LOG2,
        "cdpo": LOG2,
        "robust_dpo": LOG2,
        "aot": LOG2,
        "aot_unpaired": LOG2,
        "hinge": 1.0,
        "ipo": 25.0,
        "nca": 2 * LOG2,
        "bco_pair": 2 * LOG2,
        "sppo": 50.0,
        "cal_dpo": LOG2 + 50.0,
        "apo_zero": 1.0,
        "apo_down": 1.0,
        "discopop": 0.846574,
        "exo": -0.5 * math.log(4 * 0.001 * 0.999),
    }
    for name, value in at_start.items():
        losses = p.PAIR_FUNCTIONS[name](same, other, same, other, beta=0.1)
        assert losses.tolist() == pytest.approx([value, value], abs=1e-6), name


def at_defaults(name: str, chosen: Tensor, rejected: Tensor) -> Tensor:
    """The loss at its defaults on the given log-probs, with sensible other inputs."""
    loss = p.PAIR_LOSSES[name]
    inputs = {x: torch.full_like(chosen, value) for x, value in OTHERS.items()}
    inputs |= {"chosen": chosen, "rejected": rejected}
    logps = [inputs[x] for x in loss.inputs if x in LOGPS]
    columns = {x: inputs[x] for x in loss.inputs if x not in LOGPS and x not in loss.step_inputs}
    return p.PAIR_FUNCTIONS[name](*logps, **columns)


LOGPS = ("chosen", "rejected", "ref_chosen", "ref_rejected")
OTHERS = {
    "ref_chosen": -6.0,
    "ref_rejected": -5.0,
    "chosen_lengths": 5.0,
    "rejected_lengths": 3.0,
    "margin": 0.5,
    "chosen_rewards": 2.0,
    "rejected_rewards": 1.0,
    "gold": -8.0,
    "gold_lengths": 4.0,
}

# Losses with a finite target, or that act on likelihoods, do not fall with the margin throughout.
TARGETED = {
    "ipo",
    "cdpo",
    "exo",
    "rpo",
    "rebel",
    "sppo",
    "cal_dpo",
    "discopop",
    "nca",
    "bco_pair",
    "apo_down",
}


@pytest.mark.parametrize("name", sorted(set(p.PAIR_LOSSES) - TARGETED))
def test_falls_as_the_chosen_completion_gains(name: str) -> None:
    chosen = torch.linspace(-30, -0.5, 60, dtype=torch.float64)
    losses = torch.cat([at_defaults(name, c[None], torch.full_like(c[None], -5.0)) for c in chosen])
    assert (losses.diff() <= 0).all()
    assert losses[0] > losses[-1]


@pytest.mark.parametrize("name", sorted(set(p.PAIR_LOSSES) - TARGETED - {"sft_chosen", "sft_chosen_sum"}))
def test_rises_as_the_rejected_completion_gains(name: str) -> None:
    rejected = torch.linspace(-30, -0.5, 60, dtype=torch.float64)
    losses = torch.cat([at_defaults(name, torch.full_like(r[None], -5.0), r[None]) for r in rejected])
    assert (losses.diff() >= 0).all()
    assert losses[0] < losses[-1]


@pytest.mark.parametrize(
    ("loss", "best"),
    [
        (lambda h: p.ipo(h, 0 * h, 0 * h, 0 * h, beta=0.5), 1.0),
        (lambda h: p.cdpo(h, 0 * h, 0 * h, 0 * h, beta=0.5, label_smoothing=0.1), 2 * math.log(9.0)),
        (lambda h: p.exo(h, 0 * h, 0 * h, 0 * h, beta=0.5, label_smoothing=0.1), 2 * math.log(9.0)),
        (
            lambda h: p.rpo(
                h, 0 * h, 0 * h, 0 * h, beta=0.5, eta=2.0, chosen_rewards=h * 0 + 1, rejected_rewards=h * 0
            ),
            4.0,
        ),
        (
            lambda h: p.rebel(
                h, 0 * h, 0 * h, 0 * h, beta=0.5, chosen_rewards=h * 0 + 1, rejected_rewards=h * 0
            ),
            2.0,
        ),
        (lambda h: p.nca(h, 0 * h, 0 * h, 0 * h, beta=0.5), 2 * LOG2),
        (lambda h: p.sppo(h, 0 * h, 0 * h, 0 * h, beta=0.5), 1.0),
    ],
)
def test_losses_with_a_target_are_lowest_there(loss: Callable[[Tensor], Tensor], best: float) -> None:
    around = torch.linspace(best - 3, best + 3, 61, dtype=torch.float64)
    losses = loss(around)
    assert losses.argmin() == 30
    assert (losses[:31].diff() < 0).all()
    assert (losses[30:].diff() > 0).all()


def test_apo_moves_the_chosen_completion_as_its_name_says() -> None:
    # Past the start of apo_down, where its two terms on the chosen completion cancel.
    for function, direction in ((p.apo_zero, -1), (p.apo_down, 1)):
        chosen, rejected = one(0.0).requires_grad_(), one(-6.0).requires_grad_()
        loss = function(chosen, rejected, one(0.0), one(0.0), beta=1.0)
        by_chosen, by_rejected = torch.autograd.grad(loss, (chosen, rejected))
        assert by_chosen.item() * direction > 0
        assert by_rejected.item() > 0


@pytest.mark.parametrize("name", sorted(n for n, loss in p.PAIR_LOSSES.items() if loss.label))
def test_swapping_completions_swaps_the_label(name: str) -> None:
    torch.manual_seed(0)
    c, r, rc, rr = torch.randn(4, 6, dtype=torch.float64) * 3
    label = torch.rand(6, dtype=torch.float64)
    lengths = {}
    swapped = {}
    if p.PAIR_LOSSES[name].lengths:
        a, b = torch.randint(1, 9, (2, 6))
        lengths = {"chosen_lengths": a, "rejected_lengths": b}
        swapped = {"chosen_lengths": b, "rejected_lengths": a}
    f = p.PAIR_FUNCTIONS[name]
    there = f(c, r, rc, rr, label=label, **lengths)
    back = f(r, c, rr, rc, label=1 - label, **swapped)
    torch.testing.assert_close(there, back)
    certain = f(c, r, rc, rr, label=torch.ones(6), **lengths)
    torch.testing.assert_close(certain, f(c, r, rc, rr, **lengths))
    tie = torch.full((6,), 0.5)
    torch.testing.assert_close(f(c, r, rc, rr, label=tie, **lengths), f(r, c, rr, rc, label=tie, **swapped))


def test_smoothing_of_zero_is_dpo() -> None:
    plain = p.dpo(*PAIR, beta=0.3)
    torch.testing.assert_close(p.cdpo(*PAIR, beta=0.3, label_smoothing=0.0), plain)
    torch.testing.assert_close(p.robust_dpo(*PAIR, beta=0.3, label_smoothing=0.0), plain)
    torch.testing.assert_close(p.dpo_margin(*PAIR, beta=0.3, margin=one(0.0)), plain)


def test_robust_loss_of_flipped_labels_is_the_clean_loss_in_expectation() -> None:
    c, r, rc, rr = PAIR
    right = p.robust_dpo(c, r, rc, rr, beta=0.3, label_smoothing=0.2)
    wrong = p.robust_dpo(r, c, rr, rc, beta=0.3, label_smoothing=0.2)
    torch.testing.assert_close(0.8 * right + 0.2 * wrong, p.dpo(c, r, rc, rr, beta=0.3))


def test_equal_scores_teach_odpo_nothing() -> None:
    chosen = torch.tensor([-3.0, -3.0], requires_grad=True)
    zero = torch.zeros(2)
    scores = torch.tensor([1.0, 1.0])
    loss = p.odpo(chosen, zero, zero, zero, chosen_rewards=scores, rejected_rewards=torch.tensor([1.0, 0.5]))
    loss.sum().backward()
    assert loss[0].item() == 0
    assert chosen.grad is not None
    assert chosen.grad[0].item() == 0
    assert chosen.grad[1].item() < 0


def test_bernoulli_distance_of_rpo_is_never_negative() -> None:
    grid = torch.linspace(-40, 40, 81)
    gap, h = grid.repeat(81), grid.repeat_interleave(81)
    zero = torch.zeros_like(h)
    losses = p.rpo(h, zero, zero, zero, beta=1.0, eta=1.0, chosen_rewards=gap, rejected_rewards=zero)
    assert losses.min() >= -1e-6
    assert losses[gap == h].abs().max() <= 1e-6


@pytest.mark.parametrize("name", COMPARING)
def test_refuses_log_probs_of_different_shapes(name: str) -> None:
    loss = p.PAIR_LOSSES[name]
    inputs = {x: torch.zeros(2) for x in loss.inputs if x not in LOGPS and x not in loss.step_inputs}
    with pytest.raises(ValueError, match=r"one shape|as many targets|one number per pair"):
        p.PAIR_FUNCTIONS[name](torch.zeros(2, 1), torch.zeros(2), torch.zeros(2), torch.zeros(2), **inputs)


def test_refuses_what_cannot_be_meant() -> None:
    x = torch.zeros(2)
    with pytest.raises(ValueError, match="between 0 and 1"):
        p.dpo(x, x, x, x, label=torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match="at one half the labels say nothing"):
        p.robust_dpo(x, x, x, x, label_smoothing=0.5)
    with pytest.raises(ValueError, match="its logarithm"):
        p.exo(x, x, x, x, label_smoothing=0.0)
    with pytest.raises(ValueError, match=r"beta = -0\.1 of loss 'hinge'"):
        p.hinge(x, x, x, x, beta=-0.1)
    with pytest.raises(ValueError, match="swap pairs"):
        p.odpo(x, x, x, x, chosen_rewards=x, rejected_rewards=x + 1)
    with pytest.raises(ValueError, match="one number per pair"):
        p.simpo(x, x, chosen_lengths=torch.ones(2, 1), rejected_lengths=torch.ones(2))
    with pytest.raises(ValueError, match="same shape"):
        p.cpo(x, torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"tau = 2\.0"):
        p.discopop(x, x, x, x, tau=2.0)
    with pytest.raises(ValueError, match="or neither"):
        p.aot_unpaired(x, x, x, x, matched_chosen=x)
