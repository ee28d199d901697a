"""The kernels of a whole pass against the same formulas in torch, in float64, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from tests.oracles import texts as oracle
from torch import Tensor
from torch.nn import functional

from ridgeline.models.kernels import kernel_library, kernels_note, learn
from ridgeline.models.kernels.call import kernel, pointers
from ridgeline.models.kernels.texts import Texts

pytestmark = pytest.mark.skipif(kernel_library() is None, reason=kernels_note())

TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 8e-3}
"""Of a number that is computed in float32 and rounded once, as a share of the largest."""

FORMATS = tuple(TOLERANCE)


def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0, scale: float = 1.0) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


def assert_near(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> None:
    assert ours.shape == theirs.shape
    scale = max(float(theirs.detach().abs().max()), 0.1)
    assert float((ours.double() - theirs).detach().abs().max()) <= TOLERANCE[dtype] * scale


Outputs = Tensor | tuple[Tensor, ...]


def agree(ours: Callable[..., Outputs], theirs: Callable[..., Outputs], inputs: Sequence[Tensor]) -> None:
    """Results and the gradients of every input, of a weighted sum of all results."""
    dtype = inputs[0].dtype
    found = []
    for function, each in ((ours, inputs), (theirs, [x.double() for x in inputs])):
        leaves = [x.detach().clone().requires_grad_() for x in each]
        results = function(*leaves)
        results = results if isinstance(results, tuple) else (results,)
        weights = [randn(*result.shape, dtype=dtype, seed=50 + i) for i, result in enumerate(results)]
        loss = sum((r * w.to(r.dtype)).sum() for r, w in zip(results, weights, strict=True))
        found.append([*results, *torch.autograd.grad(loss, leaves)])
    for mine, other in zip(*found, strict=True):
        assert mine.dtype == dtype
        assert_near(mine, other, dtype)


def rms_norm(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * (weight + offset)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(
    ("rows", "width", "offset"), [(1, 1, 0.0), (5, 12, 1.0), (37, 100, 0.0), (3, 576, 1.0)]
)
def test_norm(dtype: torch.dtype, rows: int, width: int, offset: float) -> None:
    stream, delta = randn(rows, width, dtype=dtype), randn(rows, width, dtype=dtype, seed=1, scale=3)
    weight = randn(width, dtype=dtype, seed=2)
    agree(
        lambda x, w: learn.norm(x, w, 1e-5, offset=offset)[0],
        lambda x, w: rms_norm(x, w, 1e-5, offset),
        [stream, weight],
    )

    def with_delta(x: Tensor, d: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        # The sum is rounded before it is normalised, with the gradient of no rounding.
        total = x + d
        total = total + ((stream + delta).to(total.dtype) - total).detach()
        return rms_norm(total, w, 1e-5, offset), total

    agree(
        lambda x, d, w: learn.norm(x, w, 1e-5, delta=d, offset=offset),
        with_delta,
        [stream, delta, weight],
    )


def test_a_frozen_norm_has_no_gradient_of_its_weight() -> None:
    x, weight = randn(4, 8).requires_grad_(), randn(8, seed=1)
    out, _ = learn.norm(x, weight, 1e-5)
    out.sum().backward()
    assert x.grad is not None
    assert weight.grad is None


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("activation", ["silu", "gelu"])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (7, 20), (33, 48)])
def test_gate(dtype: torch.dtype, activation: str, rows: int, width: int) -> None:
    def plain(x: Tensor) -> Tensor:
        gate, up = x.chunk(2, dim=1)
        opened = functional.silu(gate) if activation == "silu" else functional.gelu(gate, approximate="tanh")
        return opened * up

    agree(lambda x: learn.gate(x, activation), plain, [randn(rows, 2 * width, dtype=dtype, scale=4)])


@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_gate_of_large_numbers_is_finite(activation: str) -> None:
    x = torch.tensor([[-300.0, -90.0, -20.0, 0.0, 20.0, 90.0, 300.0] + [1.0] * 7]).requires_grad_()
    out = learn.gate(x, activation)
    torch.testing.assert_close(out[0], torch.tensor([0.0, 0, 0, 0, 20, 90, 300]), atol=1e-6, rtol=1e-6)
    out.sum().backward()
    expected = torch.tensor([0.0, 0, 0, 0.5, 1, 1, 1, 0, 0, 0, 0, 20, 90, 300])
    torch.testing.assert_close(x.grad[0], expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(("heads", "pieces", "size", "turned"), [(3, 4, 8, 8), (5, 9, 12, 8), (2, 2, 20, 20)])
def test_turn(dtype: torch.dtype, heads: int, pieces: int, size: int, turned: int) -> None:
    angles = torch.outer(torch.arange(6.0), torch.arange(1.0, turned // 2 + 1) ** -1.5)
    cosine, sine = (torch.cat([f(angles)] * 2, dim=-1).contiguous() for f in (torch.cos, torch.sin))

    def plain(x: Tensor) -> Tensor:
        parts = x.view(6, pieces, size)
        head, rest = parts[:, :heads, :turned], parts[:, :heads, turned:]
        across = torch.cat([-head[..., turned // 2 :], head[..., : turned // 2]], dim=-1)
        head = head * cosine[:, None] + across * sine[:, None]
        return torch.cat([torch.cat([head, rest], dim=-1), parts[:, heads:]], dim=1).flatten(1)

    agree(lambda x: learn.turn(x, cosine, sine, heads, size), plain, [randn(6, pieces * size, dtype=dtype)])


GROUP = [(0, 5, 0, 0), (5, 3, 0, 5), (8, 1, 0, 5), (9, 6, 0, 5)]
"""A prompt of 5 tokens and three texts behind it."""
ONE_TOKEN = [(15, 1, 0, 0), (16, 2, 15, 1), (18, 1, 15, 1)]
ALONE = [(19, 7, 0, 0), (26, 1, 0, 0)]
FAMILIES_OF_ALL = [0, 4, 7, 8, 9]
LONG = [(0, 70, 0, 0), (70, 45, 0, 70), (115, 33, 0, 70), (148, 40, 0, 0)]
"""Longer than a tile of queries and than several vectors of keys."""


def texts_of(spans: Sequence[oracle.Span], families: Sequence[int]) -> Texts:
    return Texts(np.array(spans, dtype=np.int64), np.array(families, dtype=np.int64))


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("window", [0, 1, 4])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "size"), [(2, 2, 8), (6, 2, 12), (3, 1, 20), (4, 2, 16)]
)  # fmt: skip
def test_attention(dtype: torch.dtype, window: int, heads: int, kv_heads: int, size: int) -> None:
    spans = [*GROUP, *ONE_TOKEN, *ALONE]
    texts = texts_of(spans, FAMILIES_OF_ALL)
    assert texts.longest == 11
    qkv = randn(27, (heads + 2 * kv_heads) * size, dtype=dtype)
    agree(
        lambda x: learn.attend_texts(x, texts, kv_heads, size, 0.4, window),
        lambda x: oracle.attend(x, spans, kv_heads, size, 0.4, window),
        [qkv],
    )


@pytest.mark.parametrize("window", [0, 9, 50])
def test_attention_of_long_texts(window: int) -> None:
    texts = texts_of(LONG, [0, 3, 4])
    agree(
        lambda x: learn.attend_texts(x, texts, 1, 8, 0.5, window),
        lambda x: oracle.attend(x, LONG, 1, 8, 0.5, window),
        [randn(188, 4 * 8)],
    )


def test_attention_with_scores_of_hundreds() -> None:
    """The softmax of far larger scores than exp can take."""
    spans = [*GROUP, *ONE_TOKEN, *ALONE]
    qkv = randn(27, 3 * 8, scale=20)
    ours = learn.attend_texts(qkv, texts_of(spans, FAMILIES_OF_ALL), 1, 8, 0.35)
    torch.testing.assert_close(
        ours.double(), oracle.attend(qkv.double(), spans, 1, 8, 0.35), atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("dtype", FORMATS)
def test_tokens_of_no_text_give_and_get_nothing(dtype: torch.dtype) -> None:
    spans = [(2, 4, 0, 0), (6, 3, 2, 4), (11, 5, 0, 0)]
    texts = texts_of(spans, [0, 2, 3])
    assert not texts.covers(18)
    qkv = randn(18, 3 * 8, dtype=dtype)
    agree(
        lambda x: learn.attend_texts(x, texts, 1, 8, 0.5),
        lambda x: oracle.attend(x, spans, 1, 8, 0.5),
        [qkv],
    )
    outside = [0, 1, 9, 10, 16, 17]
    leaf = qkv.clone().requires_grad_()
    out = learn.attend_texts(leaf, texts, 1, 8, 0.5)
    out.backward(torch.ones_like(out))
    assert (out[outside] == 0).all()
    assert (leaf.grad[outside] == 0).all()
    with torch.no_grad():
        qkv[outside] = float("nan")
    assert torch.equal(learn.attend_texts(qkv, texts, 1, 8, 0.5), out)


@pytest.mark.parametrize("name", ["norm", "attention"])
def test_gradients_by_finite_differences(name: str) -> None:
    """Along a few random directions; the kernels count in float32, so steps are wide."""
    texts = texts_of(GROUP, [0, 4])
    weight = randn(24, seed=1)

    def run(x: Tensor) -> Tensor:
        if name == "norm":
            return learn.norm(x, weight, 1e-5)[0]
        return learn.attend_texts(x, texts, 1, 8, 0.5)

    x = randn(15, 24).requires_grad_()
    out = run(x)
    weights = randn(*out.shape, seed=2)
    (out * weights).sum().backward()
    for seed in range(3, 7):
        direction = randn(15, 24, seed=seed, scale=5e-3)
        with torch.no_grad():
            change = ((run(x + direction).double() - run(x - direction)) * weights).sum() / 2
        expected = float((x.grad.double() * direction).sum())
        assert float(change) == pytest.approx(expected, rel=5e-3, abs=2e-4)


@pytest.mark.parametrize("dtype", FORMATS)
def test_a_text_is_read_the_same_whatever_lies_beside_it(dtype: torch.dtype) -> None:
    """Bit for bit: attention, norm and gate count each text, each row, by itself."""
    neighbour = [(0, 9, 0, 0), (9, 4, 0, 9)]
    moved = [
        (start + 13, length, first + 13 if prefix else 0, prefix) for start, length, first, prefix in GROUP
    ]
    qkv, more = randn(15, 4 * 12, dtype=dtype), randn(13, 4 * 12, dtype=dtype, seed=9)
    together = torch.cat([more, qkv])
    alone = learn.attend_texts(qkv, texts_of(GROUP, [0, 4]), 1, 12, 0.5)
    both = learn.attend_texts(together, texts_of([*neighbour, *moved], [0, 2, 6]), 1, 12, 0.5)
    assert torch.equal(both[13:], alone)
    weight = randn(48, dtype=dtype, seed=3)
    assert torch.equal(learn.norm(together, weight, 1e-5)[0][13:], learn.norm(qkv, weight, 1e-5)[0])
    assert torch.equal(learn.gate(together, "silu")[13:], learn.gate(qkv, "silu"))


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_number_of_threads_changes_no_bit(dtype: torch.dtype, threads: Callable[[int], None]) -> None:
    """But of the gradient of a norm's weight, whose rows every thread adds up by itself (see below)."""
    texts = texts_of([*GROUP, *ONE_TOKEN, *ALONE], FAMILIES_OF_ALL)
    found = []
    for number in (1, 2, 3):
        threads(number)
        qkv = randn(27, 8 * 12, dtype=dtype).requires_grad_()
        mixed = learn.attend_texts(qkv, texts, 2, 12, 0.4)
        mixed.backward(randn(*mixed.shape, dtype=dtype, seed=1))
        x = randn(27, 48, dtype=dtype, seed=2).requires_grad_()
        normed, _ = learn.norm(x, randn(48, dtype=dtype, seed=3), 1e-5)
        normed.backward(randn(27, 48, dtype=dtype, seed=4))
        opened = learn.gate(randn(300, 96, dtype=dtype, seed=5), "gelu")
        found.append([mixed, qkv.grad, normed, x.grad, opened])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, found[0], strict=True))


