"""Columns of the prompt row that a built-in reward reads."""

from __future__ import annotations

from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Sample


def field_of(sample: Sample, name: str, reward: str) -> str:
    """``row[name]`` as text.

    Raises:
        DataError: the row has no such field, or it is null.
    """
    value = sample.row.get(name)
    if value is None:
        raise DataError(
            f"reward '{reward}' needs the field '{name}' in each prompt row, but prompt '{sample.prompt_id}' "
            f"has {', '.join(map(repr, sample.row)) or 'no fields'}; add '{name}', or rename what holds it."
        )
    return str(value)
