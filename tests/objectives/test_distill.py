from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import distill as oracle
from tests.oracles import kl as kl_oracle
from tests.oracles.numeric import gradient
from torch import Tensor

from ridgeline.objectives import distill
from ridgeline.objectives.kl import exact_kl

LOGIT = st.floats(-5, 5)
LOGITS = st.integers(2, 6).flatmap(
    lambda n: st.tuples(st.lists(LOGIT, min_size=n, max_size=n), st.lists(LOGIT, min_size=n, max_size=n))
)
TEMPERATURE = st.sampled_from([0.5, 1.0, 2.0])
INF = math.inf
DIVERGENCES: dict[str, distill.Divergence] = {
    "forward": distill.forward_kl,
    "reverse": distill.reverse_kl,
    "jsd": distill.generalised_jsd,
    "jsd 0.1": partial(distill.generalised_jsd, beta=0.1),
}
EVERY = pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES)


def double(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def agrees(
    ours: Callable[[Tensor], Tensor], theirs: Callable[[list[float]], float], point: list[float]
) -> None:
    """Values, and the gradient by central differences."""
    logits = double(point).requires_grad_()
    value = ours(logits)
    (grad,) = torch.autograd.grad(value, logits)
    assert value.item() == pytest.approx(theirs(point), abs=1e-9)
    assert grad.tolist() == pytest.approx(gradient(theirs, point), abs=1e-6)


def test_golden_values() -> None:
    """Teacher (3/4, 1/4), student (1/2, 1/2): sums of p log(p/q) written out."""
    teacher, student = torch.tensor([math.log(3.0), 0.0]), torch.zeros(2)
    forward = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    reverse = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    assert forward == pytest.approx(0.130812, abs=1e-6)
    assert reverse == pytest.approx(0.143841, abs=1e-6)
    assert distill.forward_kl(student, teacher).item() == pytest.approx(forward, abs=1e-6)
    assert distill.reverse_kl(student, teacher).item() == pytest.approx(reverse, abs=1e-6)
    # The mixture is (5/8, 3/8).
    to_mixture = 0.75 * math.log(6 / 5) + 0.25 * math.log(2 / 3)
    from_student = 0.5 * math.log(4 / 5) + 0.5 * math.log(4 / 3)
    assert distill.generalised_jsd(student, teacher).item() == pytest.approx(
        (to_mixture + from_student) / 2, abs=1e-6
    )
    # Merging three of four equal tokens leaves (1/4, 3/4) against (1/2, 1/2).
    kept = distill.top_k_tail_kl(torch.zeros(4), torch.tensor([2]), torch.tensor([0.5]).log())
    assert kept.item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=1e-6)


def test_disjoint_distributions_have_the_largest_jsd() -> None:
    one, other = torch.tensor([0.0, -INF]), torch.tensor([-INF, 0.0])
    assert distill.generalised_jsd(one, other).item() == pytest.approx(math.log(2.0))
    assert distill.forward_kl(one, other).item() == INF
    assert distill.reverse_kl(one, other).item() == INF


