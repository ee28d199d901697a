"""Log-probs of a frozen reference on disk, addressed by content, shared by stages and runs.

An entry's name is a digest of everything that its numbers depend on: the weights, the number format, the
forward pass and the rows. So an entry cannot be stale, whoever wrote it; one that is damaged is made anew.
Files are written aside and renamed, so that concurrent writers leave one whole entry.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import nn

from ridgeline.models.batch import Row, Unit
from ridgeline.models.embedded import cache_folder
from ridgeline.training.local import LocalEngine

LIMIT = 4 * 2**30
"""Bytes that the cache may hold; the entries that were used longest ago go first."""


def reference_logprobs(
    engine: LocalEngine, role: str, units: Sequence[Unit], *, folder: Path | None = None
) -> list[npt.NDArray[np.float32]]:
    """Log-probs per scored token ``[N]`` (nats) of every row of ``units`` under the frozen ``role``.

    Read from the cache where they are there, computed in one pass and kept otherwise. What a row gets does
    not depend on how rows were split into training and held-out ones: the entry covers all of them.
    """
    folder = folder or default_folder()
    rows = {_digest(row): row for unit in units for row in unit}
    order = sorted(rows)
    own = engine.roles[role]
    forward = getattr(own.forward, "run", own.forward)  # of a model without its adapter: the model's own
    software = [version("ridgeline"), torch.__version__, engine.device]
    made_by = [*software, weights_digest(own.module), forward, own.packed]
    key = _key([*made_by, *order])
    path = folder / f"{key}.safetensors"
    flat = _read(path, sum(len(rows[name].targets) for name in order))
    if flat is None:
        scores = engine.score(role, [[rows[name]] for name in order])
        flat = np.concatenate([score["logp"] for score in scores]).astype(np.float32)
        _write(path, flat)
        _evict(folder)
    ends = np.cumsum([len(rows[name].targets) for name in order])
    found = dict(zip(order, np.split(flat, ends[:-1]), strict=True))
    return [found[_digest(row)] for unit in units for row in unit]


def default_folder() -> Path:
    """Beside the converted embedded model."""
    return cache_folder() / "logprobs"


@torch.no_grad()
def weights_digest(module: nn.Module) -> str:
    """A digest of every parameter and buffer of ``module``, by name (about a second per GB).

    Adapters are left out and leave no trace in the names: a frozen reference is read without them.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in module.state_dict().items():
        if "lora_" in name:
            continue
        plain = name.replace(".base_layer", "")
        digest.update(f"{plain}:{tensor.dtype}:{list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _digest(row: Row) -> str:
    return _key([row.ids.tobytes(), row.targets.tobytes()])


def _key(parts: Iterable[object]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _read(path: Path, tokens: int) -> npt.NDArray[np.float32] | None:
    """The entry, or None when there is none or it is damaged."""
    try:
        flat: npt.NDArray[np.float32] = load_file(path)["logp"]
    except (OSError, SafetensorError, KeyError):
        return None
    if flat.shape != (tokens,) or not np.isfinite(flat).all():
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return flat


def _write(path: Path, flat: npt.NDArray[np.float32]) -> None:
    """A cache that cannot be written (a full disk, no permission) costs time later, never the run."""
    with contextlib.suppress(OSError, SafetensorError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)
        os.close(handle)
        try:
            save_file({"logp": flat}, aside)
            Path(aside).replace(path)
        finally:
            Path(aside).unlink(missing_ok=True)


def _evict(folder: Path) -> None:
    with contextlib.suppress(OSError):
        entries = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
        held = sum(path.stat().st_size for path in entries)
        while held > LIMIT and entries:
            oldest = entries.pop(0)
            held -= oldest.stat().st_size
            oldest.unlink()
