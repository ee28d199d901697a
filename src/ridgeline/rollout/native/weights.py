"""A model's weights as the decoder multiplies by them: linears of one kind side by side, adapters added in.

`kernels.decode` reads them where they lie, oneDNN from packed copies. Copies and sums with adapters are made
again when the weights of the model or its adapter have changed, which their version counters show, or when
the adapter was switched on or off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

from ridgeline.models.adapted import state_of, weight_of
from ridgeline.models.architecture import Architecture, Layer


@dataclass
class Product:
    """x @ weight^T + bias over one linear, or several read as one.

    For `kernels.decode` (``tiles``) ``weights`` and ``biases`` are those of every linear, where they lie.
    Otherwise there is one of each, packed where oneDNN can, and a call computes with them.
    """

    linears: Sequence[nn.Linear]
    tiles: bool
    weights: list[torch.Tensor] = field(default_factory=list)
    biases: list[torch.Tensor | None] = field(default_factory=list)
    packed: bool = False

    def take(self) -> None:
        """Take the weights as they are now."""
        weights = [weight_of(linear) for linear in self.linears]
        biases: list[torch.Tensor | None] = [
            None if linear.bias is None else linear.bias.detach() for linear in self.linears
        ]
        if self.tiles:
            self.weights, self.biases = [weight.contiguous() for weight in weights], biases
            return
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        given = [bias for bias in biases if bias is not None]
        self.biases = [torch.cat(given) if given else None]
        self.packed = _packs(weight.dtype)
        self.weights = [torch.ops.mkldnn._reorder_linear_weight(weight) if self.packed else weight]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.tiles
        (weight,), (bias,) = self.weights, self.biases
        if self.packed:
            result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
            return result
        return functional.linear(x, weight, bias)


def _packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN packs weights of this format here: bfloat16 takes AVX-512 or better."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@dataclass
class LayerProducts:
    """The four products of a layer."""

    queries_keys_values: Product
    out: Product
    gate_up: Product
    down: Product

    @staticmethod
    def of(layer: Layer, tiles: bool) -> LayerProducts:
        return LayerProducts(
            Product(layer.queries_keys_values, tiles),
            Product([layer.out], tiles),
            Product(layer.gate_up, tiles),
            Product([layer.down], tiles),
        )


class Weights:
    """All products of a decoder, up to date after `refresh`; ``tiles``: as `Product`."""

    def __init__(self, architecture: Architecture, *, tiles: bool = False) -> None:
        self.layers = [LayerProducts.of(layer, tiles) for layer in architecture.body.layers]
        self.head = Product([architecture.head], tiles)
        self.tiles = tiles
        self.version = 0
        self._seen: list[tuple[object, ...]] = []

    @property
    def products(self) -> list[Product]:
        """Every product of the decoder."""
        layers = [product for layer in self.layers for product in vars(layer).values()]
        return [*layers, self.head]

    @torch.no_grad()
    def refresh(self) -> bool:
        """Take again what has changed since the last time; whether anything had."""
        seen = [state_of(linear) for product in self.products for linear in product.linears]
        if seen == self._seen:
            return False
        for product in self.products:
            product.take()
        self._seen = seen
        self.version += 1
        return True
