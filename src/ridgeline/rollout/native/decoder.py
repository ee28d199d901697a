"""One token of many completions at a time: packed products, fused kernels, and pages of keys and values.

A prompt is read once, by the pass that training uses where it can, and its keys and values are shared by all
of its completions; each completion has a page of its own for what it has written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from ridgeline.models import kernels
from ridgeline.models.architecture import Body, Layer, Norm, architecture_of
from ridgeline.models.body import fused_body, read, rotary_angles
from ridgeline.models.forward import head_logits
from ridgeline.models.kernels.pages import Pages
from ridgeline.models.kernels.texts import Texts
from ridgeline.models.kernels.tile_pages import TilePages
from ridgeline.rollout.native.weights import LayerProducts, Weights
from ridgeline.rollout.native.whole_step import WholeStep, fits


@dataclass
class Rows:
    """What a step reads, a row per completion, ``[B]`` int64 each.

    tokens: to read now. prompts, slots: pages. prompt_lengths: tokens of the prompt. written: tokens of the
    completion that were read before this one, which is the place of this one in its page.
    """

    tokens: torch.Tensor
    prompts: torch.Tensor
    slots: torch.Tensor
    prompt_lengths: torch.Tensor
    written: torch.Tensor


class NativeDecoder:
    """Decodes ``module``, whose weights may change between steps once `Weights.refresh` is called.

    Raises:
        Unsupported: the module is not of a family that this decoder knows.
    """

    def __init__(self, module: PreTrainedModel) -> None:
        self.module = module
        architecture = architecture_of(module)
        self.body = architecture.body
        self.weights = Weights(architecture, tiles=fits(self.body, module.dtype))
        # A page per prompt and per completion, a list per layer: TilePages with weights in tiles, else Pages.
        self.prompts: list[Any] = []
        self.own: list[Any] = []
        self.whole: WholeStep | None = None

    def reserve(self, prompts: int, prompt_tokens: int, slots: int, new_tokens: int) -> None:
        """Pages for so many prompts and completions; what they held is forgotten."""
        body, layers = self.body, len(self.body.layers)
        self.prompts, self.own, self.whole = [], [], None  # before there are others

        def pages(count: int, capacity: int) -> list[Any]:
            if self.weights.tiles:
                return TilePages.of_layers(layers, count, body.kv_heads, capacity, body.size)
            room = (count, body.kv_heads, capacity, body.size, self.module.dtype)
            return [Pages.empty(*room) for _ in body.layers]

        self.prompts, self.own = pages(prompts, prompt_tokens), pages(slots, new_tokens)

    @torch.no_grad()
    def prefill(self, prompts: Sequence[Sequence[int]], pages: Sequence[int]) -> torch.Tensor:
        """Read whole prompts into ``pages``; logits ``[P, V]`` of their first new token."""
        body = fused_body(self.module.base_model)
        hidden_PH = self._read_padded(prompts, pages) if body is None else self._read(body, prompts, pages)
        return head_logits(self.module, hidden_PH)

    def _read(self, body: Body, prompts: Sequence[Sequence[int]], pages: Sequence[int]) -> torch.Tensor:
        """End to end, by the pass that training uses; the last hidden states ``[P, H]``."""
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        starts = lengths.cumsum(0) - lengths
        spans = np.zeros((len(prompts), 4), dtype=np.int64)
        spans[:, 0], spans[:, 1] = starts, lengths
        texts = Texts(spans, np.arange(len(prompts) + 1))
        ids_T = torch.tensor([token for prompt in prompts for token in prompt])
        positions_T = torch.cat([torch.arange(len(prompt)) for prompt in prompts])
        layers = iter(self.prompts)

        def keep(qkv_TW: torch.Tensor) -> None:
            next(layers).write_texts(qkv_TW, texts, pages)

        hidden_TH = read(body, ids_T, positions_T, texts, keep)
        return hidden_TH[starts + lengths - 1]

    def _read_padded(self, prompts: Sequence[Sequence[int]], pages: Sequence[int]) -> torch.Tensor:
        """By transformers' own forward pass, where there is an adapter, say; as `_read`."""
        width = max(len(prompt) for prompt in prompts)
        ids_PT = torch.zeros(len(prompts), width, dtype=torch.long)
        visible_PT = torch.zeros_like(ids_PT)
        for line, prompt in enumerate(prompts):
            ids_PT[line, width - len(prompt) :] = torch.tensor(prompt)
            visible_PT[line, width - len(prompt) :] = 1
        cache = DynamicCache()
        hidden_PTH = self.module.base_model(
            input_ids=ids_PT,
            attention_mask=visible_PT,
            position_ids=(visible_PT.cumsum(-1) - 1).clamp_min(0),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        for target, part in zip(self.prompts, cache.layers, strict=True):
            filled: Any = part
            for line, (prompt, page) in enumerate(zip(prompts, pages, strict=True)):
                start = width - len(prompt)
                target.write(page, filled.keys[line, :, start:], filled.values[line, :, start:])
        last: torch.Tensor = hidden_PTH[:, -1]
        return last

    @torch.no_grad()
    def step(self, rows: Rows) -> torch.Tensor:
        """Read one token of each row; logits ``[B, V]`` of the next."""
        shape = self.body
        stream_BH: torch.Tensor = shape.embedding(rows.tokens)
        angles = rotary_angles(self.body, rows.prompt_lengths + rows.written)
        if self.weights.tiles:
            if self.whole is None or self.whole.version != self.weights.version:
                self.whole = WholeStep(shape, self.weights, self.prompts, self.own)
            return self.whole(
                stream_BH, angles, (rows.prompts, rows.prompt_lengths, rows.slots, rows.written)
            )
        delta_BH: torch.Tensor | None = None
        for layer, products, prompt, own in zip(
            shape.layers, self.weights.layers, self.prompts, self.own, strict=True
        ):
            x_BH, stream_BH = _enter(stream_BH, delta_BH, layer.before_attention)
            mixed_BH = self._attention(x_BH, layer, products, angles, prompt, own, rows)
            delta_BH = _norm(mixed_BH, layer.after_attention)
            x_BH, stream_BH = _enter(stream_BH, delta_BH, layer.before_mlp)
            opened_BI = kernels.gate(products.gate_up(x_BH), shape.activation)
            delta_BH = _norm(products.down(opened_BI), layer.after_mlp)
        last_BH, _ = _enter(stream_BH, delta_BH, shape.last_norm)
        return self.weights.head(last_BH)

    def _attention(
        self,
        x_BH: torch.Tensor,
        layer: Layer,
        products: LayerProducts,
        angles: dict[str, tuple[torch.Tensor, torch.Tensor]],
        prompt: Pages,
        own: Pages,
        rows: Rows,
    ) -> torch.Tensor:
        qkv_BW = products.queries_keys_values(x_BH)
        heads, size = self.body.heads, own.size
        for norm, start, count in (
            (layer.query_norm, 0, heads),
            (layer.key_norm, heads * size, own.kv_heads),
        ):
            if norm is not None:
                weight = norm.module.weight
                assert isinstance(weight, torch.Tensor)
                pieces = count * size // len(weight)
                kernels.norm_heads(qkv_BW, start, pieces, weight, norm.eps, offset=norm.offset)
        cosine, sine = (None, None) if layer.angles is None else angles[layer.angles]
        kernels.rotate_and_store(qkv_BW, cosine, sine, own, rows.slots, rows.written)
        mixed_BW = kernels.attend(
            qkv_BW,
            prompt,
            own,
            rows.prompts,
            rows.prompt_lengths,
            rows.slots,
            rows.written + 1,
            scale=layer.scale,
            window=layer.window,
        )
        return products.out(mixed_BW)


def _enter(
    stream_BH: torch.Tensor, delta_BH: torch.Tensor | None, norm: Norm | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The stream with ``delta`` taken in, and what the next part reads of it."""
    if norm is None:
        stream_BH = stream_BH if delta_BH is None else stream_BH + delta_BH
        return stream_BH, stream_BH
    weight = norm.module.weight
    assert isinstance(weight, torch.Tensor)
    # In place: the stream belongs to this step (an embedding lookup makes a new tensor).
    return kernels.rms_norm(stream_BH, weight, norm.eps, delta=delta_BH, offset=norm.offset), stream_BH


def _norm(x_BH: torch.Tensor, norm: Norm | None) -> torch.Tensor:
    return x_BH if norm is None else _enter(x_BH, None, norm)[0]
