"""Attention text by text for any model of transformers, through its attention interface.

`attending_to(backbone, texts)` makes the model's own forward pass attend within the texts that are laid end
to end in its one row, without mask and without padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ridgeline.models.kernels.learn import attend_texts, available
from ridgeline.models.kernels.texts import Texts

NAME = "ridgeline_texts"
_texts: ContextVar[Texts] = ContextVar("texts")
_MORE = ("s_aux", "position_bias", "indices", "block_indices")
"""What some families' attention takes in besides: sinks, biases, a choice of keys."""


def allowed(backbone: nn.Module) -> bool:
    """Whether ``backbone`` may be tried; what its attention really does is probed (`models/probe.py`).

    Families that do more than `attend_texts` stay with a mask.
    """
    if not isinstance(backbone, PreTrainedModel) or not available(next(backbone.parameters())):
        return False
    if not backbone._supports_attention_backend:  # its attention would never ask for `_attend`
        return False
    capped = getattr(backbone.config, "attn_logit_softcapping", None) is not None
    narrow_values = getattr(backbone.config, "v_head_dim", None) is not None
    sinks = any(hasattr(part, "sinks") for part in backbone.modules())
    return not (capped or narrow_values or sinks)


@contextmanager
def attending_to(backbone: PreTrainedModel, texts: Texts) -> Iterator[None]:
    """While the block runs, ``backbone`` reads a row ``[1, T]`` as ``texts``."""
    config: Any = backbone.config
    own = config._attn_implementation
    token = _texts.set(texts)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = own
        _texts.reset(token)


def recomputing_contexts(backbone: PreTrainedModel) -> tuple[AbstractContextManager[None], ...]:
    """For `torch.utils.checkpoint`: a layer that is computed again on the way back reads the same texts."""
    texts = _texts.get(None)
    return nullcontext(), nullcontext() if texts is None else attending_to(backbone, texts)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it: query ``[1, heads, T, D]``, key and value ``[1, kv_heads, T, D]``.

    Raises:
        ValueError: what `attend_texts` does not do (dropout, capped scores, sinks, values wider than keys).
    """
    more = any(rest.get(name) is not None for name in _MORE)
    if dropout or softcap or more or query.shape[-1] != value.shape[-1] or len(query) != 1:
        raise ValueError(f"{type(module).__name__} attends in a way that cannot be done text by text")
    size, kv_heads = query.shape[-1], key.shape[1]
    qkv_TW = torch.cat([query[0], key[0], value[0]]).transpose(0, 1).flatten(1)
    scale = size**-0.5 if scaling is None else scaling
    mixed_TW = attend_texts(qkv_TW, _texts.get(), kv_heads, size, scale, sliding_window or 0)
    return mixed_TW.view(1, len(mixed_TW), -1, size), None


ALL_ATTENTION_FUNCTIONS.register(NAME, _attend)
