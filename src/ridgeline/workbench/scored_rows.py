"""Rows of every format as completions to be scored, and scores put back beside their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from transformers import PreTrainedTokenizerBase

from ridgeline.data import formats
from ridgeline.data.chat import encode_completions
from ridgeline.data.columns import flag
from ridgeline.data.rankings import rankings
from ridgeline.data.steps import check_separable, solutions
from ridgeline.schema.errors import DataError, UsageError
from ridgeline.schema.records import Message

if TYPE_CHECKING:
    from ridgeline.workbench.scoring import Scored

DataRow = Mapping[str, Any]
SAMPLED = {"prompt_ids", "completion_ids"}
"""Columns of a completion that was sampled here; its ids are scored as they are."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One completion as tokens; ``row`` (from 1) and ``part`` say where it came from."""

    row: int
    part: str
    prompt_ids: list[int]
    completion_ids: list[int]


@dataclass(frozen=True, slots=True)
class _Text:
    row: int
    part: str
    prompt: list[Message]
    completion: str
    stopped: bool


def asked_of_rows(
    rows: Sequence[DataRow], where: str, tokenizer: PreTrainedTokenizerBase, separator: str
) -> list[Asked]:
    """All completions of ``rows``, which are all of the format of the first.

    Raises:
        DataError: as the readers of the formats do, and rows without any completion.
    """
    if rows[0].keys() >= SAMPLED:
        return [_sampled(row, f"{where}, row {number}", number) for number, row in enumerate(rows, start=1)]
    texts = _texts(rows, where, separator)
    sides = encode_completions(
        tokenizer,
        [text.prompt for text in texts],
        [text.completion for text in texts],
        stopped=[text.stopped for text in texts],
        where=[f"{where}, row {text.row}, {text.part}" for text in texts],
    )
    return [Asked(text.row, text.part, *side) for text, side in zip(texts, sides, strict=True)]


def _sampled(row: DataRow, where: str, number: int) -> Asked:
    for name in sorted(SAMPLED):
        ids = row.get(name)
        if not isinstance(ids, Sequence) or isinstance(ids, str) or not all(type(i) is int for i in ids):
            raise DataError(f"{where}, {name}: expected a list of token ids.")
    return Asked(number, "completion", list(row["prompt_ids"]), list(row["completion_ids"]))


def _texts(rows: Sequence[DataRow], where: str, separator: str) -> list[_Text]:
    kind = formats.detect(rows, where)
    if kind == "prompt":
        raise DataError(
            f"{where} holds prompts only, and there is nothing to score; a row needs a completion."
        )
    texts: list[_Text] = []
    if kind == "preference":
        for number, pair in enumerate(formats.preferences(rows, where), start=1):
            texts.append(_Text(number, "chosen", pair.prompt, pair.chosen, pair.chosen_stopped))
            texts.append(_Text(number, "rejected", pair.prompt, pair.rejected, pair.rejected_stopped))
    elif kind == "ranking":
        for number, ranking in enumerate(rankings(rows, where), start=1):
            sides = zip(ranking.completions, ranking.stopped, strict=True)
            texts += [
                _Text(number, str(place), ranking.prompt, text, stopped)
                for place, (text, stopped) in enumerate(sides, start=1)
            ]
    elif kind == "steps":
        for number, solution in enumerate(solutions(rows, where, classes=_classes(rows)), start=1):
            check_separable(solution, separator)
            whole = separator.join(solution.steps)
            texts.append(_Text(number, "completion", solution.prompt, whole, solution.stopped))
    else:
        for number, (row, item) in enumerate(
            zip(rows, formats.instructions(rows, where), strict=True), start=1
        ):
            given = row.get("stopped")
            stopped = given in (None, "") or flag(given, f"{where}, row {number}, stopped")
            *prompt, answer = item.messages
            texts.append(_Text(number, "completion", prompt, answer.content, stopped))
    return texts


def _classes(rows: Sequence[DataRow]) -> Literal[2, 3]:
    """Labels do not matter here; three classes where one of them is -1."""
    return 3 if any(-1 in row["labels"] for row in rows if isinstance(row.get("labels"), list)) else 2


def with_scores(rows: Sequence[DataRow], scored: Sequence[Scored], column: str) -> list[dict[str, Any]]:
    """Each row with its score under ``column``: a number, ``{"chosen", "rejected"}``, or a list.

    Tokens or steps stand beside it under ``column`` + ``_pieces``, in the same shape.

    Raises:
        UsageError: a row has that column already.
    """
    by_row: dict[int, list[Scored]] = {}
    for each in scored:
        by_row.setdefault(each.row, []).append(each)
    result = []
    for number, row in enumerate(rows, start=1):
        own = by_row[number]
        more: dict[str, Any] = {column: _shaped(own, [each.score for each in own])}
        if any(each.spread is not None for each in own):
            more[f"{column}_spread"] = _shaped(own, [each.spread for each in own])
        if any(each.pieces for each in own):
            pieces = [[{"text": p.text, "end": p.end, "score": p.score} for p in each.pieces] for each in own]
            more[f"{column}_pieces"] = _shaped(own, pieces)
        for name in more:
            if name in row:
                raise UsageError(f"row {number} has a column '{name}' already; name another with --column.")
        result.append({**row, **more})
    return result


def _shaped(own: Sequence[Scored], values: Sequence[Any]) -> Any:
    parts = [each.part for each in own]
    if parts == ["completion"]:
        return values[0]
    return dict(zip(parts, values, strict=True)) if "chosen" in parts else list(values)