@settings(max_examples=40, deadline=None, derandomize=True)
@given(logits=LOGITS, temperature=TEMPERATURE)
def test_kls_agree_with_the_sum(logits: tuple[list[float], list[float]], temperature: float) -> None:
    student, teacher = logits
    agrees(
        lambda s: distill.forward_kl(s, double(teacher), temperature),
        lambda s: oracle.forward_kl(s, teacher, temperature),
        student,
    )
    agrees(
        lambda s: distill.reverse_kl(s, double(teacher), temperature),
        lambda s: oracle.reverse_kl(s, teacher, temperature),
        student,
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(logits=LOGITS, beta=st.floats(0.05, 0.95), temperature=TEMPERATURE)
def test_generalised_jsd_agrees_with_the_paper(
    logits: tuple[list[float], list[float]], beta: float, temperature: float
) -> None:
    student, teacher = logits
    agrees(
        lambda s: distill.generalised_jsd(s, double(teacher), beta, temperature),
        lambda s: oracle.jsd(s, teacher, beta, temperature),
        student,
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(logits=LOGITS, forward=st.booleans(), data=st.data())
def test_top_k_agrees_with_the_merged_sum(
    logits: tuple[list[float], list[float]], forward: bool, data: st.DataObject
) -> None:
    student, teacher = logits
    ids = data.draw(st.lists(st.integers(0, len(student) - 1), min_size=1, unique=True))
    kept = torch.log_softmax(double(teacher) / 2, -1)[ids]
    direction: distill.Direction = "forward" if forward else "reverse"
    agrees(
        lambda s: distill.top_k_tail_kl(s, torch.tensor(ids), kept, direction, temperature=2.0),
        lambda s: oracle.top_k_tail(s, teacher, ids, forward, 2.0),
        student,
    )


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_top_k_never_exceeds_the_full_divergence_and_reaches_it(direction: distill.Direction) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 50, 12, dtype=torch.float64)
    full = (distill.forward_kl if direction == "forward" else distill.reverse_kl)(student, teacher)
    logp, ids = torch.log_softmax(teacher, -1).sort(-1, descending=True)
    previous = torch.zeros(50, dtype=torch.float64)
    for k in range(1, 13):
        value = distill.top_k_tail_kl(student, ids[:, :k], logp[:, :k], direction)
        assert bool((value >= previous - 1e-12).all()), "splitting a bucket cannot lose divergence"
        previous = value
    torch.testing.assert_close(previous, full)


@EVERY
def test_identical_is_zero_with_zero_gradient(divergence: distill.Divergence) -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0, -INF], [0.0, 0.0, 50.0, -INF]], requires_grad=True)
    value = divergence(logits, logits.detach() + 3.0)
    value.sum().backward()
    assert value.tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert logits.grad is not None
    assert logits.grad.abs().max().item() < 1e-6


@EVERY
def test_order_of_the_vocabulary_and_of_positions_is_free(divergence: distill.Divergence) -> None:
    torch.manual_seed(1)
    student, teacher = torch.randn(2, 3, 4, 7, dtype=torch.float64)
    order = torch.randperm(7)
    expected = divergence(student, teacher)
    torch.testing.assert_close(divergence(student[..., order], teacher[..., order]), expected)
    torch.testing.assert_close(divergence(student[1, 2], teacher[1, 2]), expected[1, 2])
    assert bool((expected >= 0).all())


@EVERY
def test_only_the_student_receives_gradient(divergence: distill.Divergence) -> None:
    student, teacher = torch.zeros(3, requires_grad=True), torch.ones(3, requires_grad=True)
    divergence(student, teacher).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_which_end_is_which() -> None:
    """Roles swapped: forward becomes reverse, beta becomes 1 - beta; the ends are the two KLs."""
    torch.manual_seed(2)
    student, teacher = torch.randn(2, 5, 6, dtype=torch.float64)
    close = torch.testing.assert_close
    close(distill.forward_kl(student, teacher), exact_kl(teacher, student))
    close(distill.reverse_kl(student, teacher), exact_kl(student, teacher))
    close(distill.generalised_jsd(student, teacher, 0.0), distill.forward_kl(student, teacher))
    close(distill.generalised_jsd(student, teacher, 1.0), distill.reverse_kl(student, teacher))
    close(distill.generalised_jsd(student, teacher, 0.3), distill.generalised_jsd(teacher, student, 0.7))
    near = 1e-6
    low = distill.generalised_jsd(student, teacher, near) / near
    high = distill.generalised_jsd(student, teacher, 1 - near) / near
    close(low, distill.forward_kl(student, teacher), rtol=1e-4, atol=1e-6)
    close(high, distill.reverse_kl(student, teacher), rtol=1e-4, atol=1e-6)


