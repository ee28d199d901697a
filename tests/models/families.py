"""Tiny random models of many architectures, and units of unequal rows for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from ridgeline.models.batch import Row, Unit, completion_row

VOCABULARY = 61
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}

CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**_SHAPE, tie_word_embeddings=True),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.2,
    ),
    "qwen2": lambda: Qwen2Config(**_SHAPE),
    "qwen3": lambda: Qwen3Config(**_SHAPE, head_dim=8),
    "smollm3": lambda: SmolLM3Config(**_SHAPE, no_rope_layers=[1, 0]),
    "gemma3": lambda: Gemma3TextConfig(**_SHAPE, head_dim=8, sliding_window=32),
    "mistral": lambda: MistralConfig(**_SHAPE, sliding_window=32),
    "olmo2": lambda: Olmo2Config(**_SHAPE),
    "phi3": lambda: Phi3Config(**_SHAPE),
    "gemma2": lambda: Gemma2Config(**_SHAPE, head_dim=8, sliding_window=32, final_logit_softcapping=3.0),
    "granite": lambda: GraniteConfig(**_SHAPE, logits_scaling=5.0),
    "cohere": lambda: CohereConfig(**_SHAPE, logit_scale=0.25),
}
FAMILIES = list(CONFIGS)


def make_model(
    family: str, dtype: torch.dtype = torch.float32, seed: int = 0, **changes: Any
) -> PreTrainedModel:
    """A random model in evaluation mode; the same bytes for the same arguments."""
    config = CONFIGS[family]()
    for key, value in changes.items():
        setattr(config, key, value)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval()


@contextmanager
def pure_float64() -> Iterator[None]:
    """Keep a float64 model float64 inside: transformers' norms otherwise round through float32.

    Without it float64 comparisons can only be held to about 1e-7, which would hide small leaks.
    """
    plain_to, plain_float = torch.Tensor.to, torch.Tensor.float

    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        wanted = args[0] if args else kwargs.get("dtype")
        if self.dtype == torch.float64 and wanted is torch.float32:
            return self
        return plain_to(self, *args, **kwargs)

    def wide(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self if self.dtype == torch.float64 else plain_float(self, *args, **kwargs)

    torch.Tensor.to, torch.Tensor.float = to, wide  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.to, torch.Tensor.float = plain_to, plain_float  # type: ignore[method-assign]


def ids(length: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(2, VOCABULARY, length).tolist()


def group(prompt: int, completions: Sequence[int], seed: int) -> Unit:
    """A unit of completions of one prompt."""
    prompt_ids = ids(prompt, seed)
    return [completion_row(prompt_ids, ids(n, seed + 100 + i)) for i, n in enumerate(completions)]


def conversation(length: int, targets: Sequence[int], seed: int) -> Unit:
    """A unit of one row with scored positions here and there, as in a dialogue of several turns."""
    return [Row(np.asarray(ids(length, seed)), np.asarray(targets, dtype=np.int64))]


def mixed_units() -> list[Unit]:
    """Groups, pairs, dialogues, one-token completions, a one-token prompt; no two of one length."""
    return [
        group(5, [3, 1, 6], 1),
        conversation(11, [2, 3, 7, 10], 2),
        group(9, [2, 8], 3),
        group(1, [4], 4),
        group(4, [1, 1], 5),
        conversation(6, [5], 6),
    ]
