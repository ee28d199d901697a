"""The KL of each frame's policy to the reference: as the run measured it, else from the samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ridgeline.landscape.maps.collect import Table
from ridgeline.landscape.maps.source import MapSource
from ridgeline.landscape.maps.tokens import Tokens
from ridgeline.schema.run_folder import mean, read_lines


def frame_kl(source: MapSource, table: Table, tokens: Tokens) -> list[float]:
    """k1 in nats per completion for every frame; nan where nothing says.

    In this order: the held-out evaluation of that policy, the training step that its samples made, the mean
    of sampler minus reference log-prob over the frame's own samples.
    """
    heldout = dict(_heldout(read_lines(source.folder.evaluations)))
    training = dict(_training(read_lines(source.folder.metrics), source.updates_per_rollout))
    own_N = tokens.kl_NF.sum(1)
    found = []
    for frame, step in enumerate(table.steps):
        inside = own_N[table.frame_N == frame]
        known = inside[np.isfinite(inside)]
        own = float(known.mean()) if len(known) else math.nan
        found.append(heldout.get(step, training.get(step, own)))
    return found


def _heldout(lines: Iterable[Mapping[str, Any]]) -> Iterable[tuple[int, float]]:
    for line in lines:
        measured = line.get("kl_k1")
        if isinstance(measured, Mapping) and measured.get("value") is not None:
            yield int(line.get("rollout", line["step"])), float(measured["value"])


def _training(lines: Iterable[Mapping[str, Any]], updates: int) -> Iterable[tuple[int, float]]:
    """Of the first update of each rollout, when the policy was still the one that sampled."""
    for line in lines:
        measured = line.get("metrics", {}).get("kl_k1")
        if measured is not None and line["step"] % updates == 0:
            yield line["step"] // updates, mean(measured)
