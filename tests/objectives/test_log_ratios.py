from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import log_ratios as oracle
from torch import Tensor

from ridgeline.objectives import log_ratios
from ridgeline.objectives.log_ratios import divergence_ratio
from ridgeline.objectives.pair_axes import Divergence

NAN = math.nan
KINDS: list[tuple[Divergence, float | None]] = [
    ("reverse_kl", None),
    ("forward_kl", None),
    ("js", None),
    ("alpha", 0.5),
    ("alpha", 0.2),
]
LOGP = st.floats(-6, -0.01)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("kind", "alpha"), KINDS)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(log_u=st.floats(-4, 4), other=st.floats(-4, 4))
def test_is_the_derivative_of_the_divergence(
    kind: Divergence, alpha: float | None, log_u: float, other: float
) -> None:
    ours = divergence_ratio(column(log_u, other), kind, alpha)
    paper = [oracle.derivative(math.exp(x), kind, alpha or 0.5) for x in (log_u, other)]
    # Only differences count: the generators of a divergence differ by multiples of u - 1.
    assert (ours[0] - ours[1]).item() == pytest.approx(paper[0] - paper[1], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("kind", "alpha"), KINDS)
def test_nothing_changes_where_policy_and_reference_agree(kind: Divergence, alpha: float | None) -> None:
    x = column(0.0).requires_grad_()
    ratio = divergence_ratio(x, kind, alpha)
    (slope,) = torch.autograd.grad(ratio, x)
    assert ratio.item() == pytest.approx(0.0, abs=1e-12)
    assert slope.item() == pytest.approx(0.5 if kind == "js" else 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kind", "alpha"), KINDS)
def test_extremes_are_finite_and_ordered(kind: Divergence, alpha: float | None, dtype: torch.dtype) -> None:
    x = torch.tensor([-1e4, -100.0, -30.0, -1.0, 0.0, 1.0], dtype=dtype, requires_grad=True)
    ratio = divergence_ratio(x, kind, alpha)
    (slope,) = torch.autograd.grad(ratio.sum(), x)
    assert ratio.dtype == dtype
    assert torch.isfinite(ratio).all()
    assert torch.isfinite(slope).all()
    assert (ratio.diff() > 0).all()
    assert (slope > 0).all()
    high = torch.tensor([1e4], dtype=dtype, requires_grad=True)
    top = divergence_ratio(high, kind, alpha)
    (slope,) = torch.autograd.grad(top, high)
    assert torch.isfinite(top).all()
    assert torch.isfinite(slope).all()
    bound = {"reverse_kl": 1e4, "forward_kl": 1.0, "js": math.log(2.0), "alpha": 1 / (alpha or 1.0)}[kind]
    assert top.item() == pytest.approx(bound)


def test_tangent_joins_smoothly() -> None:
    def f(x: float) -> tuple[float, float]:
        leaf = column(x).requires_grad_()
        value = divergence_ratio(leaf, "forward_kl")
        (slope,) = torch.autograd.grad(value, leaf)
        return value.item(), slope.item()

    (v, s), (w, t) = f(-30 + 1e-9), f(-30 - 1e-9)
    assert v == pytest.approx(w, rel=1e-8)
    assert s == pytest.approx(t, rel=1e-8)
    assert f(-31)[0] == pytest.approx(f(-30)[0] - math.exp(30), rel=1e-12)


def test_alpha_lies_between_the_two_directions() -> None:
    x = column(-2.0, 1.5)
    near_reverse, near_forward = divergence_ratio(x, "alpha", 1e-9), divergence_ratio(x, "alpha", 1 - 1e-9)
    torch.testing.assert_close(near_reverse, divergence_ratio(x, "reverse_kl"))
    torch.testing.assert_close(near_forward, divergence_ratio(x, "forward_kl"))


@pytest.mark.parametrize(
    ("kind", "alpha", "message"),
    [
        ("kl", None, "unknown divergence 'kl'; choose one of: reverse_kl"),
        ("js", 0.5, "does nothing with divergence 'js'"),
        ("alpha", None, "needs an alpha in"),
        ("alpha", 1.0, "needs an alpha in"),
        ("alpha", math.nan, "needs an alpha in"),
    ],
)
def test_refuses_other_divergences(kind: Divergence, alpha: float | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        divergence_ratio(column(0.0), kind, alpha)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    logp=st.lists(LOGP, min_size=1, max_size=6),
    prompt=st.integers(0, 2),
    padding=st.integers(0, 2),
    public=st.integers(0, 7),
    alpha=st.floats(0, 1),
)
def test_sums_agree_with_the_paper(
    logp: list[float], prompt: int, padding: int, public: int, alpha: float
) -> None:
    row = torch.tensor([[NAN] * prompt + logp + [NAN] * padding], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[0] * prompt + [1] * len(logp) + [0] * padding])
    ours = log_ratios.length_desensitised(row, mask, torch.tensor([public]), alpha)
    assert ours.item() == pytest.approx(oracle.length_desensitised(logp, public, alpha), abs=1e-12)
    (grad,) = torch.autograd.grad(ours, row)
    expected = [1.0 if i < public else alpha for i in range(len(logp))]
    assert grad[0].tolist() == pytest.approx([0.0] * prompt + expected + [0.0] * padding)
    total = log_ratios.sequence_logp(row, mask)
    assert total.item() == pytest.approx(sum(logp))
    assert log_ratios.sequence_logp(row, mask, "mean").item() == pytest.approx(sum(logp) / len(logp))
    plain = log_ratios.length_desensitised(row, mask, torch.tensor([public]), 1.0)
    torch.testing.assert_close(plain, total)


