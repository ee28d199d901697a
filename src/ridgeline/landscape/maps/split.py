"""Which prompts an axis is fitted on, and which the map is judged on. Never samples of one prompt in both."""

from __future__ import annotations

import hashlib

import numpy as np

from ridgeline.landscape.maps.collect import Table

HALVES = "half of the prompts"
ENOUGH = 100
"""Samples on either side for held-out prompts to be kept for judging."""


def fitting_prompts(table: Table, *, seed: int, halves: bool) -> tuple[np.ndarray, str]:
    """``[N]`` whether the sample's prompt is fitted on, and which prompts these are, in words.

    The training prompts, where the held-out ones are others and both have samples enough; else (or with
    ``halves``) half of all prompts, the same half however long the run gets.
    """
    evaluated = np.isin(table.prompt_N, np.unique(table.prompt_N[table.evaluated_N]))
    if not halves and min(evaluated.sum(), (~evaluated).sum()) >= ENOUGH:
        return ~evaluated, "training prompts"
    side_P = np.array([_side(prompt, seed) for prompt in table.prompts])
    if side_P.all() or not side_P.any():
        side_P[: max(1, len(side_P) // 2)] = ~side_P[0]
    return side_P[table.prompt_N], HALVES


def _side(prompt: str, seed: int) -> bool:
    return bool(hashlib.blake2b(f"half/{seed}/{prompt}".encode(), digest_size=1).digest()[0] & 1)
