"""Products side by side and the embedding against `nn.Linear` and `nn.Embedding` themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ridgeline.models import products
from ridgeline.models.gradient_sum import GradientSum
from ridgeline.models.kernels import kernel_library, kernels_note
from ridgeline.models.products import embed, product

compiled = pytest.mark.skipif(kernel_library() is None, reason=kernels_note())


def linears(dtype: torch.dtype, bias: bool) -> list[nn.Linear]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [nn.Linear(12, outs, bias=bias, dtype=dtype) for outs in (8, 5, 1)]


def randn(*shape: int, dtype: torch.dtype, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def learned(layers: list[nn.Linear], x: Tensor, *, ours: bool) -> list[Tensor | None]:
    x = x.clone().requires_grad_()
    out = product(x, layers) if ours else torch.cat([layer(x) for layer in layers], dim=1)
    out.backward(randn(*out.shape, dtype=x.dtype, seed=2))
    grads = [p.grad for layer in layers for p in layer.parameters()]
    for layer in layers:
        layer.zero_grad(set_to_none=True)
    return [out.detach(), x.grad, *grads]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("dtype", "unit"), [(torch.float32, 2e-6), (torch.bfloat16, 0.02)])
def test_products_and_gradients(dtype: torch.dtype, unit: float, count: int, bias: bool) -> None:
    layers, x = linears(dtype, bias)[:count], randn(37, 12, dtype=dtype)
    ours, theirs = (learned(layers, x, ours=each) for each in (True, False))
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == dtype
        torch.testing.assert_close(mine, other, atol=unit * float(other.abs().max()), rtol=0)


def test_frozen_weights_and_frozen_states() -> None:
    layers, x = linears(torch.float32, False), randn(9, 12, dtype=torch.float32)
    expected = learned(layers, x, ours=True)
    layers[1].weight.requires_grad_(False)
    found = learned(layers, x, ours=True)
    assert found[3] is None
    assert all(torch.equal(found[i], expected[i]) for i in (0, 1, 2, 4))
    out = product(x, layers)
    out.backward(randn(*out.shape, dtype=x.dtype, seed=2))
    assert torch.equal(layers[0].weight.grad, expected[2])
    for layer in layers:
        layer.requires_grad_(False)
    assert not product(x, layers).requires_grad


def test_without_gradients_nothing_is_laid_across(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Function cannot see that, as it always runs without gradients itself."""
    layers, x, laid = linears(torch.float32, True), randn(9, 12, dtype=torch.float32), []
    monkeypatch.setattr(products, "across", lambda each: laid.append(each) or each.t())
    with_gradients = product(x, layers)
    assert len(laid) == 1
    with torch.no_grad():
        assert torch.equal(product(x, layers), with_gradients)
    assert len(laid) == 1


@compiled
def test_gradients_go_to_the_sums_of_weights_that_have_one() -> None:
    """Exactly what autograd would have got, in float32, once for every pass; the others' go to autograd."""
    layers, x = linears(torch.bfloat16, True), randn(37, 12, dtype=torch.bfloat16)
    expected = learned(layers, x, ours=True)
    totals = [GradientSum(layers[i].weight) for i in (0, 2)]
    for passes in (1, 2):
        found = learned(layers, x, ours=True)
        assert found[2] is None
        assert found[6] is None
        assert torch.equal(found[4], expected[4])
        assert all(torch.equal(found[i], expected[i]) for i in (0, 1, 3, 5, 7))
        for total, share in zip(totals, (expected[2], expected[6]), strict=True):
            assert total.value.dtype == torch.float32
            assert torch.equal(total.value, share.float() * passes)


@pytest.mark.parametrize("summed", [False, pytest.param(True, marks=compiled)])
def test_embedding(summed: bool) -> None:
    """Rows that are read several times get all their shares, rows that are not none."""
    embedding = nn.Embedding(7, 4, dtype=torch.bfloat16)
    slopes, where = randn(6, 4, dtype=torch.bfloat16), torch.tensor([3, 0, 3, 6, 3, 0])
    total = GradientSum(embedding.weight) if summed else None
    out = embed(where, embedding)
    assert torch.equal(out, embedding.weight[where])
    out.backward(slopes)
    expected = torch.zeros(7, 4).index_add_(0, where, slopes.float())
    if total is None:
        torch.testing.assert_close(embedding.weight.grad.float(), expected, atol=0.05, rtol=0)
        return
    assert embedding.weight.grad is None
    assert torch.equal(total.value, expected)
    with torch.no_grad():
        assert torch.equal(embed(where, embedding), out)


def test_an_embedding_that_does_more_is_left_to_do_it() -> None:
    class Scaled(nn.Embedding):
        def forward(self, ids: Tensor) -> Tensor:
            return 3 * super().forward(ids)

    embedding, where = Scaled(5, 2, dtype=torch.bfloat16), torch.tensor([1, 4])
    total = GradientSum(embedding.weight)
    out = embed(where, embedding)
    assert torch.equal(out, 3 * embedding.weight[where])
    out.sum().backward()
    assert embedding.weight.grad[1].tolist() == [3, 3]
    assert total.value is None