def test_public_length_counts_valid_tokens_not_positions() -> None:
    row = column(-1.0, -2.0, -4.0, -8.0)[None]
    mask = torch.tensor([[1, 0, 1, 1]])
    assert log_ratios.length_desensitised(row, mask, torch.tensor([2]), 0.0).item() == -5.0


def test_an_empty_row_is_zero() -> None:
    row = torch.full((1, 2), NAN, requires_grad=True)
    mask = torch.zeros(1, 2)
    for value in (
        log_ratios.sequence_logp(row, mask),
        log_ratios.sequence_logp(row, mask, "mean"),
        log_ratios.length_desensitised(row, mask, torch.tensor([0]), 0.5),
    ):
        (grad,) = torch.autograd.grad(value.sum(), row)
        assert value.item() == 0
        assert grad.tolist() == [[0.0, 0.0]]
    assert log_ratios.wpo_weight(row, row, mask).item() == 1


def test_refuses_other_transforms() -> None:
    row, mask = torch.zeros(1, 2), torch.ones(1, 2)
    with pytest.raises(ValueError, match="choose one of: sum, mean"):
        log_ratios.sequence_logp(row, mask, "median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"alpha = 1\.5"):
        log_ratios.length_desensitised(row, mask, torch.tensor([1]), 1.5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    logits=st.lists(st.lists(st.floats(-3, 3), min_size=3, max_size=3), min_size=1, max_size=4),
    token=st.integers(0, 2),
)
def test_weights_agree_with_the_paper(logits: list[list[float]], token: int) -> None:
    logp_NV = torch.log_softmax(torch.tensor(logits, dtype=torch.float64), -1).requires_grad_()
    collision = torch.logsumexp(2 * logp_NV, -1)
    weight = log_ratios.wpo_weight(logp_NV[None, :, token], collision[None], torch.ones(1, len(logits)))
    expected = oracle.wpo_weight([token] * len(logits), logp_NV.detach().exp().tolist())
    assert weight.item() == pytest.approx(expected)
    assert not weight.requires_grad


def test_weights_of_pairs_are_capped_after_multiplying() -> None:
    chosen, rejected = column(2.0, 0.5, 4.0), column(0.25, 0.5, 0.5)
    assert log_ratios.wpo_pair_weight(chosen, rejected).tolist() == [0.5, 0.25, 1.0]
    # A uniform policy expects its own samples to be as likely as any: weight 1.
    uniform = torch.full((1, 3), -math.log(7.0))
    assert log_ratios.wpo_weight(uniform, uniform, torch.ones(1, 3)).item() == pytest.approx(1.0)
    unlikely = log_ratios.wpo_weight(uniform - 1e4, uniform, torch.ones(1, 3))
    assert unlikely.item() == 0


def test_gradients_in_float64() -> None:
    x = torch.tensor([-40.0, -3.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 0, 1]])
    for function in (
        lambda v: divergence_ratio(v[1:], "forward_kl"),
        lambda v: divergence_ratio(v, "js"),
        lambda v: divergence_ratio(v, "alpha", 0.3),
        lambda v: log_ratios.sequence_logp(v[None], mask, "mean"),
        lambda v: log_ratios.length_desensitised(v[None], mask, torch.tensor([2]), 0.3),
    ):
        assert torch.autograd.gradcheck(function, (x,))
