"""What a forward pass keeps for its backward pass, counted on a stand-in of the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ridgeline.models.batch import MicroBatch
from ridgeline.models.forward import HEAD_CHUNK, PolicyForward
from ridgeline.models.scored_head import LOGITS_BYTES, plain_head
from ridgeline.schema.stages.common import Adapter
from ridgeline.workbench.shapes import Shape
from ridgeline.workbench.stand_in import FEW, StandIns

TOKENS = 256
"""Tokens of the pass in which tensors are counted, at most; what is kept grows with them."""


@dataclass(frozen=True)
class Kept:
    """Bytes that wait for the backward pass: per token and layer, and per token besides."""

    layer: float
    rest: float


def kept(models: StandIns, shape: Shape, packed: bool, adapter: Adapter | None) -> Kept:
    """Tensors that autograd saves in a pass over units of ``shape``; weights do not count."""
    unit = shape.rounded().within(TOKENS).rounded()
    generator = np.random.default_rng(0)
    batch = MicroBatch.of([unit.unit(models.small, generator)], models.device)
    tokens = unit.tokens(packed)
    few = _saved(models, FEW, batch, packed, adapter) / tokens
    if models.facts.layers == FEW:
        return Kept(few, 0.0)
    layer = _saved(models, FEW + 1, batch, packed, adapter) / tokens - few
    rest = max(few - FEW * layer, 0.0)
    # Where the feed-forward part was made smaller: its gate, its other half, and their product.
    smaller = models.facts.intermediate - models.intermediate
    return Kept(layer + 3.0 * smaller * models.dtype.itemsize, rest)


def _saved(models: StandIns, layers: int, batch: MicroBatch, packed: bool, adapter: Adapter | None) -> int:
    module = models.get(layers, models.small, adapter)
    weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    seen: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        alive = PolicyForward()(module, batch, packed)
    del alive
    return sum(seen.values())


def logits_bytes(models: StandIns, scored: float, *, learns: bool) -> float:
    """Logits that exist at one time when ``scored`` positions are read, with their gradient if it ``learns``.

    A head that is a plain product has them in the working format (`models/scored_head.py`), any other one
    also their float32 copy, its log-softmax and the gradient of both, a chunk at a time.
    """
    vocabulary, itemsize = models.facts.vocabulary, torch.finfo(models.dtype).bits // 8
    if plain_head(models.get(FEW, models.small)) is not None:
        return (1 + learns) * min(scored * vocabulary * itemsize, float(LOGITS_BYTES))
    return min(scored, HEAD_CHUNK) * vocabulary * (itemsize + (3 if learns else 2) * 4.0)
