"""Which columns a row has, and what to say when the right ones are not there."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from ridgeline.schema.errors import DataError

TRUTH = {"true": True, "1": True, "false": False, "0": False}


def present(row: Mapping[str, Any]) -> set[str]:
    """Columns that hold something; null counts as absent, since Parquet fills missing columns with it."""
    return {name for name, value in row.items() if value is not None}


def choose_form(row: Mapping[str, Any], forms: Sequence[tuple[str, ...]], where: str) -> tuple[str, ...]:
    """The first of ``forms`` (sets of required columns) that the row fills.

    Raises:
        DataError: none; names the missing column and the most similar one that is there.
    """
    columns = present(row)
    for form in forms:
        if columns.issuperset(form):
            return form
    raise DataError(f"{where}: {_missing(columns, forms)}")


def _missing(columns: set[str], forms: Sequence[tuple[str, ...]]) -> str:
    def similar(name: str) -> list[str]:
        return difflib.get_close_matches(name, sorted(columns), n=1, cutoff=0.6)

    def closeness(form: tuple[str, ...]) -> float:
        return sum(1.0 if name in columns else 0.6 if similar(name) else 0.0 for name in form) / len(form)

    best = max(forms, key=closeness)
    absent = next(name for name in best if name not in columns)
    found = similar(absent)
    needs = "; or ".join(" and ".join(form) for form in forms)
    hint = (
        f"did you mean '{found[0]}'?"
        if found
        else f"its columns are {', '.join(sorted(columns)) or 'all empty'};"
    )
    return f"column '{absent}' is missing: {hint} A row needs {needs}."


def flag(value: Any, where: str) -> bool:
    """A truth value as people store it: true, false, 1, 0, also as text (CSV has nothing else).

    Raises:
        DataError: anything else.
    """
    if isinstance(value, bool):
        return value
    truth = TRUTH.get(str(value).strip().lower()) if isinstance(value, int | str) else None
    if truth is None:
        raise DataError(f"{where}: expected true or false, got {value!r}.")
    return truth
