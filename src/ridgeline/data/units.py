"""Rows of data as units to learn from, with what became of each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ridgeline.data.supervised import TOO_LONG, too_long
from ridgeline.data.tokenise import Tokens
from ridgeline.models.batch import Row, Unit, consecutive
from ridgeline.schema.errors import DataError


def completion_of(tokens: Tokens) -> Row:
    """A row whose scored positions are the whole completion, behind its prompt."""
    prefix = tokens.spans[0][0]
    ids = tokens.ids.astype(np.int64)
    return Row(ids, consecutive(prefix, len(ids)), prefix=prefix)


@dataclass(slots=True)
class UnitData:
    """What became of the rows.

    units: what is learned from, in the order given.
    prompt_ids: of each unit, for the split by prompt.
    source: index of the row each unit came from.
    left_out: index of each row that was left out, and why.
    repeated: completions left out of kept rows because they are copies of another one.
    """

    units: list[Unit] = field(default_factory=list)
    prompt_ids: list[str] = field(default_factory=list)
    source: list[int] = field(default_factory=list)
    left_out: dict[int, str] = field(default_factory=dict)
    repeated: int = 0

    @property
    def dropped(self) -> dict[str, int]:
        """Rows left out, counted by reason."""
        return dict(Counter(self.left_out.values()))

    def add(
        self,
        index: int,
        unit: Unit,
        prompt_id: str,
        *,
        max_length: int,
        overlong: Literal["error", "drop"],
        where: str,
    ) -> None:
        """Keep row ``index`` as ``unit``, unless one of its sequences is longer than ``max_length`` tokens.

        Raises:
            DataError: it is, and ``overlong`` is ``error``.
        """
        length = max(len(row) for row in unit)
        if length > max_length and overlong == "error":
            raise DataError(too_long(where, length, max_length, '"drop"'))
        if length > max_length:
            self.left_out[index] = TOO_LONG
            return
        self.units.append(unit)
        self.prompt_ids.append(prompt_id)
        self.source.append(index)

    def check_any(self, where: str, what: str) -> None:
        """Raises DataError where nothing is left; ``what`` is one of the things that were wanted."""
        if not self.units:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
            raise DataError(f"{where}: no {what} is left to train on ({reasons or 'there was none'}).")
