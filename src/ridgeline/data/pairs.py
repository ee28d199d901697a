"""Preferences as units of two rows that share their prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from ridgeline.data.bulk import in_bulk
from ridgeline.data.chat import Conversation, marked
from ridgeline.data.formats import prompt_id
from ridgeline.data.tokenise import Tokens
from ridgeline.data.units import UnitData, completion_of
from ridgeline.models.batch import Row
from ridgeline.schema.records import Preference

IDENTICAL = "chosen and rejected are the same tokens"

PairData = UnitData
"""Units are ``[chosen, rejected]``, with ``values["label"]`` 1 and 0, all completion tokens targets."""


@in_bulk
def build_pairs(
    items: Sequence[Preference],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = 1024,
    overlong: Literal["error", "drop"] = "drop",
    where: str = "the preferences",
) -> PairData:
    """Render and tokenise preferences; ``max_length`` counts the tokens of prompt and longer completion.

    A pair whose two sides are the same tokens says nothing and is dropped; so is, under ``drop``, one that is
    too long. Both are counted.

    Raises:
        DataError: a pair is too long under ``error``, or no pair is left.
        UsageError: the template cannot be used; see ``chat.encode_conversation``.
    """
    data = PairData()
    sides = marked(tokenizer, _sides(items, where))
    for index, item in enumerate(items):
        unit = [_row(next(sides), label) for label in (1.0, 0.0)]
        if unit[0].prefix == unit[1].prefix and np.array_equal(unit[0].ids, unit[1].ids):
            data.left_out[index] = IDENTICAL
            continue
        data.add(
            index,
            unit,
            item.prompt_id or prompt_id(item.prompt),
            max_length=max_length,
            overlong=overlong,
            where=f"{where}, row {index + 1}",
        )
    data.check_any(where, "pair")
    return data


def _sides(items: Sequence[Preference], where: str) -> Iterator[Conversation]:
    """Chosen and rejected of each preference, in turn."""
    for number, item in enumerate(items, start=1):
        place = f"{where}, row {number}"
        yield Conversation.answered(
            item.prompt, item.chosen, stopped=item.chosen_stopped, where=f"{place}, chosen"
        )
        yield Conversation.answered(
            item.prompt, item.rejected, stopped=item.rejected_stopped, where=f"{place}, rejected"
        )


def _row(tokens: Tokens, label: float) -> Row:
    row = completion_of(tokens)
    row.values["label"] = label
    return row
