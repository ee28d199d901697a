"""Many whole lines of a JSONL file at once, as columns: what makes the first look at a long run quick."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.json as pj
from numpy.typing import NDArray

from ridgeline.studio.lines import clean_name
from ridgeline.studio.safe import EXACT_INTEGER
from ridgeline.studio.tables import COLUMNS

Numbers: TypeAlias = NDArray[np.float64]
Block: TypeAlias = tuple[NDArray[np.int64], dict[str, Numbers]]
"""Steps ``[N]`` and named columns ``[N]``."""


def read_block(content: bytes, kind: str) -> Block | None:
    """The numbers of ``content``, as ``lines.PARSERS[kind]`` reads them from every line.

    None where a line is damaged or of another form than the usual one: such content is read line by line.
    """
    if kind not in _FIELDS:
        return None
    field, prefix, numbers_of = _FIELDS[kind]
    table = _table(content)
    if table is None or not {"step", field} <= set(table.column_names):
        return None
    step, named = (table.column(name).combine_chunks() for name in ("step", field))
    if not pa.types.is_int64(step.type) or not pa.types.is_struct(named.type):
        return None
    if step.null_count or named.null_count or not 0 < named.type.num_fields <= COLUMNS:
        return None
    steps = step.to_numpy()
    if np.abs(steps).max() > EXACT_INTEGER:
        return None
    columns: dict[str, Numbers] = {}
    for place in range(named.type.num_fields):
        name = named.type.field(place).name
        values = numbers_of(named.field(place))
        if values is None or clean_name(name) != name:
            return None
        columns[prefix + name] = np.where(np.isfinite(values), values, np.nan)
    return steps, columns


def _table(content: bytes) -> pa.Table | None:
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    try:
        # One block for all: the type of a field must not change from block to block.
        options = pj.ReadOptions(use_threads=False, block_size=max(len(content) + 1, 1 << 16))
        table = pj.read_json(pa.BufferReader(content), read_options=options)
    except pa.ArrowException:
        return None
    # A blank line has no row, and two objects on one line have two.
    return table if table.num_rows == lines else None


def _numbers(column: pa.Array) -> Numbers | None:
    """Integers or floats as floats, nan for null; None for anything else."""
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        return None
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _means(column: pa.Array) -> Numbers | None:
    """``[sum, count]`` of every row as their quotient, nan for null."""
    if not pa.types.is_list(column.type):
        return None
    known = np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    parts = column.flatten()
    values = _numbers(parts)
    lengths = np.diff(column.offsets.to_numpy())[known]
    if values is None or parts.null_count or (lengths != 2).any():
        return None
    means = np.full(len(column), np.nan)
    with np.errstate(all="ignore"):
        means[known] = values[0::2] / values[1::2]
    return means


_FIELDS: Mapping[str, tuple[str, str, Callable[[pa.Array], Numbers | None]]] = {
    "metrics": ("metrics", "", _means),
    "timings": ("seconds", "seconds/", _numbers),
}
"""By kind of file: where the named numbers are, what stands before their names, how they are read."""
