"""Log-probs read off a plain head against `objectives.logprobs` on the full logits in float64."""

from __future__ import annotations

import math

import pytest
import torch
from tests.models.families import FAMILIES, make_model
from torch import Tensor, nn

from ridgeline.models import scored_head
from ridgeline.models.gradient_sum import GradientSum
from ridgeline.models.kernels import kernel_library, kernels_note
from ridgeline.models.scored_head import plain_head, scored_logprobs
from ridgeline.objectives.logprobs import entropy as entropy_of
from ridgeline.objectives.logprobs import token_logprobs

pytestmark = pytest.mark.skipif(kernel_library() is None, reason=kernels_note())

Case = tuple[Tensor, Tensor, Tensor]


def case(
    rows: int = 9, vocabulary: int = 61, width: int = 12, dtype: torch.dtype = torch.float32, scale: float = 1
) -> Case:
    """States, weights, and ids with the first and the last of the vocabulary among them."""
    generator = torch.Generator().manual_seed(rows + vocabulary)
    hidden = torch.randn(rows, width, generator=generator) * scale
    weight = torch.randn(vocabulary, width, generator=generator)
    ids = torch.randint(0, vocabulary, (rows,), generator=generator)
    ids[: min(rows, 2)] = torch.tensor([0, vocabulary - 1])[: min(rows, 2)]
    return hidden.to(dtype), weight.to(dtype), ids


def ours(data: Case, temperature: float) -> list[Tensor]:
    """Log-prob, entropy, collision; gradients of a weighted sum of the first two, by states and weights."""
    hidden, weight = (each.clone().requires_grad_() for each in data[:2])
    logp, entropy, collision = scored_logprobs(
        hidden, weight, data[2], temperature, entropy=True, collision=True
    )
    (logp * slopes(len(logp), 1) + entropy * slopes(len(logp), 2)).sum().backward()
    assert not collision.requires_grad
    return [logp.detach(), entropy.detach(), collision, hidden.grad, weight.grad]


def oracle(data: Case, temperature: float) -> list[Tensor]:
    hidden, weight = (each.double().requires_grad_() for each in data[:2])
    logits = hidden @ weight.t()
    logp, entropy = token_logprobs(logits, data[2], temperature), entropy_of(logits / temperature)
    (logp * slopes(len(logp), 1) + entropy * slopes(len(logp), 2)).sum().backward()
    p = torch.softmax(logits.detach() / temperature, -1)
    return [logp.detach(), entropy.detach(), p.square().sum(-1).log(), hidden.grad, weight.grad]


def slopes(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, generator=torch.Generator().manual_seed(seed))


