"""Rows, units and micro-batches: the shapes in which tokens reach a model.

A ``Row`` is one token sequence with the positions that are scored in it. A *unit* is a list of rows that
must stay together (one sequence, a preference pair, a group); a micro-batch is a list of units.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


@dataclass(slots=True)
class Row:
    """One sequence.

    ids: ``[T]`` token ids.
    targets: ``[N]`` strictly increasing positions in 1..T-1 whose token is scored.
    prefix: number of leading tokens that all rows of the unit share (the prompt); 0 when nothing is shared.
    fields: per scored token, ``[N]`` each, such as ``old_logp`` or ``advantage``.
    values: per row, such as ``label``.
    features: ``[F]`` of a frozen backbone, when only a head on them learns.
    """

    ids: IntArray
    targets: IntArray
    prefix: int = 0
    fields: dict[str, FloatArray] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    features: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.ids)


Unit = list[Row]


def consecutive(first: int, last: int) -> IntArray:
    """first, ..., last - 1, out of one array that all rows read: not to be written to."""
    return _counted(1 << max(last, 1).bit_length())[first:last]


@functools.cache
def _counted(size: int) -> IntArray:
    return np.arange(size, dtype=np.int64)


def completion_row(prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> Row:
    """A row whose scored positions are the whole completion."""
    ids = np.asarray([*prompt_ids, *completion_ids], dtype=np.int64)
    return Row(ids, consecutive(len(prompt_ids), len(ids)), prefix=len(prompt_ids))


@dataclass(slots=True)
class MicroBatch:
    """Rows of whole units with their per-token fields padded to ``[B, N]`` on the right."""

    rows: list[Row]
    unit_sizes: list[int]
    mask_BN: torch.Tensor
    device: torch.device

    @classmethod
    def of(cls, units: Sequence[Unit], device: torch.device | str = "cpu") -> MicroBatch:
        rows = [row for unit in units for row in unit]
        width = max((len(row.targets) for row in rows), default=0)
        mask_BN = torch.zeros(len(rows), width, dtype=torch.bool)
        for index, row in enumerate(rows):
            mask_BN[index, : len(row.targets)] = True
        device = torch.device(device)
        return cls(rows, [len(unit) for unit in units], mask_BN.to(device), device)

    def field(self, name: str) -> torch.Tensor:
        """``[B, N]`` float32, zero where nothing is scored."""
        padded_BN = np.zeros(tuple(self.mask_BN.shape), dtype=np.float32)
        for index, row in enumerate(self.rows):
            padded_BN[index, : len(row.targets)] = row.fields[name]
        return torch.from_numpy(padded_BN).to(self.device)

    def value(self, name: str) -> torch.Tensor:
        """``[B]`` float32."""
        values = [row.values[name] for row in self.rows]
        return torch.tensor(values, dtype=torch.float32, device=self.device)

    def features(self) -> torch.Tensor:
        """``[B, F]`` float32."""
        stacked = np.stack([row.features for row in self.rows if row.features is not None])
        return torch.from_numpy(stacked).to(self.device)

    def target_ids(self) -> torch.Tensor:
        """``[B, N]`` ids of the scored tokens, 0 where nothing is scored."""
        ids_BN = np.zeros(tuple(self.mask_BN.shape), dtype=np.int64)
        for index, row in enumerate(self.rows):
            ids_BN[index, : len(row.targets)] = row.ids[row.targets]
        return torch.from_numpy(ids_BN).to(self.device)


def unit_tokens(unit: Unit) -> int:
    """Tokens a unit costs when its shared prefix is encoded once."""
    prefix = unit[0].prefix if len(unit) > 1 else 0
    return prefix + sum(len(row) - prefix for row in unit)


def split(units: Sequence[Unit], tokens: int, *, packed: bool = False) -> list[list[int]]:
    """Indices of ``units`` cut into micro-batches of similar lengths, at most ``tokens`` each.

    Padded rows cost as much as the longest among them, so sorting by length keeps padding small; ``packed``
    units cost their own tokens. A unit that exceeds the budget gets a micro-batch of its own. No more are
    made than the budget needs, and the largest is as small as it can then be, as it decides how much memory
    a step takes.
    """
    longest = [max(len(row) for row in unit) for unit in units]
    order = sorted(range(len(units)), key=lambda index: (longest[index], index))
    sizes = [unit_tokens(unit) if packed else len(unit) for unit in units]

    def filled(budget: int) -> list[list[int]]:
        batches: list[list[int]] = []
        held = 0
        for index in order:
            held += sizes[index]
            if batches and (held if packed else held * longest[index]) <= budget:
                batches[-1].append(index)
            else:
                batches.append([index])
                held = sizes[index]
        return batches

    fewest = len(filled(tokens))
    low, high = 0, tokens
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(filled(middle)) <= fewest else (middle, high)
    return filled(high)


def pack_units(units: Sequence[Unit]) -> list[list[dict[str, Any]]]:
    """Units as plain containers of tensors, for ``torch.save``."""
    return [
        [
            {
                "ids": torch.from_numpy(row.ids),
                "targets": torch.from_numpy(row.targets),
                "prefix": row.prefix,
                "fields": {name: torch.from_numpy(values) for name, values in row.fields.items()},
                "values": dict(row.values),
                "features": None if row.features is None else torch.from_numpy(row.features),
            }
            for row in unit
        ]
        for unit in units
    ]


def unpack_units(packed: Sequence[Sequence[dict[str, Any]]]) -> list[Unit]:
    """The inverse of ``pack_units``."""
    return [
        [
            Row(
                ids=row["ids"].numpy(),
                targets=row["targets"].numpy(),
                prefix=row["prefix"],
                fields={name: values.numpy() for name, values in row["fields"].items()},
                values=dict(row["values"]),
                features=None if row["features"] is None else row["features"].numpy(),
            )
            for row in unit
        ]
        for unit in packed
    ]
