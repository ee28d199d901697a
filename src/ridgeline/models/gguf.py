"""GGUF files, read through transformers."""

from __future__ import annotations

import contextlib
import copy
import io
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ridgeline.models.quiet import quiet_transformers
from ridgeline.schema.errors import UsageError


def load_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A GGUF file as float32 model and tokenizer, free of any trace of quantisation in its config."""
    path = existing_gguf(path)
    # The conversion draws its own progress bar, whatever transformers is told.
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        folder, file = str(path.parent), path.name
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
        packed = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=file, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
        config = copy.deepcopy(packed.config)
        if getattr(config, "quantization_config", None) is not None:
            del config.quantization_config
        module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        module.load_state_dict(packed.state_dict())
        module.tie_weights()
        module.generation_config = packed.generation_config
    return module, tokenizer


def existing_gguf(path: Path) -> Path:
    """``path``, or a UsageError when there is no such file."""
    if not path.is_file():
        raise UsageError(f"there is no model file {path}; check the path.")
    return path