def assert_near(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for mine, other in zip(found, expected, strict=True):
        assert mine.shape == other.shape
        scale = max(1.0, float(other.abs().max())) if other.numel() else 1.0
        torch.testing.assert_close(mine.double(), other.double(), atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("vocabulary", [1, 16, 61, 2500])
def test_scores_and_gradients_in_float32(temperature: float, vocabulary: int) -> None:
    data = case(vocabulary=vocabulary)
    assert_near(ours(data, temperature), oracle(data, temperature), 2e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_scores_and_gradients_in_bfloat16(temperature: float) -> None:
    """Logits are rounded to bfloat16, about 1/256 of the largest (20), before all else."""
    data = case(dtype=torch.bfloat16, vocabulary=300)
    found = ours(data, temperature)
    assert [each.dtype for each in found] == [torch.float32] * 3 + [torch.bfloat16] * 2
    assert_near(found, oracle(data, temperature), 0.03)


def test_bfloat16_logits_are_all_that_is_rounded() -> None:
    """Given the rounded logits, log-probs and entropies are those of float64 to rounding in float32."""
    hidden, weight, ids = case(rows=40, vocabulary=3000, dtype=torch.bfloat16)
    logp, entropy, _ = scored_logprobs(hidden, weight, ids, 0.7, entropy=True, collision=False)
    logits = (hidden @ weight.t()).double()
    torch.testing.assert_close(logp.double(), token_logprobs(logits, ids, 0.7), atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(entropy.double(), entropy_of(logits / 0.7), atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("positions", [1, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_equal_the_whole(positions: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits that do not fit the budget are made again on the way back."""
    data = case(dtype=dtype)
    whole = ours(data, 0.8)
    monkeypatch.setattr(scored_head, "LOGITS_BYTES", positions * 61 * torch.finfo(dtype).bits // 8)
    assert_near(ours(data, 0.8), whole, 2e-6 if dtype == torch.float32 else 0.01)


def test_a_budget_below_one_position_takes_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    data = case()
    monkeypatch.setattr(scored_head, "LOGITS_BYTES", 1)
    assert_near(ours(data, 1.0), oracle(data, 1.0), 2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_of_eighty_apart(dtype: torch.dtype) -> None:
    """One token is certain, the others are not: no overflow, no NaN, and log-probs far below those of exp."""
    weight = torch.tensor([[80.0], [-80.0], [0.0], [79.0], [-300.0]]).to(dtype)
    hidden, ids = torch.ones(5, 1, dtype=dtype), torch.arange(5)
    assert_near(
        ours((hidden, weight, ids), 1.0),
        oracle((hidden, weight, ids), 1.0),
        1e-5 if dtype == torch.float32 else 0.01,
    )
    logp, _, _ = scored_logprobs(hidden, weight, ids, 0.5, entropy=False, collision=False)
    torch.testing.assert_close(logp[4], torch.tensor(-760 - math.log1p(math.exp(-2))), atol=1e-3, rtol=0)


def test_equal_logits_are_uniform() -> None:
    hidden, weight, ids = torch.zeros(2, 3), torch.randn(50, 3), torch.tensor([0, 49])
    logp, entropy, collision = scored_logprobs(hidden, weight, ids, 1.0, entropy=True, collision=True)
    for each, expected in ((logp, -math.log(50)), (entropy, math.log(50)), (collision, -math.log(50))):
        torch.testing.assert_close(each, torch.full((2,), expected), atol=1e-6, rtol=0)


def test_no_rows() -> None:
    hidden, weight = torch.zeros(0, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True)
    none = torch.empty(0, dtype=torch.long)
    logp, entropy, collision = scored_logprobs(hidden, weight, none, 1.0, entropy=True, collision=True)
    assert logp.shape == entropy.shape == collision.shape == (0,)
    (logp.sum() + entropy.sum()).backward()
    assert hidden.grad.shape == (0, 4)
    assert weight.grad is None or not weight.grad.any()


def test_only_what_is_asked_for() -> None:
    hidden, weight, ids = case()
    logp, entropy, collision = scored_logprobs(hidden, weight, ids, 1.0, entropy=False, collision=False)
    assert entropy is collision is None
    assert torch.equal(logp, scored_logprobs(hidden, weight, ids, 1.0, entropy=True, collision=True)[0])


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_side_gets_no_gradient_and_the_other_is_unchanged(frozen: int) -> None:
    data = case()
    expected = ours(data, 1.0)
    leaves = [each.clone().requires_grad_(place != frozen) for place, each in enumerate(data[:2])]
    logp, entropy, _ = scored_logprobs(*leaves, data[2], 1.0, entropy=True, collision=False)
    (logp * slopes(9, 1) + entropy * slopes(9, 2)).sum().backward()
    assert leaves[frozen].grad is None
    assert torch.equal(leaves[1 - frozen].grad, expected[4 - frozen])


def test_backward_twice_over_one_graph_adds_up() -> None:
    """The logits that are kept are not written over."""
    hidden, weight, ids = case()
    hidden.requires_grad_()
    logp, _, _ = scored_logprobs(hidden, weight, ids, 1.0, entropy=False, collision=False)
    logp.sum().backward(retain_graph=True)
    once = hidden.grad.clone()
    logp.sum().backward()
    assert torch.equal(hidden.grad, 2 * once)


def test_states_that_are_part_of_something_wider() -> None:
    hidden, weight, ids = case()
    wide = torch.zeros(9, 30)
    wide[:, 3:15] = hidden
    logp = [
        scored_logprobs(x, weight, ids, 1.0, entropy=False, collision=False)[0]
        for x in (hidden, wide[:, 3:15])
    ]
    assert torch.equal(*logp)


def test_the_gradient_of_a_weight_with_a_sum_goes_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32, and part by part; autograd sees nothing of it."""
    data = case(rows=50, dtype=torch.bfloat16)
    exact = oracle(data, 1.0)[4]
    plain = ours(data, 1.0)[4]
    monkeypatch.setattr(scored_head, "LOGITS_BYTES", 7 * 61 * 2)
    hidden, weight = data[0], data[1].clone().requires_grad_()
    total = GradientSum(weight)
    logp, entropy, _ = scored_logprobs(hidden, weight, data[2], 1.0, entropy=True, collision=False)
    (logp * slopes(50, 1) + entropy * slopes(50, 2)).sum().backward()
    assert weight.grad is None
    assert total.value.dtype == torch.float32
    assert float((total.value - exact).norm()) <= float((plain - exact).norm())


def test_bad_temperatures_are_refused() -> None:
    for temperature in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="must be a finite number above 0"):
            scored_logprobs(*case(), temperature, entropy=False, collision=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_with_something_after_them_are_not_plain(family: str) -> None:
    module = make_model(family)
    plain = family not in ("gemma2", "granite", "cohere")
    assert (plain_head(module) is module.get_output_embeddings()) == plain


def test_heads_that_are_no_plain_product_are_not_plain() -> None:
    module = make_model("llama")
    module.lm_head = nn.Linear(32, 61)
    assert plain_head(module) is None
    module.lm_head = nn.Sequential(nn.Linear(32, 61, bias=False))
    assert plain_head(module) is None
    assert plain_head(make_model("llama", torch.float64)) is None
