"""Operations of a whole pass over texts, with their gradients, on the compiled kernels.

There is no twin in torch: where the library is missing, the model's own forward pass runs instead
(`models/forward.py`), which is also what the tests compare with.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ridgeline.models.kernels.call import kernel, pointers
from ridgeline.models.kernels.decode import has_tiles
from ridgeline.models.kernels.texts import Texts

Context = Any  # torch's own type knows neither saved tensors nor what is set on it


def norm(
    stream: Tensor, weight: Tensor, eps: float, *, delta: Tensor | None = None, offset: float = 0.0
) -> tuple[Tensor, Tensor]:
    """RMS norm of ``stream + delta`` ``[T, H]``, and that sum (Zhang and Sennrich 2019, equation 4)."""
    if delta is None:
        return _Norm.apply(stream, None, weight, eps, offset), stream  # type: ignore[no-untyped-call]
    out, total = _Norm.apply(stream, delta, weight, eps, offset)  # type: ignore[no-untyped-call]
    return out, total


def gate(gate_up: Tensor, activation: str) -> Tensor:
    """act(gate) * up, ``[T, 2 I] -> [T, I]`` (Shazeer 2020)."""
    out: Tensor = _Gate.apply(gate_up, activation == "gelu")  # type: ignore[no-untyped-call]
    return out


def turn(qkv: Tensor, cosine: Tensor, sine: Tensor, heads: int, size: int) -> Tensor:
    """Queries and keys, the first ``heads`` of ``[T, W]``, turned by their positions (Su et al. 2021).

    cosine, sine: ``[T, turned]`` float32.
    """
    out: Tensor = _Turn.apply(qkv, cosine, sine, heads, size)  # type: ignore[no-untyped-call]
    return out


def attend_texts(
    qkv: Tensor, texts: Texts, kv_heads: int, size: int, scale: float, window: int = 0
) -> Tensor:
    """Causal attention within each text and to its prefix, ``[T, (heads + 2 kv_heads) D] -> [T, heads * D]``.

    ``window`` above 0: only that many last positions, a token's own included. Softmax in float32; the
    gradient of a shared prefix is summed over its texts in float32, in their order.
    """
    out: Tensor = _Attend.apply(qkv, texts, kv_heads, size, scale, window)  # type: ignore[no-untyped-call]
    return out


def across(x: Tensor) -> Tensor:
    """``[R, C] -> [C, R]``, contiguous; without gradient. Several times as fast as torch in 16 bits."""
    if kernel("across", x) is None or not x.is_contiguous():
        return x.t().contiguous()
    out = x.new_empty(x.shape[1], x.shape[0])
    _run("across", x, *pointers(x, out), *x.shape)
    return out


def has_products(like: Tensor) -> bool:
    """Whether `sum_product` runs on tensors such as ``like``: bfloat16, on a processor with AMX."""
    return like.dtype == torch.bfloat16 and kernel("across", like) is not None and has_tiles()


def pair_tokens(x: Tensor) -> Tensor:
    """``[T, C]`` as `sum_product` wants it: flat, in tiles of pairs of tokens; without gradient."""
    tokens, columns = x.shape
    out = x.new_empty(_whole(tokens) * _whole(columns))
    _run("pair_tokens", x, *pointers(x.contiguous(), out), tokens, columns)
    return out


def sum_product(d_out: Tensor, pairs: Tensor, total: Tensor, *, add: bool) -> Tensor:
    """total = d_out^T x, or += where ``add``; returns the squares of ``total`` then, to be summed, float64.

    d_out: ``[T, out]``, which may be columns of a wider matrix; pairs: of x ``[T, in]``; total: ``[out, in]``
    float32, contiguous. Sums are in float32.
    """
    tokens, outs = d_out.shape
    ins, threads = total.shape[1], torch.get_num_threads()
    across_ = d_out.new_empty(_whole(tokens) * max(_whole(outs), threads * _TILES))
    room = torch.empty(threads, _whole(ins) * _TILES, dtype=torch.float32)
    squares = torch.zeros(threads, dtype=torch.float64)
    sizes = tokens, outs, ins, d_out.stride(0), int(add), threads
    _run("sum_product", d_out, *pointers(d_out, pairs, total, across_, room, squares), *sizes)
    return squares


def broad_product(left: Tensor, right: Tensor) -> Tensor:
    """``[M, K] x [K, N] -> [M, N]``, rounded once; ``right`` may be a transposed matrix."""
    (rows, depth), columns = left.shape, right.shape[1]
    turned = right.stride(1) != 1
    out = left.new_empty(rows, columns)
    sizes = rows, columns, depth, left.stride(0), right.stride(0 if not turned else 1)
    _run("broad_product", left, *pointers(left, right, out), *sizes, int(turned), torch.get_num_threads())
    return out


_TILES = 32
"""Rows and columns that two tiles have, side by side."""


def _whole(count: int) -> int:
    return -(-count // _TILES) * _TILES


def available(like: Tensor) -> bool:
    """Whether these operations run on tensors such as ``like``."""
    return kernel("ragged", like) is not None


def _run(name: str, like: Tensor, *arguments: Any) -> None:
    function = kernel(name, like)
    if function is None:
        raise ValueError(f"no kernel '{name}' for {like.dtype} on {like.device}")
    function(*arguments)


class _Norm(Function):
    @staticmethod
    def forward(
        ctx: Context, stream: Tensor, delta: Tensor | None, weight: Tensor, eps: float, offset: float
    ) -> Any:
        width = weight.numel()
        rows = stream.numel() // width
        total = stream if delta is None else torch.empty_like(stream)
        out = torch.empty_like(stream)
        scale = torch.empty(rows, dtype=torch.float32)
        arguments = *pointers(stream, delta, weight, total, out, scale), rows, width
        _run("norm_forward", stream, *arguments, eps, offset)
        ctx.save_for_backward(total, weight, scale)
        ctx.offset = offset
        return out if delta is None else (out, total)

    @staticmethod
    def backward(ctx: Context, d_out: Tensor, d_total: Tensor | None = None) -> Any:
        total, weight, scale = ctx.saved_tensors
        threads = torch.get_num_threads()
        d_x = torch.empty_like(total)
        d_out = d_out.contiguous()
        d_total = None if d_total is None else d_total.contiguous()
        shares = torch.zeros(threads, weight.numel(), dtype=torch.float32)
        arguments = pointers(total, weight, scale, d_out, d_total, d_x, shares)
        sizes = (len(scale), weight.numel(), threads)
        _run("norm_backward", total, *arguments, *sizes, ctx.offset)
        d_weight = shares.sum(0).to(weight.dtype) if ctx.needs_input_grad[2] else None
        return d_x, d_x if ctx.needs_input_grad[1] else None, d_weight, None, None


class _Gate(Function):
    @staticmethod
    def forward(ctx: Context, gate_up: Tensor, gelu: bool) -> Tensor:
        rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        out = gate_up.new_empty(rows, width)
        _run("gate", gate_up, *pointers(gate_up, out), rows, width, int(gelu))
        ctx.save_for_backward(gate_up)
        ctx.gelu = gelu
        return out

    @staticmethod
    def backward(ctx: Context, d_out: Tensor) -> Any:
        (gate_up,) = ctx.saved_tensors
        d_in, d_out = torch.empty_like(gate_up), d_out.contiguous()
        sizes = (gate_up.shape[0], gate_up.shape[1] // 2, int(ctx.gelu))
        _run("gate_backward", gate_up, *pointers(gate_up, d_out, d_in), *sizes)
        return d_in, None


class _Turn(Function):
    @staticmethod
    def forward(ctx: Context, qkv: Tensor, cosine: Tensor, sine: Tensor, heads: int, size: int) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        ctx.shape = heads, size
        return _turned(qkv, cosine, sine, heads, size, back=1.0)

    @staticmethod
    def backward(ctx: Context, d_out: Tensor) -> Any:
        return _turned(d_out.contiguous(), *ctx.saved_tensors, *ctx.shape, back=-1.0), None, None, None, None


def _turned(x: Tensor, cosine: Tensor, sine: Tensor, heads: int, size: int, *, back: float) -> Tensor:
    out = torch.empty_like(x)
    sizes = (len(x), x.shape[1] // size, heads, size, cosine.shape[-1])
    _run("turn", x, *pointers(x, out, cosine, sine), *sizes, back)
    return out


class _Attend(Function):
    @staticmethod
    def forward(
        ctx: Context, qkv: Tensor, texts: Texts, kv_heads: int, size: int, scale: float, window: int
    ) -> Tensor:
        heads = qkv.shape[1] // size - 2 * kv_heads
        # Tokens of no text (padding) are read by nobody and send nothing.
        make = qkv.new_empty if texts.covers(len(qkv)) else qkv.new_zeros
        out = make(len(qkv), heads * size)
        lse = torch.empty(len(qkv), heads, dtype=torch.float32)
        sizes = (len(texts.spans), texts.longest, heads, kv_heads, size, window)
        _run("ragged", qkv, *pointers(qkv, out, lse, texts.spans), *sizes, scale)
        ctx.save_for_backward(qkv, out, lse)
        ctx.shape = texts, heads, kv_heads, size, scale, window
        return out

    @staticmethod
    def backward(ctx: Context, d_out: Tensor) -> Any:
        qkv, out, lse = ctx.saved_tensors
        texts, heads, kv_heads, size, scale, window = ctx.shape
        d_qkv = torch.empty_like(qkv) if texts.covers(len(qkv)) else torch.zeros_like(qkv)
        d_out = d_out.contiguous()
        arguments = pointers(qkv, out, d_out, lse, d_qkv, texts.spans, texts.families)
        sizes = (len(texts.families) - 1, texts.longest, heads, kv_heads, size, window)
        _run("ragged_backward", qkv, *arguments, *sizes, scale)
        return d_qkv, None, None, None, None, None
