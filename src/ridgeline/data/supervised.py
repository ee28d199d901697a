"""Demonstrations as rows with a loss mask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from ridgeline.data.bulk import in_bulk
from ridgeline.data.chat import Conversation, TrainOn, marked
from ridgeline.data.formats import Instruction
from ridgeline.data.tokenise import Tokens
from ridgeline.models.batch import Row, consecutive
from ridgeline.schema.errors import DataError

Overlong = Literal["error", "drop", "truncate"]

TOO_LONG = "longer than max_length"
NOTHING_LEFT = "no trained token left after truncation"


@dataclass(slots=True)
class SupervisedData:
    """What became of the demonstrations.

    rows: what is trained on, in the order given.
    source: index of the demonstration each row came from.
    left_out: index of each demonstration that was left out, and why.
    truncated: rows that were cut at max_length and kept.
    """

    rows: list[Row] = field(default_factory=list)
    source: list[int] = field(default_factory=list)
    left_out: dict[int, str] = field(default_factory=dict)
    truncated: int = 0

    @property
    def dropped(self) -> dict[str, int]:
        """Rows left out, counted by reason."""
        return dict(Counter(self.left_out.values()))

    @property
    def trained_tokens(self) -> int:
        """Tokens that carry loss, over all rows."""
        return sum(len(row.targets) for row in self.rows)


@in_bulk
def build(
    items: Sequence[Instruction],
    tokenizer: PreTrainedTokenizerBase,
    *,
    train_on: TrainOn = "assistant",
    max_length: int = 1024,
    overlong: Overlong = "error",
) -> SupervisedData:
    """Render, tokenise and mask demonstrations.

    ``max_length`` counts tokens of the rendered conversation up to its last trained token. ``overlong``:
    ``error`` names the first row that is longer, ``drop`` leaves such rows out, ``truncate`` keeps their
    beginning; a row that keeps no trained token is dropped. All of it is counted in the result.

    Raises:
        DataError: a row is too long under ``error``, or no row is left.
        UsageError: the template cannot be used; see ``chat.encode_conversation``.
    """
    data = SupervisedData()
    asked = (Conversation(item.messages, train_on, where=item.where) for item in items)
    for index, (item, tokens) in enumerate(zip(items, marked(tokenizer, asked), strict=True)):
        length = len(tokens.ids)
        if length > max_length and overlong == "error":
            raise DataError(too_long(item.where, length, max_length, '"drop" or "truncate"'))
        if length > max_length and overlong == "drop":
            data.left_out[index] = TOO_LONG
            continue
        row = _row(tokens, max_length)
        if item.weight != 1:
            row.values["weight"] = item.weight
        if len(row.targets) == 0:
            data.left_out[index] = NOTHING_LEFT
            continue
        data.truncated += length > max_length
        data.rows.append(row)
        data.source.append(index)
    if not data.rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in data.dropped.items())
        raise DataError(f"no row is left to train on ({reasons or 'there was none'}); raise max_length.")
    return data


def too_long(where: str, length: int, max_length: int, choices: str) -> str:
    """The sentence about a row that exceeds the limit."""
    return (
        f"{where or 'a row'}: {length} tokens, but max_length is {max_length}; "
        f"raise it, or set overlong = {choices}."
    )


def _row(tokens: Tokens, max_length: int) -> Row:
    ids = tokens.ids[:max_length].astype(np.int64)
    # The first token has none before it to be predicted from.
    turns = [
        consecutive(max(first, 1), min(last, len(ids))) for first, last in tokens.spans if first < len(ids)
    ]
    if len(turns) == 1:
        return Row(ids, turns[0])
    return Row(ids, np.concatenate(turns) if turns else consecutive(0, 0))