@EVERY
def test_rescaling_keeps_the_size_of_the_gradient(divergence: distill.Divergence) -> None:
    """At high temperature the gradient falls as 1 / T^2 for logits of mean 0 (Hinton et al. 2015)."""
    torch.manual_seed(3)
    teacher = torch.randn(9, dtype=torch.float64)
    size = {}
    for temperature in (20.0, 40.0):
        student = torch.zeros(9, dtype=torch.float64, requires_grad=True)
        value = divergence(student, teacher, temperature=temperature)  # type: ignore[call-arg]
        value.backward()
        assert student.grad is not None
        size[temperature] = student.grad.norm().item() * temperature**2
        scaled = divergence(student, teacher, temperature=temperature, rescale=True)  # type: ignore[call-arg]
        assert scaled.item() == pytest.approx(value.item() * temperature**2)
    assert size[20.0] == pytest.approx(size[40.0], rel=0.05)


@pytest.mark.parametrize("scale", [1e4, 60.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extremes_stay_finite(scale: float, dtype: torch.dtype) -> None:
    teacher = torch.tensor([[scale, 0.0, -scale], [0.0, 0.0, 0.0], [-scale, 0.0, scale]], dtype=dtype)
    ids, kept = torch.tensor([[0, 1]] * 3), torch.log_softmax(teacher.float(), -1)[:, :2]
    losses: list[Callable[[Tensor], Tensor]] = [
        lambda s: distill.top_k_tail_kl(s, ids, kept, "forward"),
        lambda s: distill.top_k_tail_kl(s, ids, kept, "reverse"),
        *(partial(_swap, d, teacher) for d in DIVERGENCES.values()),
    ]
    for loss in losses:
        student = torch.zeros(3, 3, dtype=dtype)
        student[0, 2] = scale
        student.requires_grad_()
        value = loss(student)
        value.sum().backward()
        assert value.dtype == torch.float32
        assert student.grad is not None
        assert bool(torch.isfinite(value).all())
        assert bool(torch.isfinite(student.grad).all())


def _swap(divergence: distill.Divergence, teacher: Tensor, student: Tensor) -> Tensor:
    return divergence(student, teacher)


def test_an_empty_or_full_tail_is_safe() -> None:
    sure = torch.tensor([[0.0, -1e4]])
    unsure = torch.tensor([[-1e4, -1e4]])
    ids = torch.tensor([[0, 1]])
    for kept in (sure, unsure):
        for direction in ("forward", "reverse"):
            student = torch.zeros(1, 5, requires_grad=True)
            value = distill.top_k_tail_kl(student, ids, kept, direction)
            value.sum().backward()
            assert student.grad is not None
            assert torch.isfinite(value).all()
            assert torch.isfinite(student.grad).all()
    # A sure teacher: minus the log of the 1/5 that the student gives to its token.
    assert distill.top_k_tail_kl(torch.zeros(1, 5), ids, sure).item() == pytest.approx(math.log(5), abs=1e-5)
    # All in the tail, where the student has 3/5.
    assert distill.top_k_tail_kl(torch.zeros(1, 5), ids, unsure).item() == pytest.approx(
        math.log(5 / 3), abs=1e-5
    )
    masked = torch.tensor([[0.0, 1.0, -INF, -INF, -INF]], requires_grad=True)
    value = distill.top_k_tail_kl(masked, ids, torch.tensor([[0.5, 0.5]]).log(), "reverse")
    value.sum().backward()
    assert masked.grad is not None
    assert torch.isfinite(masked.grad).all()


def test_rounding_may_leave_more_than_one_in_the_kept_tokens() -> None:
    over = torch.tensor([0.5, 0.5000003]).log()
    value = distill.top_k_tail_kl(torch.zeros(3), torch.tensor([0, 1]), over, "reverse")
    assert 0 < value.item() < 20


def test_teachers_mix_as_their_means() -> None:
    torch.manual_seed(4)
    student = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    one, two = torch.randn(2, 6, 5, dtype=torch.float64)
    logp = [torch.log_softmax(x, -1) for x in (one, two)]
    geometric = 0.3 * logp[0] + 0.7 * logp[1]
    arithmetic = (0.3 * logp[0].exp() + 0.7 * logp[1].exp()).log()
    for divergence, mean in ((distill.reverse_kl, geometric), (distill.forward_kl, arithmetic)):
        mixed = distill.mix_teachers(student, [one, two], [0.3, 0.7], divergence)
        (ours,) = torch.autograd.grad(mixed.sum(), student)
        (theirs,) = torch.autograd.grad(divergence(student, mean).sum(), student)
        torch.testing.assert_close(ours, theirs)
        swapped = distill.mix_teachers(student, [two, one], [0.7, 0.3], divergence)
        torch.testing.assert_close(mixed, swapped)


def test_a_teacher_may_be_picked_by_position() -> None:
    torch.manual_seed(5)
    student, one, two = torch.randn(3, 4, 6)
    excluded = two.masked_fill(torch.tensor([[True], [False], [False], [False]]), -1e30)
    excluded[0, 0] = -INF
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.25, 0.75]])
    mixed = distill.mix_teachers(student, [one, excluded], weights)
    a, b = distill.reverse_kl(student, one), distill.reverse_kl(student, excluded)
    assert b[0].item() == INF
    expected = torch.stack([a[0], b[1], (a[2] + b[2]) / 2, a[3] / 4 + b[3] * 3 / 4])
    torch.testing.assert_close(mixed, expected)


