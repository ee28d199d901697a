"""Linear layers read side by side, with a gradient of the weights that this CPU forms fast.

Where the processor has AMX and the gradients are added up in float32, a kernel of our own forms and adds them
at once (`kernels/gradient.h`). Elsewhere: oneDNN multiplies [in, T] x [T, out] about twice as fast as
[out, T] x [T, in] when the left side has first been laid across, so the smaller operand is, and the gradient
comes out across.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from ridgeline.models.gradient_sum import GradientSum, gradient_sum
from ridgeline.models.kernels.learn import across, has_products, pair_tokens
from ridgeline.models.multiply import multiply

Context = Any


def product(x: Tensor, linears: Sequence[nn.Linear]) -> Tensor:
    """``[T, in] -> [T, sum of outs]``: what ``linears`` make of ``x``, one beside the other."""
    weights = [linear.weight for linear in linears]
    biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
    out: Tensor = (
        _Product.apply(x, *weights)  # type: ignore[no-untyped-call]
        if torch.is_grad_enabled()
        else multiply(x, _beside(weights).t())
    )
    return out if not biases else out + torch.cat(biases)


def embed(ids_T: Tensor, embedding: nn.Module) -> Tensor:
    """``[T] -> [T, H]``; a plain embedding sends its gradient to its rows alone."""
    if type(embedding) is nn.Embedding and torch.is_grad_enabled() and gradient_sum(embedding.weight):
        out: Tensor = _Embedding.apply(ids_T, embedding.weight)  # type: ignore[no-untyped-call]
        return out
    result: Tensor = embedding(ids_T)
    return result


class _Product(Function):
    @staticmethod
    def forward(ctx: Context, x: Tensor, *weights: Tensor) -> Tensor:
        # Found here: with recomputation, what is saved comes back without its attributes.
        ctx.sums = [gradient_sum(weight) for weight in weights]
        learns = ctx.needs_input_grad[1:]
        ctx.in_tiles = has_products(x) and all(
            total is not None for total, each in zip(ctx.sums, learns, strict=True) if each
        )
        # Laid out now, while it is in the processor's cache: the way back needs x in no other form.
        laid_out = (pair_tokens(x) if ctx.in_tiles else across(x)) if any(learns) else None
        ctx.save_for_backward(laid_out, *weights)
        return multiply(x, _beside(weights).t())

    @staticmethod
    def backward(ctx: Context, d_out: Tensor) -> Any:
        laid_out, *weights = ctx.saved_tensors
        d_x = multiply(d_out, _beside(weights)) if ctx.needs_input_grad[0] else None
        widths = [len(weight) for weight in weights]
        if laid_out is None:
            return d_x, *(None for _ in weights)
        if ctx.in_tiles:
            for total, part in zip(ctx.sums, d_out.contiguous().split(widths, dim=1), strict=True):
                if total is not None:
                    total.add_product(part, laid_out)
            return d_x, *(None for _ in weights)
        shares = multiply(laid_out, d_out).split(widths, dim=1)
        return d_x, *(_delivered(total, share) for total, share in zip(ctx.sums, shares, strict=True))


def _delivered(total: GradientSum | None, share: Tensor) -> Tensor | None:
    """A gradient that lies across, to where the weight's are added up, or back to autograd."""
    if total is None:
        return share.t()
    total.add_across(share)
    return None


class _Embedding(Function):
    @staticmethod
    def forward(ctx: Context, ids_T: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(ids_T)
        ctx.sum = gradient_sum(weight)
        return weight[ids_T]

    @staticmethod
    def backward(ctx: Context, d_out: Tensor) -> Any:
        (ids_T,) = ctx.saved_tensors
        ctx.sum.add_rows(ids_T, d_out)
        return None, None


def _beside(weights: Sequence[Tensor]) -> Tensor:
    return weights[0] if len(weights) == 1 else torch.cat(list(weights))
