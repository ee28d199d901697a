"""A model's weights as the decoder multiplies by them: linears of one kind side by side, packed.

Adapters are added in. Packed copies are made again when the model's weights or those of its adapter have
changed, which their version counters show, or when the adapter was switched on or off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ridgeline.models.adapted import state_of, weight_of
from ridgeline.models.architecture import Architecture, Layer
from ridgeline.models.kernels import decode


@dataclass
class Product:
    """x @ weight^T + bias over one packed matrix, or several linears read as one.

    Packed as tiles for `kernels.decode` where asked for, else for oneDNN, which computes it when called.
    """

    linears: Sequence[nn.Linear]
    tiles: bool
    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    packed: bool = False

    def pack(self) -> None:
        """Take the weights as they are now."""
        weights = [weight_of(linear) for linear in self.linears]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        biases = [linear.bias.detach() for linear in self.linears if linear.bias is not None]
        self.bias = None if not biases else biases[0] if len(biases) == 1 else torch.cat(biases)
        if self.tiles:
            self.weight = decode.pack(weight, into=self.weight)
            return
        self.packed = _packs(weight.dtype)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight) if self.packed else weight

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        assert self.weight is not None and not self.tiles
        if self.packed:
            result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
                x, self.weight, self.bias, "none", [], ""
            )
            return result
        return functional.linear(x, self.weight, self.bias)


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
        """Pack again what has changed since the last time; whether anything had."""
        seen = [state_of(linear) for product in self.products for linear in product.linears]
        if seen == self._seen:
            return False
        for product in self.products:
            product.pack()
        self._seen = seen
        self.version += 1
        return True
