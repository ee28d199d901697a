"""Random numbers as a pure function of what they are for.

Every token's draw is keyed by (seed, step, prompt, sample, position), so neither the order of slots nor the
composition of a batch changes it, and nothing about it has to be saved for an exact resume.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

UInt64Array = npt.NDArray[np.uint64]


def text_key(text: str) -> int:
    """A stable 64-bit number for a prompt id."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def stream_keys(seed: int, step: int, prompts: list[str], samples: list[int]) -> UInt64Array:
    """One 64-bit stream per completion, ``[B]``."""
    prompt_B = np.array([text_key(prompt) for prompt in prompts], dtype=np.uint64)
    sample_B = np.array(samples, dtype=np.uint64)
    key_B = _mix(np.full_like(prompt_B, seed))
    for part in (np.uint64(step), prompt_B, sample_B):
        key_B = _mix(key_B ^ _mix(part + np.uint64(0x632BE59BD9B4E019)))
    return key_B


def uniforms(streams: UInt64Array, position: int | npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Uniform in [0, 1) with 53 random bits, one per stream, for token ``position`` (one, or one of each)."""
    with np.errstate(over="ignore"):
        offset = np.asarray(position + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = _mix(streams + offset)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(value: UInt64Array | np.uint64) -> UInt64Array:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    mixed = np.array(value, dtype=np.uint64, ndmin=1)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
