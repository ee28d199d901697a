"""The frozen reference reads completions again: states of their beginnings, and log-probs where wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from ridgeline.landscape.maps.segments import segment_sums
from ridgeline.models.batch import MicroBatch, completion_row, split
from ridgeline.models.forward import HEAD_CHUNK, head_logits, hidden_states
from ridgeline.models.hardware import resolve_device, resolve_dtype
from ridgeline.models.layout import lay_out
from ridgeline.models.load import load_model
from ridgeline.models.pooling import FRACTIONS, completion_states
from ridgeline.objectives.logprobs import token_logprobs
from ridgeline.schema.records import Sample

TOKENS = 2048
"""Padded tokens of a micro-batch."""
Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Encoded:
    """Per completion: states ``[F, H]`` float32, and sums of ref_logp over its F segments ``[F]`` (nats)."""

    states: list[np.ndarray]
    ref_logp: list[np.ndarray]


def encode(model: str, samples: Sequence[Sample], progress: Progress | None = None) -> Encoded:
    """Run ``model`` over prompt and completion of every sample (bfloat16 where the machine is fast at it).

    Raises:
        UsageError: the model cannot be loaded any more.
    """
    device = resolve_device("auto")
    module = load_model(model, dtype=resolve_dtype("auto", device), device=device).module
    units = [[completion_row(sample.prompt_ids, sample.completion_ids)] for sample in samples]
    states: dict[int, np.ndarray] = {}
    ref_logp: dict[int, np.ndarray] = {}
    for members in split(units, TOKENS):
        batch = MicroBatch.of([units[place] for place in members], device)
        heat = torch.tensor([samples[place].temperature or 1.0 for place in members], device=device)
        states_BFH, logp = _forward(module, batch, heat)
        for row, place in enumerate(members):
            states[place] = states_BFH[row]
            ref_logp[place] = segment_sums(logp[row])
        if progress is not None:
            progress("reading completions with the reference", len(states), len(units))
    order = range(len(units))
    return Encoded([states[place] for place in order], [ref_logp[place] for place in order])


@torch.no_grad()
def _forward(
    module: PreTrainedModel, batch: MicroBatch, heat_B: torch.Tensor
) -> tuple[np.ndarray, list[np.ndarray]]:
    """States ``[B, F, H]`` and, per row, ref_logp of its tokens at the temperature it was sampled with."""
    layout = lay_out(batch, packed=False)
    flat_hidden = hidden_states(module.base_model, layout)
    states_BFH = completion_states(flat_hidden, layout.token_index, batch)
    before = [layout.token_index[i][torch.from_numpy(row.targets) - 1] for i, row in enumerate(batch.rows)]
    hidden_SH = flat_hidden[torch.cat(before)]
    ids_S = batch.target_ids()[batch.mask_BN]
    counts = [len(row.targets) for row in batch.rows]
    heat_S = heat_B.repeat_interleave(torch.tensor(counts, device=heat_B.device))
    parts = []
    for start in range(0, len(ids_S), HEAD_CHUNK):
        rows = slice(start, start + HEAD_CHUNK)
        logits_SV = head_logits(module, hidden_SH[rows]).float() / heat_S[rows, None]
        parts.append(token_logprobs(logits_SV, ids_S[rows]))
    logp = [part.cpu().numpy() for part in torch.cat(parts).split(counts)]
    assert states_BFH.shape[1] == len(FRACTIONS)
    return states_BFH.cpu().numpy(), logp
