"""Models to time: any that Ridgeline loads, and random ones of other sizes, made when they are asked for."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from ridgeline.models.embedded import EMBEDDED_NAME, cache_folder, embedded_folder
from ridgeline.schema.errors import UsageError, nearest

RANDOM: dict[str, dict[str, int]] = {
    "45m-random": {
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_hidden_layers": 16,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
    },
    "360m-random": {
        "hidden_size": 960,
        "intermediate_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 15,
        "num_key_value_heads": 5,
    },
}
"""Llamas with random weights and the embedded model's tokenizer; the second has the shape of SmolLM2-360M."""


def model_folder(name: str) -> Path:
    """A Hugging Face folder for ``name``: the embedded model, one of ``RANDOM``, or a folder as it is.

    Raises:
        UsageError: none of these.
    """
    if name.lower() == EMBEDDED_NAME:
        return embedded_folder()
    if name in RANDOM:
        folder = cache_folder() / "bench" / "models" / name
        if not (folder / "config.json").is_file():
            _make(RANDOM[name], folder)
        return folder
    folder = Path(name)
    if (folder / "config.json").is_file():
        return folder.resolve()
    valid = [EMBEDDED_NAME, *RANDOM]
    raise UsageError(f"--model {name} is not a folder with a model; {nearest(name, valid)}")


def _make(shape: dict[str, Any], folder: Path) -> None:
    """Written aside and renamed, so that nobody meets half a model."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from ridgeline.models.load import load_tokenizer
    from ridgeline.models.quiet import quiet_transformers

    with quiet_transformers():
        config = AutoConfig.from_pretrained(embedded_folder())
        config.update({**shape, "head_dim": shape["hidden_size"] // shape["num_attention_heads"]})
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            model.save_pretrained(aside)
            load_tokenizer(EMBEDDED_NAME).save_pretrained(aside)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
