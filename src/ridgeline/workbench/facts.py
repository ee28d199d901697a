"""Sizes of a model without its weights. Nothing is downloaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from ridgeline.data.template import apply_template
from ridgeline.models.architecture import Unsupported, architecture_of
from ridgeline.models.embedded import EMBEDDED_NAME
from ridgeline.models.load import load_tokenizer, model_config
from ridgeline.models.quiet import quiet_transformers
from ridgeline.rollout.native.whole_step import fits
from ridgeline.schema.errors import UsageError
from ridgeline.schema.stages.common import Adapter


@dataclass(frozen=True)
class ModelFacts:
    """Shapes of a causal language model; counts are numbers of parameters."""

    parameters: int
    embeddings: int
    layers: int
    hidden: int
    intermediate: int
    kv_width: int
    vocabulary: int
    linears: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    """Inputs and outputs of every linear layer but the head, by name: what an adapter may be put into."""
    config: Any = field(default=None, repr=False, compare=False)
    """Its configuration, as transformers has it."""
    native: bool = False
    """Whether the native sampler knows its architecture."""
    in_place: bool = False
    """Whether that sampler reads weights in bfloat16 where they lie, on this machine."""

    @property
    def per_layer(self) -> float:
        return (self.parameters - self.embeddings) / self.layers

    def backbone(self, layers: int | None = None) -> float:
        """Parameters of the first ``layers`` layers with the input embedding."""
        return self.vocabulary * self.hidden + self.per_layer * (layers or self.layers)

    def token_operations(self, layers: int | None = None) -> float:
        """Floating-point operations of one token through the layers, forward; attention is left out."""
        return 2.0 * self.per_layer * (layers or self.layers)

    @property
    def head_operations(self) -> float:
        """The same for the logits of one position."""
        return 2.0 * self.vocabulary * self.hidden

    def adapter_parameters(self, adapter: Adapter) -> int:
        """Parameters that learn: two factors a layer, and with DoRA the length of every output's weights."""
        chosen = self._targets(adapter)
        lengths = sum(outputs for _, outputs in chosen) if adapter.kind == "dora" else 0
        return lengths + sum(adapter.rank * (inputs + outputs) for inputs, outputs in chosen)

    def adapted_weights(self, adapter: Adapter) -> int:
        """Weights of the layers that it is put into."""
        return sum(inputs * outputs for inputs, outputs in self._targets(adapter))

    def _targets(self, adapter: Adapter) -> list[tuple[int, int]]:
        return [sizes for name, sizes in self.linears.items() if _is_target(name, adapter.targets)]

    def as_dict(self) -> dict[str, int]:
        counts = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in counts.items() if type(value) is int}


def _is_target(name: str, targets: str | list[str]) -> bool:
    """As peft chooses: all, by a pattern of the whole name, or by the name or its last parts."""
    if isinstance(targets, str):
        return targets == "all-linear" or re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def model_facts(name: str) -> ModelFacts:
    """Facts of ``name`` (see ``models.load.load_model``).

    Raises:
        UsageError: the model is not on this machine, or its configuration names no layers.
    """
    return facts_of(_local_config(name))


def facts_of(config: Any) -> ModelFacts:
    """Facts of the causal language model of ``config``."""
    text = config.get_text_config()
    with torch.device("meta"), quiet_transformers():
        module = AutoModelForCausalLM.from_config(config)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    tied = module.get_input_embeddings().weight is module.get_output_embeddings().weight
    embedding = int(text.vocab_size) * int(text.hidden_size)
    heads = int(text.num_attention_heads)
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return ModelFacts(
        parameters=parameters,
        embeddings=embedding if tied else 2 * embedding,
        layers=int(text.num_hidden_layers),
        hidden=int(text.hidden_size),
        intermediate=int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size),
        kv_width=int(getattr(text, "num_key_value_heads", None) or heads) * int(width),
        vocabulary=int(text.vocab_size),
        linears=_linears(module),
        config=config,
        **_sampled(module),
    )


def _sampled(module: Any) -> dict[str, bool]:
    """How the native sampler takes it."""
    try:
        body = architecture_of(module).body
    except Unsupported:
        return {}
    return {"native": True, "in_place": fits(body, torch.bfloat16)}


def _linears(module: Any) -> dict[str, tuple[int, int]]:
    head = module.get_output_embeddings()
    found = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear | Conv1D) and layer is not head:
            sizes = [int(size) for size in layer.weight.shape]
            found[name] = (sizes[0], sizes[1]) if isinstance(layer, Conv1D) else (sizes[1], sizes[0])
    return found


def is_on_hub(name: str) -> bool:
    """Whether ``name`` can only be a hub id."""
    local = name.lower() == EMBEDDED_NAME or name.lower().endswith(".gguf") or Path(name).exists()
    return not local and name.count("/") == 1


def _local_config(name: str) -> Any:
    if not is_on_hub(name):
        return model_config(name)
    try:
        with quiet_transformers():
            return AutoConfig.from_pretrained(name, local_files_only=True)
    except (OSError, ValueError):
        raise UsageError(
            f"the model '{name}' is not on this machine, and a plan downloads nothing; "
            "run it once, or name a folder."
        ) from None


def local_tokenizer(name: str, template: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer of ``name`` with its chat template, from this machine only."""
    if is_on_hub(name):
        with quiet_transformers():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, local_files_only=True)
    else:
        tokenizer = load_tokenizer(name)
    apply_template(tokenizer, template)
    return tokenizer
