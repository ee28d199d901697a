"""How the rows of a micro-batch are laid out for one forward pass.

``padded``: a matrix row per sequence, padding on the right, plain causal attention.
``packed``: within a unit the common prefix (the prompt) stands once and every row's remainder sees the prefix
and itself, so a group of G completions costs one prompt instead of G. Where attention can go text by text
(`texts`), all units lie end to end in one matrix row without any padding; elsewhere they share matrix rows
under a mask, and nothing but the last gap is padding.

All give every token the same context and the same position, so they give the same results to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ridgeline.models.batch import MicroBatch, Row, unit_tokens
from ridgeline.models.kernels.texts import Texts
from ridgeline.models.packing import pack


@dataclass(slots=True)
class Layout:
    """Ids and positions ``[R, L]``; a token sees ``allowed`` ``[R, L, L]``, its ``texts``, or all before."""

    ids_RL: torch.Tensor
    positions_RL: torch.Tensor
    allowed_RLL: torch.Tensor | None
    token_index: list[torch.Tensor]
    """Per row of the batch ``[T]``: where its token t stands in the flattened ``[R * L]``."""
    texts: Texts | None = None


def lay_out(batch: MicroBatch, *, packed: bool, texts: bool = False) -> Layout:
    """Place every row of ``batch``; ``texts``: packed rows may lie end to end."""
    if not packed:
        return _padded(batch)
    return _end_to_end(batch) if texts else _masked(batch)


def _padded(batch: MicroBatch) -> Layout:
    length = max(len(row) for row in batch.rows)
    ids_RL = np.zeros((len(batch.rows), length), dtype=np.int64)
    index = []
    for number, row in enumerate(batch.rows):
        ids_RL[number, : len(row)] = row.ids
        index.append(torch.arange(len(row)) + number * length)
    positions_RL = torch.arange(length).expand(len(batch.rows), length)
    return _on_device(Layout(torch.from_numpy(ids_RL), positions_RL, None, index), batch.device)


def _masked(batch: MicroBatch) -> Layout:
    units = _units(batch)
    sizes = [unit_tokens(unit) for unit in units]
    bins = pack(sizes, capacity=max(sizes))
    length = max(sum(sizes[number] for number in members) for members in bins)
    ids_RL = np.zeros((len(bins), length), dtype=np.int64)
    positions_RL = np.zeros((len(bins), length), dtype=np.int64)
    # Token k is visible to a later token q of the same unit when both have the same branch, or k is in the
    # shared prefix (branch 0). Units are numbered from 1, so padding (unit 0) sees only itself.
    unit_RL = np.zeros((len(bins), length), dtype=np.int64)
    branch_RL = np.zeros((len(bins), length), dtype=np.int64)
    index: list[torch.Tensor] = [torch.empty(0)] * len(batch.rows)
    first_row = np.cumsum([0, *batch.unit_sizes])
    for line, members in enumerate(bins):
        cursor = 0
        for number in members:
            prefix = units[number][0].prefix if len(units[number]) > 1 else 0
            start = cursor
            ids_RL[line, start : start + prefix] = units[number][0].ids[:prefix]
            positions_RL[line, start : start + prefix] = np.arange(prefix)
            cursor += prefix
            for branch, row in enumerate(units[number], start=1):
                _check_shared(row, units[number][0], prefix)
                rest = len(row) - prefix
                span = slice(cursor, cursor + rest)
                ids_RL[line, span] = row.ids[prefix:]
                positions_RL[line, span] = np.arange(prefix, len(row))
                branch_RL[line, span] = branch
                where = np.concatenate([np.arange(start, start + prefix), np.arange(cursor, cursor + rest)])
                index[first_row[number] + branch - 1] = torch.from_numpy(where + line * length)
                cursor += rest
            unit_RL[line, start:cursor] = number + 1
    owner, side = torch.from_numpy(unit_RL), torch.from_numpy(branch_RL)
    same_unit = (owner[:, :, None] == owner[:, None, :]) & (owner[:, :, None] > 0)
    visible = (side[:, None, :] == 0) | (side[:, :, None] == side[:, None, :])
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    allowed = (same_unit & visible & causal) | torch.eye(length, dtype=torch.bool)
    layout = Layout(torch.from_numpy(ids_RL), torch.from_numpy(positions_RL), allowed, index)
    return _on_device(layout, batch.device)


def _end_to_end(batch: MicroBatch) -> Layout:
    """A unit that shares a prefix is a family of texts; every other row is one by itself."""
    ids, positions, index, spans, families = [], [], [], [], [0]
    cursor = 0

    def add(row: Row, first: int, last: int, prefix_start: int) -> np.ndarray:
        """The tokens [first, last) of ``row`` as a text behind its first ``first`` tokens; their places."""
        nonlocal cursor
        place = np.arange(cursor, cursor + last - first)
        if last > first:
            ids.append(row.ids[first:last])
            positions.append(np.arange(first, last))
            spans.append((cursor, last - first, prefix_start, first))
            cursor += last - first
        return place

    for unit in _units(batch):
        prefix = unit[0].prefix if len(unit) > 1 else 0
        shared = add(unit[0], 0, prefix, 0)
        for row in unit:
            _check_shared(row, unit[0], prefix)
            place = add(row, prefix, len(row), int(shared[0]) if prefix else 0)
            index.append(torch.from_numpy(np.concatenate([shared, place])))
            if not prefix:
                families.append(len(spans))
        if prefix:
            families.append(len(spans))
    texts = Texts(np.array(spans, dtype=np.int64).reshape(-1, 4), np.array(families, dtype=np.int64))
    flat = [torch.from_numpy(np.concatenate(parts))[None] for parts in (ids, positions)]
    return Layout(flat[0], flat[1], None, index, texts)


def _check_shared(row: Row, first: Row, prefix: int) -> None:
    if not np.array_equal(row.ids[:prefix], first.ids[:prefix]):
        raise ValueError(f"the rows of a unit must share their first {prefix} tokens")


def _units(batch: MicroBatch) -> list[list[Row]]:
    units, start = [], 0
    for size in batch.unit_sizes:
        units.append(batch.rows[start : start + size])
        start += size
    return units


def _on_device(layout: Layout, device: torch.device) -> Layout:
    if device.type == "cpu":
        return layout
    allowed = None if layout.allowed_RLL is None else layout.allowed_RLL.to(device)
    index = [each.to(device) for each in layout.token_index]
    return Layout(layout.ids_RL.to(device), layout.positions_RL.to(device), allowed, index)