def test_a_norms_weight_depends_on_threads_by_rounding_only(threads: Callable[[int], None]) -> None:
    x, weight = randn(31, 20), randn(20, seed=1).requires_grad_()
    found = []
    for number in (1, 2, 3):
        threads(number)
        learn.norm(x, weight, 1e-5)[0].backward(randn(31, 20, seed=2))
        found.append(weight.grad)
        weight.grad = None
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [*FORMATS, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 70), (33, 32), (65, 31)])
def test_across(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    x = randn(*shape, dtype=dtype)
    assert torch.equal(learn.across(x), x.t())
    assert learn.across(x).is_contiguous()
    assert torch.equal(learn.across(x.t()), x)
    wide = randn(shape[0], shape[1] + 3, dtype=dtype)[:, 1:-2]
    assert torch.equal(learn.across(wide), wide.t())


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 70), (40, 33)])
def test_sum_across(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    rows, columns = shape
    wide = randn(rows, columns + 5, dtype=dtype)
    part = wide[:, 2 : 2 + columns]
    total = torch.full((columns, rows), float("nan"))
    run = kernel("sum_across", part)
    run(*pointers(part, total), rows, columns, columns + 5, 0)
    assert torch.equal(total, part.t().float())
    run(*pointers(part, total), rows, columns, columns + 5, 1)
    assert torch.equal(total, 2 * part.t().float())


def test_formats_without_kernels_are_refused() -> None:
    assert not learn.available(randn(2, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"no kernel 'norm_forward' for torch\.float64"):
        learn.norm(randn(2, 4, dtype=torch.float64), randn(4, dtype=torch.float64), 1e-5)
