"""The forward pass of a known decoder over whole texts, on fused kernels (sampling: `rollout/native`).

Everything between the matrix products is one kernel each way, attention runs text by text without padding,
and a shared prompt is read once. Any other model runs its own forward pass; `models/forward.py` chooses.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ridgeline.models.architecture import Body, Layer, Norm, Unsupported, body_of
from ridgeline.models.kernels import learn
from ridgeline.models.kernels.texts import Texts
from ridgeline.models.products import embed, product

Angles = dict[str, tuple[Tensor, Tensor]]
Keep = Callable[[Tensor], None]


def fused_body(backbone: nn.Module) -> Body | None:
    """The parts of ``backbone`` if `read` can run it here: a known family, on a CPU, with the kernels.

    None where its weights are in several formats. Found anew each time (a millisecond), as an adapter may
    have come in since.
    """
    if not isinstance(backbone, PreTrainedModel):
        return None
    parameters = list(backbone.parameters())
    if not learn.available(parameters[0]) or len({each.dtype for each in parameters}) > 1:
        return None
    try:
        return body_of(backbone)
    except Unsupported:
        return None


def read(body: Body, ids_T: Tensor, positions_T: Tensor, texts: Texts, keep: Keep | None = None) -> Tensor:
    """Last hidden states ``[T, H]`` of ``texts``, whose tokens are ``ids``.

    keep: is given each layer's queries, keys and values ``[T, W]`` in turn, as attention reads them.
    """
    stream_TH = embed(ids_T, body.embedding)
    angles = rotary_angles(body, positions_T)
    delta_TH: Tensor | None = None
    for layer in body.layers:
        arguments = (body, layer, stream_TH, delta_TH, angles, texts, keep)
        if _recomputes(layer):
            stream_TH, delta_TH = checkpoint(_read_layer, *arguments, use_reentrant=False)
        else:
            stream_TH, delta_TH = _read_layer(*arguments)
    return _enter(stream_TH, delta_TH, body.last_norm)[0]


def _read_layer(
    body: Body,
    layer: Layer,
    stream_TH: Tensor,
    delta_TH: Tensor | None,
    angles: Angles,
    texts: Texts,
    keep: Keep | None,
) -> tuple[Tensor, Tensor]:
    """The stream, and what this layer adds to it last, which the next norm takes in."""
    x_TH, stream_TH = _enter(stream_TH, delta_TH, layer.before_attention)
    qkv_TW = _norm_heads(product(x_TH, layer.queries_keys_values), layer, body)
    if layer.angles is not None:
        qkv_TW = learn.turn(qkv_TW, *angles[layer.angles], body.heads + body.kv_heads, body.size)
    if keep is not None:
        keep(qkv_TW)
    mixed_TW = learn.attend_texts(qkv_TW, texts, body.kv_heads, body.size, layer.scale, layer.window)
    delta_TH = _norm(product(mixed_TW, [layer.out]), layer.after_attention)
    x_TH, stream_TH = _enter(stream_TH, delta_TH, layer.before_mlp)
    opened_TI = learn.gate(product(x_TH, layer.gate_up), body.activation)
    return stream_TH, _norm(product(opened_TI, [layer.down]), layer.after_mlp)


def _recomputes(layer: Layer) -> bool:
    """Whether `models/recompute.py` has asked the layer to keep nothing but its input."""
    return layer.module.training and bool(getattr(layer.module, "gradient_checkpointing", False))


def rotary_angles(body: Body, positions_T: Tensor) -> Angles:
    """Cosine and sine ``[T, turned]`` in float32 per kind of layer, by the model's own rotary module."""
    like = torch.empty(0, dtype=torch.float32)
    found = {}
    for kind in {layer.angles for layer in body.layers if layer.angles is not None}:
        arguments = (like, positions_T[None]) if kind == "" else (like, positions_T[None], kind)
        cosine, sine = body.rotary(*arguments)
        found[kind] = cosine[0].contiguous(), sine[0].contiguous()
    return found


def _enter(stream_TH: Tensor, delta_TH: Tensor | None, norm: Norm | None) -> tuple[Tensor, Tensor]:
    """What the next part reads, and the stream with ``delta`` taken in."""
    if norm is None:
        stream_TH = stream_TH if delta_TH is None else stream_TH + delta_TH
        return stream_TH, stream_TH
    return learn.norm(stream_TH, _weight(norm), norm.eps, delta=delta_TH, offset=norm.offset)


def _norm(x_TH: Tensor, norm: Norm | None) -> Tensor:
    return x_TH if norm is None else learn.norm(x_TH, _weight(norm), norm.eps, offset=norm.offset)[0]


def _norm_heads(qkv_TW: Tensor, layer: Layer, body: Body) -> Tensor:
    """Queries and keys normalised, per head or as a whole, in the families that do so."""
    if layer.query_norm is None and layer.key_norm is None:
        return qkv_TW
    sizes = [body.heads * body.size, body.kv_heads * body.size, body.kv_heads * body.size]
    parts = [
        part
        if norm is None
        else _norm(part.contiguous().view(-1, _weight(norm).numel()), norm).view(part.shape)
        for part, norm in zip(
            qkv_TW.split(sizes, dim=1), (layer.query_norm, layer.key_norm, None), strict=True
        )
    ]
    return torch.cat(parts, dim=1)


def _weight(norm: Norm) -> Tensor:
    weight = norm.module.weight
    assert isinstance(weight, Tensor)
    return weight
