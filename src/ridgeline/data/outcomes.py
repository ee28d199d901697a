"""Outcomes: single completions with a label that says whether the whole answer is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from ridgeline.data.bulk import in_bulk
from ridgeline.data.chat import Conversation, marked
from ridgeline.data.columns import TRUTH, choose_form, flag
from ridgeline.data.formats import (
    UNPAIRED_FORMS,
    DataRow,
    completion_text,
    number_of,
    prompt_id,
    prompt_messages,
)
from ridgeline.data.units import UnitData, completion_of
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Message


@dataclass(frozen=True, slots=True)
class Outcome:
    """One completion and the probability that it is right: 1, 0, or a share of checks that it passed."""

    prompt: list[Message]
    completion: str
    label: float
    stopped: bool = True
    prompt_id: str = ""
    where: str = ""


@in_bulk
def outcomes(rows: Sequence[DataRow], where: str) -> list[Outcome]:
    """``prompt``, ``completion``, ``label``: true, false, or a number from 0 to 1.

    ``prompt_id`` and ``stopped`` (false: the completion was cut at the limit) are read where present.

    Raises:
        DataError: missing column, wrong type, or a label outside [0, 1].
    """
    result = []
    for number, row in enumerate(rows, start=1):
        place = f"{where}, row {number}"
        choose_form(row, UNPAIRED_FORMS, place)
        result.append(
            Outcome(
                prompt_messages(row, "prompt", place),
                completion_text(row["completion"], f"{place}, completion"),
                share(row["label"], f"{place}, label"),
                flag(row["stopped"], f"{place}, stopped") if row.get("stopped") not in (None, "") else True,
                str(row.get("prompt_id") or ""),
                place,
            )
        )
    return result


def share(value: Any, where: str) -> float:
    """A truth value, or a number from 0 (wrong) to 1 (right).

    Raises:
        DataError: anything else.
    """
    if isinstance(value, bool) or str(value).strip().lower() in TRUTH:
        return float(flag(value, where))
    number = number_of(value, where)
    if not 0 <= number <= 1:
        raise DataError(f"{where}: {number:g} lies outside 0 (wrong) to 1 (right).")
    return number


@in_bulk
def build_outcomes(
    items: Sequence[Outcome],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = 1024,
    overlong: Literal["error", "drop"] = "drop",
    where: str = "the outcomes",
) -> UnitData:
    """A unit of one row per completion, with ``values["label"]``; every completion token is a target.

    Raises:
        DataError: a completion is too long under ``error``, or none is left.
        UsageError: the template cannot be used; see ``chat.encode_conversation``.
    """
    data = UnitData()
    asked = (
        Conversation.answered(item.prompt, item.completion, stopped=item.stopped, where=item.where)
        for item in items
    )
    for index, (item, tokens) in enumerate(zip(items, marked(tokenizer, asked), strict=True)):
        row = completion_of(tokens)
        row.values["label"] = item.label
        identity = item.prompt_id or prompt_id(item.prompt)
        data.add(index, [row], identity, max_length=max_length, overlong=overlong, where=item.where)
    data.check_any(where, "completion")
    return data
