"""Log-probs of a frozen reference on disk, addressed by content, shared by stages and runs.

An entry's name is a digest of everything that its numbers depend on: the weights, the number format, the
forward pass and the rows; see ``models.content_cache``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ridgeline.models.batch import Row, Unit
from ridgeline.models.content_cache import ContentCache, key_of
from ridgeline.models.embedded import cache_folder
from ridgeline.models.kernels.build import kernels_identity
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
    cache = ContentCache(folder or default_folder(), LIMIT)
    rows = {_digest(row): row for unit in units for row in unit}
    order = sorted(rows)
    own = engine.roles[role]
    forward = getattr(own.forward, "run", own.forward)  # of a model without its adapter: the model's own
    software = [version("ridgeline"), torch.__version__, kernels_identity(), engine.device]
    threads = torch.get_num_threads()  # sums are split among them, and rounded as they are split
    # Layers with an adapter switched off take another path, which in bfloat16 differs by hundredths of a nat.
    narrow = any(parameter.dtype == torch.bfloat16 for parameter in own.module.parameters())
    path = [type(own.forward).__name__ if narrow else "", own.packed, own.tokens_per_microbatch]
    made_by = [*software, threads, weights_digest(own.module), forward, *path]
    key = key_of([*made_by, *order])
    flat = (cache.read(key) or {}).get("logp")
    if flat is None:
        scores = engine.score(role, [[rows[name]] for name in order])
        flat = np.concatenate([score["logp"] for score in scores]).astype(np.float32)
        if np.isfinite(flat).all():
            cache.write(key, {"logp": flat})
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
    return key_of([row.ids.tobytes(), row.targets.tobytes()])
