"""The tables of `kernels.decode`: where a model's weights and pages lie, for a decoding step in one call."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ridgeline.models.architecture import Body, Norm
from ridgeline.models.kernels import decode
from ridgeline.models.kernels.ops import MAX_GROUP, MAX_SIZE
from ridgeline.models.kernels.tile_pages import TilePages
from ridgeline.rollout.native.weights import Product, Weights

Angles = dict[str, tuple[torch.Tensor, torch.Tensor]]


def fits(body: Body, dtype: torch.dtype) -> bool:
    """Whether a step of this model can be one call here."""
    small = body.size <= MAX_SIZE and body.heads // body.kv_heads <= MAX_GROUP
    return dtype == torch.bfloat16 and small and decode.has_tiles()


class WholeStep:
    """Decodes with weights and pages that stay where they are; made anew when either has moved."""

    def __init__(
        self, body: Body, weights: Weights, prompts: Sequence[TilePages], own: Sequence[TilePages]
    ) -> None:
        self.body, self.weights = body, weights
        self.prompts, self.own = prompts, own
        self.version = weights.version
        head, first = weights.head.linears[0], weights.layers[0]
        self.shape = decode.Shape(
            layers=len(body.layers),
            hidden=head.in_features,
            inner=first.down.linears[0].in_features,
            heads=body.heads,
            kv_heads=body.kv_heads,
            size=body.size,
            vocabulary=head.out_features,
            gelu=int(body.activation == "gelu"),
            prompt_capacity=prompts[0].capacity,
            own_capacity=own[0].capacity,
            last_norm=_norm(body.last_norm),
            head=_linears(weights.head)[0],
        )
        self.layers = (decode.Layer * len(body.layers))(*map(self._layer, range(len(body.layers))))

    def _layer(self, number: int) -> decode.Layer:
        layer, products = self.body.layers[number], self.weights.layers[number]
        prompt, own = self.prompts[number], self.own[number]
        return decode.Layer(
            **{name: _norm(getattr(layer, name)) for name in decode.NORMS},
            queries_keys_values=(decode.Linear * 3)(*_linears(products.queries_keys_values)),
            out=_linears(products.out)[0],
            gate_up=(decode.Linear * 2)(*_halves(products.gate_up)),
            down=_linears(products.down)[0],
            prompt_keys=prompt.keys.data_ptr(),
            prompt_values=prompt.values.data_ptr(),
            own_keys=own.keys.data_ptr(),
            own_values=own.values.data_ptr(),
            window=layer.window,
            scale=layer.scale,
        )

    def __call__(self, stream_BH: torch.Tensor, angles: Angles, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        """As `decode.decode`; angles: `rotary_angles` of the positions of the rows."""
        for layer, entry in zip(self.body.layers, self.layers, strict=True):
            if layer.angles is not None:
                cosine, sine = angles[layer.angles]
                entry.turned = cosine.shape[-1]
                entry.cosine, entry.sine = cosine.data_ptr(), sine.data_ptr()
        return decode.decode(stream_BH, self.layers, self.shape, rows)


def _norm(norm: Norm | None) -> decode.Norm:
    if norm is None:
        return decode.Norm()
    weight = norm.module.weight
    assert isinstance(weight, torch.Tensor)
    return decode.norm(weight, norm.eps, norm.offset)


def _linears(product: Product) -> list[decode.Linear]:
    return [decode.linear(*parts) for parts in zip(product.weights, product.biases, strict=True)]


def _halves(product: Product) -> list[decode.Linear]:
    """Two linears, also where both are one: its outputs are gates first."""
    if len(product.weights) == 2:
        return _linears(product)
    (weight,), (bias,) = product.weights, product.biases
    biases = (None, None) if bias is None else bias.chunk(2)
    return [decode.linear(*parts) for parts in zip(weight.chunk(2), biases, strict=True)]
