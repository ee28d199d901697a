"""Load and save causal language models in Hugging Face format."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    modeling_utils,
)

if TYPE_CHECKING:
    from peft import PeftModel

from ridgeline.models.embedded import EMBEDDED_NAME, embedded_folder
from ridgeline.models.gguf import existing_gguf, load_gguf
from ridgeline.models.quiet import quiet_transformers
from ridgeline.schema.errors import UsageError, nearest


@dataclass
class LanguageModel:
    """A causal language model and its tokenizer; ``adapter`` is peft's handle on an adapter in the module."""

    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    adapter: PeftModel | None = None

    def save(self, folder: str | Path) -> None:
        """Write a folder that ``transformers`` reloads to identical logits."""
        with quiet_transformers():
            self.module.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

    def snapshot(self) -> LanguageModel:
        """A frozen copy of the weights as they are now (not of the path they were loaded from)."""
        module = copy.deepcopy(self.module).requires_grad_(False)
        return LanguageModel(module, self.tokenizer, f"snapshot of {self.source}")


def load_model(
    name: str,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> LanguageModel:
    """Load ``name``: the embedded model's name, a folder, a ``.gguf`` file or a hub id.

    The module comes back in evaluation mode (dropout off, also while training) and without a padding index in
    its embedding: with pad = eos that index would silently cut the gradient of the stop token.

    Raises:
        UsageError: nothing of that name can be loaded, or the folder has no tokenizer.
    """
    with quiet_transformers():
        if name.lower().endswith(".gguf"):
            module, tokenizer = load_gguf(Path(name))
        else:
            folder = str(embedded_folder()) if name.lower() == EMBEDDED_NAME else name
            module, tokenizer = _load_folder(folder, name, dtype)
    nn.Module.to(module, device=torch.device(device))
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)  # not buffers: the frequencies of rotations are float32
    module.eval()
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            part.padding_idx = None
    return LanguageModel(module, tokenizer, name)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Only the tokenizer of ``name`` (the same names as ``load_model``)."""
    with quiet_transformers():
        if name.lower().endswith(".gguf"):
            path = existing_gguf(Path(name))
            return AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
        folder = str(embedded_folder()) if name.lower() == EMBEDDED_NAME else name
        _check_exists(folder)
        return _load_tokenizer(folder, name)


def _load_folder(
    folder: str, name: str, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    _check_exists(folder)
    tokenizer = _load_tokenizer(folder, name)
    return load_weights(AutoModelForCausalLM, folder, name, dtype), tokenizer


def load_weights(
    kind: type[AutoModel] | type[AutoModelForCausalLM], folder: str, name: str, dtype: torch.dtype
) -> PreTrainedModel:
    """``kind.from_pretrained`` that refuses what transformers would fill in with random numbers.

    Raises:
        UsageError: damaged, missing or misshapen weights, or an unknown architecture.
    """
    try:
        with _weights_read_one_by_one():
            loaded: Any = kind.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UsageError(f"cannot load the model '{name}': {_first_line(error)}") from error
    module: PreTrainedModel = loaded[0]
    if missing := sorted(loaded[1]["missing_keys"]):
        raise UsageError(
            f"cannot load the model '{name}': {len(missing)} of its weights are not in its files, "
            f"the first is {missing[0]}; save it again, or check that it is a causal language model."
        )
    return module


_ONE_THREAD = "HF_DEACTIVATE_ASYNC_LOAD"
"""The variable that keeps transformers from reading with several threads."""


@contextmanager
def _weights_read_one_by_one() -> Iterator[None]:
    """Inside, transformers reads one weight after the other from its file, and does not map it into memory.

    A mapped file is resident beside what it is converted to: 540 MB of float32 beside 270 of bfloat16. And
    what threads of their own read lies in heaps of their own, which are not laid out in huge pages
    (`training.allocator`).
    """
    module: Any = modeling_utils
    mapped, threads = module.safe_open, os.environ.get(_ONE_THREAD)

    def read(*arguments: Any, **options: Any) -> Any:
        return safe_open(*arguments, **{**options, "backend": "pread"})

    module.safe_open = read
    os.environ[_ONE_THREAD] = "1"
    try:
        yield
    finally:
        module.safe_open = mapped
        os.environ.pop(_ONE_THREAD)
        if threads is not None:
            os.environ[_ONE_THREAD] = threads


def _load_tokenizer(folder: str, name: str) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if Path(folder).is_dir():
            raise UsageError(
                f"the model folder {folder} has no tokenizer; save one into it (tokenizer.save_pretrained)."
            ) from error
        raise UsageError(f"cannot load the tokenizer of '{name}': {_first_line(error)}") from error


def _check_exists(folder: str) -> None:
    """A path that is not there is answered here; anything else may be a hub id."""
    path = Path(folder)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UsageError(f"{folder} is not a model folder: it has no config.json.")
        return
    looks_like_path = folder.startswith((".", "/", "~")) or folder.count("/") > 1 or os.sep != "/"
    if looks_like_path:
        raise UsageError(f"there is no model folder {folder}; check the path.")
    if "/" not in folder:
        raise UsageError(f"unknown model '{folder}'; {nearest(folder, [EMBEDDED_NAME])}")


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    line = text.splitlines()[0] if text else type(error).__name__
    return line if line.endswith((".", "?")) else f"{line}."


def model_config(name: str) -> Any:
    """The configuration of ``name`` without its weights, for estimates."""
    with quiet_transformers():
        if name.lower().endswith(".gguf"):
            path = existing_gguf(Path(name))
            return AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name)
        folder = str(embedded_folder()) if name.lower() == EMBEDDED_NAME else name
        _check_exists(folder)
        try:
            return AutoConfig.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot load the model '{name}': {_first_line(error)}") from error
