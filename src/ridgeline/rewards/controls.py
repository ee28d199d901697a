"""Rewards that say nothing about quality: for monitoring, and as controls."""

from __future__ import annotations

import hashlib
import json

from ridgeline.schema.records import Sample

COIN_SHARE = 0.25


def length(samples: list[Sample]) -> list[float | None]:
    """Completion tokens, the stop token included."""
    return [float(len(sample.completion_ids)) for sample in samples]


def random_coin(samples: list[Sample]) -> list[float | None]:
    """1 with probability ``COIN_SHARE``, else 0: the control in which nothing can be learned.

    The coin is a hash of prompt id, sample index, text and weight version, so it is the same wherever and
    whenever it is tossed. The weight version is in it since a coin fixed for a text would be learnable.
    """
    return [float(_uniform(sample) < COIN_SHARE) for sample in samples]


def _uniform(sample: Sample) -> float:
    key = json.dumps([sample.prompt_id, sample.index, sample.text, sample.weight_version])
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest(), "little") / 2**56
