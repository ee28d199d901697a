"""Gradients of bfloat16 weights, added up in float32 as they are made.

autograd would keep them in the weight's own format, and lay a gradient that comes out across the other way
round before anybody adds it. A weight with a `GradientSum` gets neither: the operations of
`models/products.py` and `models/scored_head.py` add to the sum, and autograd sees no gradient of that weight.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ridgeline.models.kernels.call import kernel, pointers
from ridgeline.models.kernels.learn import sum_product

_ATTRIBUTE = "ridgeline_gradient_sum"


class GradientSum:
    """The float32 gradient of one weight; ``value`` is None until something is added.

    ``squares``, where it is not None, adds up to the square of the gradient's norm.
    """

    def __init__(self, weight: Tensor) -> None:
        self.shape = weight.shape
        self.value: Tensor | None = None
        self.squares: Tensor | None = None
        setattr(weight, _ATTRIBUTE, self)

    def forget(self) -> None:
        """As if nothing had been added."""
        self.value = self.squares = None

    def add(self, gradient: Tensor) -> None:
        """Add a gradient of the weight's shape."""
        self.squares = None
        if self.value is None:
            self.value = gradient.float() if gradient.dtype != torch.float32 else gradient.clone()
        else:
            self.value.add_(gradient)

    def add_across(self, gradient: Tensor) -> None:
        """Add a gradient ``[in, out]`` of a weight ``[out, in]``; it may be columns of a wider matrix."""
        self.squares = None
        total, first = self._total()
        run = kernel("sum_across", gradient)
        assert run is not None
        rows, columns = gradient.shape
        run(*pointers(gradient, total), rows, columns, gradient.stride(0), int(not first))

    def add_product(self, d_out: Tensor, pairs: Tensor) -> None:
        """Add ``d_out^T x`` of ``pair_tokens(x)``; ``d_out`` may be columns of a wider matrix."""
        total, first = self._total()
        self.squares = sum_product(d_out, pairs, total, add=not first)

    def add_rows(self, index_T: Tensor, gradient_TH: Tensor) -> None:
        """Add ``gradient[t]`` to row ``index[t]``, in order."""
        self.squares = None
        if self.value is None:
            self.value = torch.zeros(self.shape, dtype=torch.float32)
        self.value.index_add_(0, index_T, gradient_TH.float())

    def _total(self) -> tuple[Tensor, bool]:
        """Where to add, and whether nothing is there yet, not even zeros."""
        first = self.value is None
        if self.value is None:
            self.value = torch.empty(self.shape, dtype=torch.float32)
        return self.value, first


def gradient_sum(weight: Tensor) -> GradientSum | None:
    """Where gradients of ``weight`` are added up, if its optimiser has asked for that."""
    found: GradientSum | None = getattr(weight, _ATTRIBUTE, None)
    return found
