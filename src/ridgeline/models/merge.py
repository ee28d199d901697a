"""Merging models: formulas on one tensor at a time, and models kept on disk to be read tensor by tensor.

Everything is computed in float32. A task vector is a model minus what it was tuned from, tau = m - start.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ridgeline.models.load import LanguageModel
from ridgeline.schema.errors import UsageError

PARALLEL = 1e-4
"""Radians between two directions (or their opposites) below which an arc is a straight line."""


def linear(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_i w_i m_i with weights that add up to 1 (model soups, Wortsman et al. 2022).

    Written as m_0 + sum_i w_i (m_i - m_0), so that equal models give themselves, bit for bit. Raises
    ValueError for weights of another number or sum.
    """
    _check_weights(tensors, weights)
    if not math.isclose(sum(weights), 1, abs_tol=1e-6):
        raise ValueError(f"the weights of a linear merge add up to 1, not {sum(weights):g}.")
    return task_arithmetic(tensors[0], tensors, weights)


def task_arithmetic(start: Tensor, tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """start + sum_i lambda_i (m_i - start) (Ilharco et al. 2023); a negative weight unlearns."""
    _check_weights(tensors, weights)
    origin = start.float()
    merged = origin.clone()
    for tensor, weight in zip(tensors, weights, strict=True):
        merged += weight * (tensor.float() - origin)
    return merged


def ties(start: Tensor, tensors: Sequence[Tensor], thresholds: Sequence[float], scale: float = 1.0) -> Tensor:
    """start + scale * the disjoint mean of trimmed task vectors (Yadav et al. 2023, algorithm 1).

    Trim: entries of tau_i smaller than its threshold become 0 (``trim_threshold`` finds it over the whole
    model). Elect: the sign of the sum of what is left. Merge: the mean over the models that have this sign;
    0 where none has, or where the sum is 0.
    """
    _check_weights(tensors, thresholds)
    origin = start.float()
    trimmed = [
        _trim(tensor.float() - origin, least) for tensor, least in zip(tensors, thresholds, strict=True)
    ]
    stacked = torch.stack(trimmed)
    sign = stacked.sum(0).sign()
    agrees = (stacked.sign() == sign) & (sign != 0)
    mean = torch.where(agrees, stacked, 0.0).sum(0) / agrees.sum(0).clamp_min(1)
    return origin + scale * mean


def trim_threshold(deltas: Callable[[], Iterable[Tensor]], density: float) -> float:
    """The magnitude from which entries count among the largest share ``density`` of a task vector.

    ``deltas`` gives the tensors of the task vector and is called three times, so that none has to stay in
    memory. The result is exact: non-negative floats are in the order of their bits, of which the upper half
    is counted first and then the lower half of the bucket that the threshold is in. Entries that tie with
    the threshold are kept. Raises ValueError for a density outside (0, 1].
    """
    if not 0 < density <= 1:
        raise ValueError(f"density must lie above 0 and at most at 1, not {density}.")
    keep = max(1, round(density * sum(delta.numel() for delta in deltas())))
    upper = _counts(_bits(delta) >> 16 for delta in deltas())
    bucket, above = _nth_from_the_top(upper, keep)
    lower = _counts(bits[bits >> 16 == bucket] & 0xFFFF for bits in map(_bits, deltas()))
    last, _ = _nth_from_the_top(lower, keep - above)
    return float(torch.tensor([bucket << 16 | last], dtype=torch.int32).view(torch.float32))


def dare(
    start: Tensor, tensors: Sequence[Tensor], weights: Sequence[float], kept: Sequence[Tensor], density: float
) -> Tensor:
    """start + sum_i lambda_i kept_i tau_i / density (Yu et al. 2024): drop entries at random and rescale.

    ``kept`` are boolean tensors, True with probability ``density``; the expectation is task arithmetic.
    """
    _check_weights(tensors, weights)
    origin = start.float()
    merged = origin.clone()
    for tensor, weight, mask in zip(tensors, weights, kept, strict=True):
        merged += (weight / density) * torch.where(mask, tensor.float() - origin, 0.0)
    return merged


def random_mask(shape: torch.Size, density: float, *key: str | int) -> Tensor:
    """True with probability ``density``, independently; the same key gives the same mask."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=16).digest()
    generator = np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype=np.uint64)))
    return torch.from_numpy(generator.random(tuple(shape), dtype=np.float32) < density)


def slerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Along the arc from ``first`` (share 0) to ``second`` (share 1), each tensor as one vector.

    sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b with w the angle between them (Shoemake 1985). Where they
    are parallel, or one is zero, the straight line.
    """
    a, b = first.float(), second.float()
    norms = a.norm(), b.norm()
    if min(norms) == 0:
        return torch.lerp(a, b, share)
    u, v = a / norms[0], b / norms[1]
    # Exact for small angles too, where the arc cosine of the dot product is not.
    angle = 2 * math.atan2(float((u - v).norm()), float((u + v).norm()))
    if min(angle, math.pi - angle) < PARALLEL:
        return torch.lerp(a, b, share)
    return (math.sin((1 - share) * angle) * a + math.sin(share * angle) * b) / math.sin(angle)


@dataclass(frozen=True)
class StoredModel:
    """Parameters of a model in a file, read one at a time."""

    path: Path

    @classmethod
    def of(cls, module: nn.Module, path: Path) -> StoredModel:
        """Write the parameters of ``module`` under the names it uses itself."""
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: p.detach().contiguous() for name, p in module.named_parameters()}, path)
        return cls(path)

    def names(self) -> list[str]:
        """Of all parameters."""
        with safe_open(self.path, framework="pt") as file:
            return list(file.keys())

    def tensor(self, name: str) -> Tensor:
        """One parameter, in the format it was stored in."""
        with safe_open(self.path, framework="pt") as file:
            stored: Tensor = file.get_tensor(name)
        return stored


