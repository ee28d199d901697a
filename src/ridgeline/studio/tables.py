"""Numbers of one JSONL file in memory: a column a name, a row a line, doubling as it grows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

COLUMNS = 400
"""More names than that are not kept: a hostile file could otherwise ask for any amount of memory."""
START = 256


class Table:
    """``steps [N]`` int64 and named columns ``[N]`` float64; nan where a line says nothing."""

    def __init__(self) -> None:
        self.rows = 0
        self.left_out = 0
        """Values beyond the last column that fits."""
        self._steps: NDArray[np.int64] = np.empty(START, dtype=np.int64)
        self._columns: dict[str, NDArray[np.float64]] = {}

    def append(self, step: int, values: Mapping[str, float]) -> None:
        """One more row."""
        self._make_room(1)
        row = self.rows
        self._steps[row] = step
        for name, value in values.items():
            column = self._writable(name)
            if column is None:
                self.left_out += 1
            else:
                column[row] = value
        self.rows += 1

    def extend(self, steps: NDArray[np.int64], columns: Mapping[str, NDArray[np.float64]]) -> None:
        """``len(steps)`` more rows; nan in ``columns`` where a row says nothing."""
        self._make_room(len(steps))
        here = slice(self.rows, self.rows + len(steps))
        self._steps[here] = steps
        for name, values in columns.items():
            column = self._writable(name)
            if column is None:
                self.left_out += len(steps)
            else:
                column[here] = values
        self.rows += len(steps)

    def names(self) -> list[str]:
        """In the order of their first appearance."""
        return list(self._columns)

    def steps(self) -> NDArray[np.int64]:
        return self._steps[: self.rows]

    @property
    def steps_seen(self) -> int:
        """One more than the last step: rows may be missing."""
        return int(self.steps().max()) + 1 if self.rows else 0

    def column(self, name: str) -> NDArray[np.float64] | None:
        """A view of the column; None where no line has that name."""
        found = self._columns.get(name)
        return None if found is None else found[: self.rows]

    def known(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Steps and values of the rows that have a value; empty where no row has."""
        column = self.column(name)
        if column is None:
            return np.empty(0, dtype=np.int64), np.empty(0)
        here = ~np.isnan(column)
        return self.steps()[here], column[here]

    @property
    def bytes(self) -> int:
        return self._steps.nbytes + sum(column.nbytes for column in self._columns.values())

    def _writable(self, name: str) -> NDArray[np.float64] | None:
        """The whole column, begun where it is new; None where no further one fits."""
        column = self._columns.get(name)
        if column is None and len(self._columns) < COLUMNS:
            column = self._columns[name] = np.full(len(self._steps), np.nan)
        return column

    def _make_room(self, rows: int) -> None:
        length = len(self._steps)
        if self.rows + rows <= length:
            return
        while length < self.rows + rows:
            length *= 2
        steps = np.empty(length, dtype=np.int64)
        steps[: self.rows] = self._steps[: self.rows]
        self._steps = steps
        for name, column in self._columns.items():
            longer = np.full(length, np.nan)
            longer[: self.rows] = column[: self.rows]
            self._columns[name] = longer
