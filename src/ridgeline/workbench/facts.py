"""Sizes of a model without its weights, and of data without training on it. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from ridgeline.data import formats
from ridgeline.data.chat import apply_template, encode_conversations, encode_prompts
from ridgeline.data.sources import read_rows
from ridgeline.models.embedded import EMBEDDED_NAME
from ridgeline.models.load import load_tokenizer, model_config
from ridgeline.models.quiet import quiet_transformers
from ridgeline.schema.errors import UsageError
from ridgeline.schema.records import Message

LOOKED_AT = 200
"""Rows that are tokenised to learn a mean length."""


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

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def model_facts(name: str) -> ModelFacts:
    """Facts of ``name`` (see ``models.load.load_model``).

    Raises:
        UsageError: the model is not on this machine, or its configuration names no layers.
    """
    config = _local_config(name)
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
    )


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


@dataclass(frozen=True)
class DataFacts:
    """Rows of a source and the mean length of what a stage makes of one (tokens)."""

    rows: int
    tokens: float
    counted: bool = True
    """False where the source is not on this machine and the numbers are assumptions."""


ASSUMED = {"instruction": DataFacts(1000, 256.0, False), "prompt": DataFacts(200, 32.0, False)}
ASSUMED["preference"] = DataFacts(1000, 256.0, False)


def data_facts(source: str, kind: str, tokenizer: PreTrainedTokenizerBase) -> DataFacts:
    """Count ``source`` as ``instruction``, ``prompt`` or ``preference`` rows.

    Raises:
        UsageError, DataError: a local file that is missing or wrong.
    """
    if not Path(source).exists() and not Path(source).suffix:
        return ASSUMED[kind]
    rows = read_rows(source)
    part = rows[:LOOKED_AT]
    if kind == "prompt":
        lengths = [len(ids) for ids in encode_prompts(tokenizer, _messages(formats.prompts(part, source)))]
    elif kind == "instruction":
        items = _messages(formats.instructions(part, source))
        lengths = [len(item.ids) for item in encode_conversations(tokenizer, items)]
    else:
        sides = [
            [*pair.prompt, Message("assistant", text)]
            for pair in formats.preferences(part, source)
            for text in (pair.chosen, pair.rejected)
        ]
        lengths = [len(item.ids) for item in encode_conversations(tokenizer, sides, "last")]
    return DataFacts(len(rows), sum(lengths) / len(lengths))


def _messages(items: Sequence[Any]) -> list[list[Message]]:
    return [item.messages for item in items]