def check_mergeable(first: LanguageModel, other: LanguageModel, names: tuple[str, str]) -> None:
    """Refuse models whose parameters or tokens do not correspond; ``names`` are what the user calls them.

    Raises:
        UsageError: another parameter, another shape, or another meaning of a token id.
    """
    both = f"'{names[0]}' and '{names[1]}' cannot be merged"
    shapes = [{n: tuple(p.shape) for n, p in model.module.named_parameters()} for model in (first, other)]
    if lone := sorted(shapes[0].keys() ^ shapes[1].keys()):
        owner = names[0] if lone[0] in shapes[0] else names[1]
        raise UsageError(
            f"{both}: only '{owner}' has the parameter {lone[0]}; merge models of one architecture."
        )
    for name, shape in shapes[0].items():
        if shapes[1][name] != shape:
            raise UsageError(
                f"{both}: {name} has the shape {shape} in one and {shapes[1][name]} in the other; "
                "merge models of one size."
            )
    ids = [model.tokenizer.get_vocab() for model in (first, other)]
    for token in sorted(ids[0].keys() | ids[1].keys()):
        if ids[0].get(token) != ids[1].get(token):
            raise UsageError(
                f"{both}: the token {token!r} has the id {ids[0].get(token)} in one tokenizer and "
                f"{ids[1].get(token)} in the other; merge models that were tuned from one model."
            )


def _trim(delta: Tensor, least: float) -> Tensor:
    return torch.where(delta.abs() >= least, delta, 0.0)


def _bits(delta: Tensor) -> Tensor:
    return delta.float().abs().contiguous().view(torch.int32).flatten()


def _counts(parts: Iterable[Tensor]) -> Tensor:
    counts = torch.zeros(1 << 16, dtype=torch.int64)
    for part in parts:
        counts += torch.bincount(part, minlength=1 << 16)
    return counts


def _nth_from_the_top(counts: Tensor, nth: int) -> tuple[int, int]:
    """The bucket in which the ``nth`` largest entry lies, and how many entries lie in higher buckets."""
    from_above = counts.flip(0).cumsum(0)
    place = int(torch.searchsorted(from_above, nth))
    bucket = len(counts) - 1 - place
    return bucket, int(from_above[place] - counts[bucket])


def _check_weights(tensors: Sequence[Tensor], weights: Sequence[float]) -> None:
    if len(tensors) != len(weights) or not tensors:
        raise ValueError(
            f"{len(tensors)} tensors need as many weights, at least one; there are {len(weights)}."
        )
