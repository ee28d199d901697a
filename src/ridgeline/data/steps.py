"""Solutions step by step: where each step ends among the tokens, and its label.

A step ends with the token that completes the separator behind it, the last one with the last token of the
completion. Ends are found in the decoded text of ids as they are, which serves solutions from a file and
solutions that a policy has sampled alike: a model is asked exactly where it was trained to answer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from ridgeline.data.chat import encode_completions
from ridgeline.data.columns import choose_form, flag
from ridgeline.data.formats import DataRow, number_of, prompt_id, prompt_messages
from ridgeline.data.messages import text_of
from ridgeline.data.outcomes import share
from ridgeline.data.rankings import listed_in
from ridgeline.data.units import UnitData
from ridgeline.models.batch import Row
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Message

STEP_FORMS = (("prompt", "steps", "labels"),)
UNLABELLED = "no step has a label"
DEFAULT_SEPARATOR = "\n\n"


@dataclass(frozen=True, slots=True)
class Solution:
    """A solution in steps; a label is None where nobody judged the step."""

    prompt: list[Message]
    steps: list[str]
    labels: list[float | None]
    stopped: bool = True
    prompt_id: str = ""
    where: str = ""


def solutions(rows: Sequence[DataRow], where: str, *, classes: Literal[2, 3] = 2) -> list[Solution]:
    """``prompt``, ``steps`` (a list of texts), ``labels`` (one per step, null where there is none).

    With two classes a label is true, false or a number from 0 (wrong) to 1 (right). With three it is -1
    (bad), 0 (neutral) or 1 (good), and true and false are the outer two. ``prompt_id`` and ``stopped`` are
    read where present.

    Raises:
        DataError: missing column, wrong type, an empty step, lists of different lengths, another label.
    """
    return [_solution(row, f"{where}, row {number}", classes) for number, row in enumerate(rows, start=1)]


def _solution(row: DataRow, where: str, classes: Literal[2, 3]) -> Solution:
    choose_form(row, STEP_FORMS, where)
    listed = listed_in(row, "steps", where)
    if not listed:
        raise DataError(f"{where}, steps: there is none; a solution has at least one.")
    steps = [text_of(step, f"{where}, steps, item {number}") for number, step in enumerate(listed, 1)]
    given = listed_in(row, "labels", where, len(steps))
    read = _two_classes if classes == 2 else _three_classes
    return Solution(
        prompt_messages(row, "prompt", where),
        steps,
        [
            None if label is None else read(label, f"{where}, labels, item {number}")
            for number, label in enumerate(given, 1)
        ],
        flag(row["stopped"], f"{where}, stopped") if row.get("stopped") not in (None, "") else True,
        str(row.get("prompt_id") or ""),
        where,
    )


def _two_classes(label: Any, where: str) -> float:
    if not isinstance(label, bool) and number_of(label, where) == -1:
        raise DataError(
            f'{where}: -1 is a label of three classes; use loss = "process_3class", or write true and false.'
        )
    return share(label, where)


def _three_classes(label: Any, where: str) -> float:
    if isinstance(label, bool):
        return 1.0 if label else -1.0
    number = number_of(label, where)
    if number not in (-1, 0, 1):
        raise DataError(f"{where}: {number:g} is none of -1 (bad), 0 (neutral) and 1 (good).")
    return number


def build_steps(
    items: Sequence[Solution],
    tokenizer: PreTrainedTokenizerBase,
    *,
    separator: str = DEFAULT_SEPARATOR,
    max_length: int = 1024,
    overlong: Literal["error", "drop"] = "drop",
    where: str = "the solutions",
) -> UnitData:
    """A unit of one row per solution: its targets are the ends of labelled steps, ``fields["label"]`` theirs.

    Raises:
        DataError: a step contains the separator, a solution is too long under ``error``, none is left.
        UsageError: the template cannot be used; see ``chat.encode_conversation``.
    """
    data = UnitData()
    for item in items:
        check_separable(item, separator)
    sides = encode_completions(
        tokenizer,
        [item.prompt for item in items],
        [separator.join(item.steps) for item in items],
        stopped=[item.stopped for item in items],
        where=[item.where for item in items],
    )
    for index, (item, (prompt_ids, completion_ids)) in enumerate(zip(items, sides, strict=True)):
        ends = step_ends(completion_ids, tokenizer, separator)
        if len(ends) != len(item.steps):
            raise DataError(
                f"{item.where}: its {len(item.steps)} steps end in {len(ends)} places, since a token or the "
                "chat template joins two of them; set step_separator to a text that stands by itself."
            )
        judged = [(end, label) for end, label in zip(ends, item.labels, strict=True) if label is not None]
        if not judged:
            data.left_out[index] = UNLABELLED
            continue
        ids = np.asarray([*prompt_ids, *completion_ids], dtype=np.int64)
        targets = np.asarray([len(prompt_ids) + end for end, _ in judged], dtype=np.int64)
        labels = np.asarray([label for _, label in judged], dtype=np.float32)
        row = Row(ids, targets, prefix=len(prompt_ids), fields={"label": labels})
        identity = item.prompt_id or prompt_id(item.prompt)
        data.add(index, [row], identity, max_length=max_length, overlong=overlong, where=item.where)
    data.check_any(where, "solution")
    return data


def check_separable(item: Solution, separator: str) -> None:
    """Raises DataError where splitting the joined text would give other steps."""
    if separator.join(item.steps).split(separator) != item.steps:
        number = next((n for n, step in enumerate(item.steps, 1) if separator in step), 1)
        raise DataError(
            f"{item.where}, steps, item {number}: it holds the separator {separator!r} or runs into it; "
            "set step_separator to a text that no step contains."
        )


def step_ends(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, separator: str) -> list[int]:
    """Indices of the tokens that end the steps of a completion, in order.

    The token that completes each separator, and the last token unless only white space and special tokens
    follow the last separator. A step of nothing but white space is none. Ids are never tokenised again.
    """
    if not ids:
        return []
    tokens = list(ids)
    text = _decoded(tokenizer, tokens)

    def tokens_for(characters: int) -> int:
        """The smallest number of tokens whose text holds the first ``characters``."""

        def holds(count: int) -> bool:
            return _decoded(tokenizer, tokens[:count])[:characters] == text[:characters]

        return 1 + bisect_left(range(1, len(tokens) + 1), True, key=holds)

    ends: list[int] = []
    start = 0
    while (found := text.find(separator, start)) >= 0:
        if text[start:found].strip():
            ends.append(tokens_for(found + len(separator)) - 1)
        start = found + len(separator)
    rest = text[start:]
    for special in tokenizer.all_special_tokens:
        rest = rest.replace(special, "")
    if not ends or rest.strip():
        ends.append(len(tokens) - 1)
    return sorted(set(ends))


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False))
