"""Demonstrations as rows with a loss mask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from ridgeline.data.chat import Encoded, TrainOn, encode_conversations
from ridgeline.data.formats import Instruction
from ridgeline.models.batch import Row
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
    places = [item.where for item in items]
    encoded = encode_conversations(tokenizer, [item.messages for item in items], train_on, where=places)
    for index, item in enumerate(encoded):
        if len(item.ids) > max_length and overlong == "error":
            raise DataError(too_long(places[index], len(item.ids), max_length, '"drop" or "truncate"'))
        if len(item.ids) > max_length and overlong == "drop":
            data.left_out[index] = TOO_LONG
            continue
        row = _row(item, max_length)
        if items[index].weight != 1:
            row.values["weight"] = items[index].weight
        if len(row.targets) == 0:
            data.left_out[index] = NOTHING_LEFT
            continue
        data.truncated += len(item.ids) > max_length
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


def _row(encoded: Encoded, max_length: int) -> Row:
    targets = np.flatnonzero(encoded.trained[:max_length]).astype(np.int64)
    # The first token has none before it to be predicted from.
    return Row(np.asarray(encoded.ids[:max_length], dtype=np.int64), targets[targets > 0])
