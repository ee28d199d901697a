from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import distill as oracle
from tests.oracles import kl as kl_oracle
from tests.oracles.numeric import gradient
from torch import Tensor

from ridgeline.objectives import distill_policy as policy
from ridgeline.objectives.distill import reverse_kl

NAN = math.nan
STUDENT, OLD, TEACHER = [0.7, -0.4, 1.3, 0.1], [0.2, 0.3, 0.8, -0.6], [-0.2, 0.5, 0.9, -1.0]


def double(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def expected_gradient(sampler: list[float], cap: float | None = None) -> list[float]:
    """Sum over tokens of the sampler's probability times the gradient when that token was drawn."""
    logits = double(STUDENT).requires_grad_()
    logp, teacher = torch.log_softmax(logits, -1), torch.log_softmax(double(TEACHER), -1)
    old = torch.log_softmax(double(sampler), -1)
    loss = policy.importance_weighted_on_policy(logp, old, teacher, cap)
    (grad,) = torch.autograd.grad((old.exp() * loss).sum(), logits)
    return [float(x) for x in grad]


def test_the_sampled_advantage_is_minus_the_reverse_kl_in_expectation() -> None:
    p, q = kl_oracle.softmax(STUDENT), kl_oracle.softmax(TEACHER)
    advantages = policy.on_policy_advantage(double(q).log(), double(p).log().requires_grad_())
    assert not advantages.requires_grad
    expected = sum(a * b for a, b in zip(p, advantages.tolist(), strict=True))
    assert expected == pytest.approx(-kl_oracle.divergence(p, q), abs=1e-12)


@pytest.mark.parametrize("sampler", [STUDENT, OLD], ids=["on-policy", "off-policy"])
def test_the_expected_gradient_is_that_of_the_reverse_kl(sampler: list[float]) -> None:
    p, q = kl_oracle.softmax(STUDENT), kl_oracle.softmax(TEACHER)
    assert expected_gradient(sampler) == pytest.approx(kl_oracle.reverse_gradient(p, q), abs=1e-12)


def test_the_cap_binds_where_the_weight_exceeds_it() -> None:
    logp, old = torch.tensor([-1.0, -1.0]), torch.tensor([-3.0, -1.1])
    teacher = torch.tensor([-0.5, -0.5])
    free = policy.importance_weighted_on_policy(logp, old, teacher)
    capped = policy.importance_weighted_on_policy(logp, old, teacher, 2.0)
    # -weight x advantage 0.5 x logp -1
    assert free.tolist() == pytest.approx([0.5 * math.exp(2.0), 0.5 * math.exp(0.1)])
    assert capped.tolist() == pytest.approx([1.0, 0.5 * math.exp(0.1)])
    assert expected_gradient(OLD, 0.5) != pytest.approx(expected_gradient(OLD), abs=1e-3)


def test_minillm_is_the_gradient_of_the_sequence_kl() -> None:
    """All texts of three tokens over two, each weighed by how often the student writes it."""
    vocabulary, length = 2, 3
    rows = {p: i for i, p in enumerate(oracle.prefixes(vocabulary, length))}
    generator = torch.Generator().manual_seed(7)
    table = torch.randn(len(rows), vocabulary, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(len(rows), vocabulary, generator=generator, dtype=torch.float64)
    texts = list(itertools.product(range(vocabulary), repeat=length))
    rows_BT = torch.tensor([[rows[text[:t]] for t in range(length)] for text in texts])
    ids_BT = torch.tensor(texts)
    logp_BT = torch.log_softmax(table, -1)[rows_BT, ids_BT]
    teacher_BT = torch.log_softmax(teacher, -1)[rows_BT, ids_BT]
    dense_BT = reverse_kl(table, teacher)[rows_BT]
    terms = policy.minillm(dense_BT, logp_BT, teacher_BT, torch.ones(8, 3), normalise=False)
    often_B = logp_BT.sum(-1).exp().detach()
    (ours,) = torch.autograd.grad((often_B * (terms.single_BT + terms.long_BT).sum(-1)).sum(), table)

    def sequence_kl(flat: list[float]) -> float:
        student = [flat[i * vocabulary : (i + 1) * vocabulary] for i in range(len(rows))]
        return oracle.sequence_kl(student, teacher.tolist(), vocabulary, length)

    flat = table.detach().flatten().tolist()
    assert ours.flatten().tolist() == pytest.approx(gradient(sequence_kl, flat), abs=1e-8)
    value = (often_B * (terms.single_BT).sum(-1)).sum().item()
    assert value == pytest.approx(sequence_kl(flat), abs=1e-12)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    gaps=st.lists(st.floats(-4, 4), min_size=1, max_size=5),
    normalise=st.booleans(),
    padding=st.integers(0, 2),
)
def test_long_range_returns_agree_with_the_paper(gaps: list[float], normalise: bool, padding: int) -> None:
    logp = double([[-1.0] * len(gaps) + [NAN] * padding]).requires_grad_()  # type: ignore[list-item]
    teacher = double([[x - 1.0 for x in gaps] + [NAN] * padding])  # type: ignore[list-item]
    mask = torch.tensor([[1] * len(gaps) + [0] * padding])
    dense = torch.full_like(logp, NAN).where(mask == 0, torch.tensor(0.5))
    terms = policy.minillm(dense, logp, teacher, mask, normalise=normalise)
    (grad,) = torch.autograd.grad(terms.long_BT.sum(), logp)
    expected = [-x for x in oracle.returns_after(gaps, normalise)] + [0.0] * padding
    assert grad[0].tolist() == pytest.approx(expected, abs=1e-9)
    assert terms.single_BT[0].tolist() == [0.5] * len(gaps) + [0.0] * padding


def test_minillm_weights_both_parts() -> None:
    logp, teacher = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.0, -1.5]])
    weights = torch.tensor([[0.5, 2.0]])
    terms = policy.minillm(torch.ones(1, 2), logp, teacher, torch.ones(1, 2), weights=weights)
    assert terms.single_BT.tolist() == [[0.5, 2.0]]
    assert terms.long_BT.tolist() == [[0.25, 0.0]]


