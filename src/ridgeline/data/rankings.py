"""Rankings: several completions of one prompt, kept together so that all their pairs are in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from ridgeline.data.bulk import in_bulk
from ridgeline.data.chat import Conversation, marked
from ridgeline.data.columns import choose_form, flag
from ridgeline.data.formats import DataRow, completion_text, number_of, prompt_id, prompt_messages
from ridgeline.data.tokenise import Tokens
from ridgeline.data.units import UnitData, completion_of
from ridgeline.models.batch import Unit
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Message, Preference

RANKING_FORMS = (("prompt", "completions", "ranks"), ("prompt", "completions", "scores"))
ALL_EQUAL = "no two different completions differ in rank"


@dataclass(frozen=True, slots=True)
class Ranking:
    """Completions of one prompt with a rank each, 1 the best; equal ranks are ties."""

    prompt: list[Message]
    completions: list[str]
    ranks: list[float]
    stopped: list[bool]
    prompt_id: str = ""
    where: str = ""

    @property
    def has_ties(self) -> bool:
        return len(set(self.ranks)) < len(self.ranks)


@in_bulk
def rankings(rows: Sequence[DataRow], where: str) -> list[Ranking]:
    """``prompt``, ``completions`` (a list), and ``ranks`` (lower is better) or ``scores`` (higher is better).

    ``prompt_id`` and ``stopped`` (a flag per completion; false: it was cut at the limit) are read where
    present.

    Raises:
        DataError: missing column, wrong type, lists of different lengths, fewer than two completions.
    """
    return [_ranking(row, f"{where}, row {number}") for number, row in enumerate(rows, start=1)]


def _ranking(row: DataRow, where: str) -> Ranking:
    form = choose_form(row, RANKING_FORMS, where)
    prompt = prompt_messages(row, "prompt", where)
    listed = listed_in(row, "completions", where)
    if len(listed) < 2:
        raise DataError(f"{where}, completions: a ranking needs at least two, got {len(listed)}.")
    texts = [
        completion_text(text, f"{where}, completions, item {number}") for number, text in enumerate(listed, 1)
    ]
    values = [
        number_of(value, f"{where}, {form[2]}, item {number}")
        for number, value in enumerate(listed_in(row, form[2], where, len(texts)), 1)
    ]
    ranks = values if form[2] == "ranks" else [-value for value in values]
    stopped = [True] * len(texts)
    if row.get("stopped") is not None:
        given = listed_in(row, "stopped", where, len(texts))
        stopped = [flag(value, f"{where}, stopped, item {number}") for number, value in enumerate(given, 1)]
    return Ranking(prompt, texts, ranks, stopped, str(row.get("prompt_id") or ""), where)


def listed_in(row: DataRow, column: str, where: str, length: int | None = None) -> list[Any]:
    """The list in ``column``.

    Raises:
        DataError: it is none, or of another length.
    """
    value = row[column]
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise DataError(f"{where}, {column}: expected a list, got {type(value).__name__}.")
    if length is not None and len(value) != length:
        raise DataError(f"{where}, {column}: it has {len(value)} items for {length}; give one for each.")
    return list(value)


def as_ranking(preference: Preference, where: str = "") -> Ranking:
    """A pair is a ranking of two; a label that is not sure has no place in a ranking, one of 0.5 is a tie."""
    if preference.label not in (1.0, 0.5, 0.0):
        raise DataError(
            f"{where}, label: {preference.label:g} is not sure, and a ranking cannot say so; "
            'use loss = "bradley_terry".'
        )
    return Ranking(
        preference.prompt,
        [preference.chosen, preference.rejected],
        [1.0 - preference.label, preference.label],
        [preference.chosen_stopped, preference.rejected_stopped],
        preference.prompt_id,
        where,
    )


@in_bulk
def build_rankings(
    items: Sequence[Ranking],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = 1024,
    overlong: Literal["error", "drop"] = "drop",
    where: str = "the rankings",
) -> UnitData:
    """A unit per prompt: a row per completion, best first, with ``values["rank"]``.

    Completions of the same tokens cannot be told apart, so the best one stays and its copies are left out. A
    ranking is dropped when no two of its completions differ in rank then, or when one of them is too long
    under ``drop``. All of it is counted.

    Raises:
        DataError: a completion is too long under ``error``, or no ranking is left.
        UsageError: the template cannot be used; see ``chat.encode_conversation``.
    """
    data = UnitData()
    asked = (
        Conversation.answered(
            item.prompt, text, stopped=stopped, where=f"{item.where}, completions, item {number}"
        )
        for item in items
        for number, (text, stopped) in enumerate(zip(item.completions, item.stopped, strict=True), start=1)
    )
    sides = marked(tokenizer, asked)
    for index, item in enumerate(items):
        unit = _unit(item, [next(sides) for _ in item.completions])
        if len({row.values["rank"] for row in unit}) < 2:
            data.left_out[index] = ALL_EQUAL
            continue
        data.repeated += len(item.completions) - len(unit)
        identity = item.prompt_id or prompt_id(item.prompt)
        data.add(index, unit, identity, max_length=max_length, overlong=overlong, where=item.where)
    data.check_any(where, "ranking")
    return data


def _unit(item: Ranking, sides: Sequence[Tokens]) -> Unit:
    unit: Unit = []
    seen: set[bytes] = set()
    for number in sorted(range(len(sides)), key=lambda number: item.ranks[number]):
        row = completion_of(sides[number])
        completion = row.ids[row.prefix :].tobytes()
        if completion not in seen:
            seen.add(completion)
            row.values["rank"] = item.ranks[number]
            unit.append(row)
    return unit