def test_sequence_distillation_is_forward_kl_plus_entropy_in_expectation() -> None:
    teacher, student = [0.7, -0.4, 1.3], [0.0, 0.5, -0.5]
    p = kl_oracle.softmax(teacher)
    entropy = -sum(x * math.log(x) for x in p)
    losses = distill.sequence_kd(torch.log_softmax(double(student), -1))
    expected = sum(a * b for a, b in zip(p, losses.tolist(), strict=True))
    assert expected == pytest.approx(oracle.forward_kl(student, teacher) + entropy, abs=1e-12)


def test_gradients_in_float64() -> None:
    torch.manual_seed(6)
    teacher = torch.randn(2, 4, dtype=torch.float64)
    logp, ids = torch.log_softmax(teacher / 1.5, -1).topk(2, -1)
    for loss in (
        lambda s: distill.forward_kl(s, teacher, 2.0, rescale=True),
        lambda s: distill.reverse_kl(s, teacher, 0.7),
        lambda s: distill.generalised_jsd(s, teacher, 0.3, 1.5),
        lambda s: distill.top_k_tail_kl(s, ids, logp, "forward", 1.5),
        lambda s: distill.top_k_tail_kl(s, ids, logp, "reverse", 1.5, rescale=True),
        lambda s: distill.mix_teachers(s, [teacher, -teacher], [0.2, 0.8]),
    ):
        student = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(loss, (student,))


def test_refuses_nonsense() -> None:
    two, three = torch.zeros(2), torch.zeros(3)
    with pytest.raises(ValueError, match="one vocabulary"):
        distill.forward_kl(two, three)
    with pytest.raises(ValueError, match="temperature = 0"):
        distill.reverse_kl(two, two, 0.0)
    with pytest.raises(ValueError, match=r"beta = 1\.5"):
        distill.generalised_jsd(two, two, 1.5)
    kept = torch.tensor([0.5, 0.2]).log()
    with pytest.raises(ValueError, match="unknown direction 'backward'"):
        distill.top_k_tail_kl(three, torch.tensor([0, 1]), kept, "backward")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="distinct"):
        distill.top_k_tail_kl(three, torch.tensor([1, 1]), kept)
    with pytest.raises(ValueError, match=r"must both be \[..., k\]"):
        distill.top_k_tail_kl(three, torch.tensor([0]), kept)
    with pytest.raises(ValueError, match="as many weights"):
        distill.mix_teachers(two, [two, two], [1.0])
    with pytest.raises(ValueError, match="sum to 1"):
        distill.mix_teachers(two, [two, two], [0.5, 0.6])