def test_mixture_weight_turns_samples_of_the_mixture_into_the_students() -> None:
    p, q = double(kl_oracle.softmax(STUDENT)), double(kl_oracle.softmax(TEACHER))
    weights = policy.mixture_importance_weight(p.log(), q.log(), 0.2)
    mixture = 0.2 * q + 0.8 * p
    torch.testing.assert_close(mixture * weights, p)
    assert weights.max().item() <= 1 / 0.8
    assert policy.mixture_importance_weight(p.log(), q.log(), 0.0).tolist() == [1.0] * 4
    extreme = policy.mixture_importance_weight(torch.tensor([-1e4, 0.0]), torch.tensor([0.0, -1e4]), 0.2)
    assert extreme.tolist() == pytest.approx([0.0, 1.25])


def test_extremes_stay_finite() -> None:
    logp = torch.tensor([[-1e4, -1e-9, -1e4]], requires_grad=True)
    other, mask = torch.tensor([[-1e-9, -1e4, -1e4]]), torch.ones(1, 3)
    terms = policy.minillm(torch.ones(1, 3), logp, other, mask)
    loss = policy.importance_weighted_on_policy(logp, other, other) + terms.single_BT + terms.long_BT
    loss.sum().backward()
    assert logp.grad is not None
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logp.grad).all()
    empty = policy.minillm(torch.full((1, 1), NAN), logp[:, :1] * NAN, other[:, :1], torch.zeros(1, 1))
    assert empty.single_BT.item() == 0
    assert empty.long_BT.item() == 0


def test_refuses_nonsense() -> None:
    row = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="cap = 0"):
        policy.importance_weighted_on_policy(row, row, row, 0)
    with pytest.raises(ValueError, match="teacher_share = 1"):
        policy.mixture_importance_weight(row, row, 1.0)
    with pytest.raises(ValueError, match="teacher_logp"):
        policy.minillm(row, row, row[:, :1], torch.ones(1, 2))
