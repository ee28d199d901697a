"""Numbers per segment of a completion: KL, advantage and critic values, from traces or read again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ridgeline.landscape.maps.collect import Table
from ridgeline.landscape.maps.features import States, sampler_logp
from ridgeline.landscape.maps.segments import ends, segment_means, segment_sums
from ridgeline.landscape.maps.source import MapSource
from ridgeline.models.pooling import FRACTIONS
from ridgeline.objectives.advantages import group_centred
from ridgeline.objectives.kl import k1
from ridgeline.rollout.traces import Trace, read_traces
from ridgeline.schema.errors import DataError
from ridgeline.statistics.inputs import Floats


@dataclass(frozen=True)
class Tokens:
    """Per sample and segment ``[N, F]``, nan where unknown.

    kl: k1 estimate, nats, summed over the segment's tokens. advantage: mean over the segment's tokens.
    value: the critic's V after the segment, units of reward (the last one is that of the finished text: nan).
    traced ``[N]``: whether the advantage is the one that training used.
    """

    kl_NF: Floats
    advantage_NF: Floats
    value_NF: Floats
    traced_N: np.ndarray

    @property
    def has_critic(self) -> bool:
        return bool(np.isfinite(self.value_NF).any())


def tokens_of(source: MapSource, table: Table, states: States, trained_on: Floats) -> Tokens:
    """Read the traces beside the samples; without one the advantage is reward minus the mean of its group.

    ``trained_on`` ``[N]``: the reward that training optimised, for samples without a trace.
    """
    shape = len(table), len(FRACTIONS)
    advantage = np.repeat(_group_centred(table, trained_on)[:, None], shape[1], axis=1)
    ref_logp, value = states.ref_logp_NF.astype(np.float64), np.full(shape, np.nan)
    traced = np.zeros(len(table), dtype=bool)
    traces = {path: _traces(source, path) for path in dict.fromkeys(table.files)}
    for place, (path, sample) in enumerate(zip(table.files, table.samples, strict=True)):
        trace = traces[path].get((sample.prompt_id, sample.index))
        if trace is None:
            continue
        if trace.ref_logp is not None:
            ref_logp[place] = segment_sums(trace.ref_logp)
        if trace.advantage is not None:
            advantage[place] = segment_means(trace.advantage)
            traced[place] = True
        if trace.value is not None:
            value[place] = _values_after(trace.value)
    return Tokens(_kl(table, ref_logp), advantage, value, traced)


def _kl(table: Table, ref_logp_NF: Floats) -> Floats:
    """Greedy decoding has no log-probs to compare."""
    logp_NF = np.stack([segment_sums(sampler_logp(sample)) for sample in table.samples])
    greedy_N = np.array([sample.temperature == 0 for sample in table.samples])
    kl_NF: Floats = k1(torch.from_numpy(logp_NF), torch.from_numpy(ref_logp_NF)).numpy()
    return np.where(greedy_N[:, None], np.nan, kl_NF)


def _values_after(values_T: np.ndarray) -> Floats:
    """V(s_t) stands before token t, so the state after t tokens is at t; the finished text has none."""
    padded = np.append(values_T.astype(np.float64), np.nan)
    return padded[ends(len(values_T))]


def _group_centred(table: Table, rewards_N: Floats) -> Floats:
    """Reward minus the mean of the samples of the same prompt, frame and kind."""
    centred = np.full(len(table), np.nan)
    groups: dict[tuple[int, int, bool], list[int]] = {}
    for place, key in enumerate(zip(table.frame_N, table.prompt_N, table.evaluated_N, strict=True)):
        groups.setdefault((int(key[0]), int(key[1]), bool(key[2])), []).append(place)
    for places in groups.values():
        if len(places) > 1:
            centred[places] = group_centred(torch.from_numpy(rewards_N[places])[None])[0].numpy()
    return centred


def _traces(source: MapSource, path: Path) -> dict[tuple[str, int], Trace]:
    place = source.folder.path / "traces" / path.relative_to(source.folder.samples)
    if not place.is_file():
        return {}
    try:
        return {(trace.prompt_id, trace.index): trace for trace in read_traces(place)}
    except DataError:
        return {}
