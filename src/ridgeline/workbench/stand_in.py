"""Small stand-ins of a model: its configuration with few layers, random weights, ready to be measured."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.initialization import no_init_weights

from ridgeline.models.quiet import quiet_transformers
from ridgeline.schema.stages.common import Adapter
from ridgeline.workbench.facts import ModelFacts

FEW = 1
"""Layers of the smallest stand-in."""
SMALL_VOCABULARY = 1024
"""With it the head costs next to nothing, so that layers are seen by themselves."""
_LAYER_PARAMETERS = 3e7
"""Parameters in the layers of the larger stand-in: enough that layers outweigh noise."""
_LEAST_VOCABULARY, _SMALL_INTERMEDIATE = 8 * SMALL_VOCABULARY, 256
"""How far parts are made smaller where there is no room; a smaller head would vanish beside a layer."""
_BLOCK = 4099
"""Random numbers that fill the weights, again and again; a prime, so that rows differ."""


class StandIns:
    """Stand-ins of one model, made when asked for: few layers, or more, a small vocabulary, or all of it.

    ``room`` (bytes; None: unknown) bounds what all of them hold with their gradients. Where the model's own
    sizes do not fit, the vocabulary and then the feed-forward part are made smaller, and ``layer_scale`` and
    ``head_scale`` say how many times more operations the model has.
    """

    def __init__(
        self, facts: ModelFacts, *, device: torch.device, dtype: torch.dtype, room: float | None
    ) -> None:
        self.facts, self.device, self.dtype = facts, device, dtype
        self.more = min(facts.layers, max(FEW + 1, round(_LAYER_PARAMETERS / facts.per_layer)))
        self.vocabulary, self.intermediate = facts.vocabulary, facts.intermediate
        self.small = min(facts.vocabulary, SMALL_VOCABULARY)
        self._made: dict[tuple[int, int, str], PreTrainedModel] = {}
        least = min(facts.vocabulary, _LEAST_VOCABULARY)
        while room is not None and self._bytes() > room and self.vocabulary > least:
            self.vocabulary = max(least, self.vocabulary // 2)
        while room is not None and self._bytes() > room and self.intermediate > _SMALL_INTERMEDIATE:
            self.intermediate //= 2

    def _layer_parameters(self) -> float:
        """The gate, up and down products of a dense layer are what a smaller feed-forward part saves."""
        saved = 3.0 * self.facts.hidden * (self.facts.intermediate - self.intermediate)
        return max(self.facts.per_layer - saved, 0.1 * self.facts.per_layer)

    def _bytes(self) -> float:
        """Weights and gradients of the three stand-ins that are timed."""
        embeddings = self.facts.embeddings * self.vocabulary / self.facts.vocabulary
        weights = (2 * FEW + self.more) * self._layer_parameters() + embeddings
        return 2.0 * weights * torch.finfo(self.dtype).bits // 8

    @property
    def layer_scale(self) -> float:
        return self.facts.per_layer / self._layer_parameters()

    @property
    def head_scale(self) -> float:
        return self.facts.vocabulary / self.vocabulary

    @property
    def is_smaller(self) -> bool:
        """Whether a part of a layer or of the head had to be made smaller."""
        return self.vocabulary < self.facts.vocabulary or self.intermediate < self.facts.intermediate

    def get(self, layers: int, vocabulary: int, adapter: Adapter | None = None) -> PreTrainedModel:
        """The stand-in of these sizes; with ``adapter`` only that one learns."""
        key = (layers, vocabulary, "" if adapter is None else adapter.model_dump_json())
        if key not in self._made:
            module = self._make(layers, vocabulary)
            if adapter is not None:
                from ridgeline.models.adapters import add_adapter

                add_adapter(module, adapter, seed=0)
            self._made[key] = module
        return self._made[key]

    def _make(self, layers: int, vocabulary: int) -> PreTrainedModel:
        config: Any = copy.deepcopy(self.facts.config)
        text = config.get_text_config()
        if getattr(text, "layer_types", None):
            text.layer_types = list(text.layer_types)[:layers]
        text.num_hidden_layers, text.vocab_size = layers, vocabulary
        text.pad_token_id = None
        if self.intermediate < self.facts.intermediate:
            text.intermediate_size = self.intermediate
        with quiet_transformers(), no_init_weights(), torch.device(self.device):
            module: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=self.dtype)
        module.tie_weights()
        _fill(module)
        module.eval()
        for part in module.modules():
            if isinstance(part, nn.Embedding):
                part.padding_idx = None
        return module


@torch.no_grad()
def _fill(module: nn.Module) -> None:
    """Random weights at the speed of memory; those of norms are 1."""
    block = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(0)) * 0.02
    for parameter in module.parameters():
        if parameter.ndim < 2:
            parameter.fill_(1.0)
            continue
        own = block.to(parameter.device, parameter.dtype)
        flat = parameter.view(-1)
        whole = len(flat) // _BLOCK * _BLOCK
        flat[:whole].view(-1, _BLOCK).copy_(own)
        flat[whole:].copy_(own[: len(flat) - whole])
