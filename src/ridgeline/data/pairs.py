"""Preferences as units of two rows that share their prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from transformers import PreTrainedTokenizerBase

from ridgeline.data.chat import encode_completions
from ridgeline.data.formats import prompt_id
from ridgeline.data.units import UnitData
from ridgeline.models.batch import Row, completion_row
from ridgeline.schema.records import Preference

IDENTICAL = "chosen and rejected are the same tokens"

PairData = UnitData
"""Units are ``[chosen, rejected]``, with ``values["label"]`` 1 and 0, all completion tokens targets."""


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
    sides = _encode_sides(items, tokenizer, where)
    for index, item in enumerate(items):
        if sides[2 * index] == sides[2 * index + 1]:
            data.left_out[index] = IDENTICAL
            continue
        data.add(
            index,
            [_row(sides[2 * index], label=1.0), _row(sides[2 * index + 1], label=0.0)],
            item.prompt_id or prompt_id(item.prompt),
            max_length=max_length,
            overlong=overlong,
            where=f"{where}, row {index + 1}",
        )
    data.check_any(where, "pair")
    return data


def _encode_sides(
    items: Sequence[Preference], tokenizer: PreTrainedTokenizerBase, where: str
) -> list[tuple[list[int], list[int]]]:
    """Chosen and rejected of each preference, interleaved."""
    places = [
        f"{where}, row {number}, {side}"
        for number in range(1, len(items) + 1)
        for side in ("chosen", "rejected")
    ]
    return encode_completions(
        tokenizer,
        [item.prompt for item in items for _ in range(2)],
        [text for item in items for text in (item.chosen, item.rejected)],
        stopped=[flag for item in items for flag in (item.chosen_stopped, item.rejected_stopped)],
        where=places,
    )


def _row(side: tuple[list[int], list[int]], *, label: float) -> Row:
    row = completion_row(*side)
    row.values["label"] = label
    return row
