"""Sizes of data without training on it: how many rows, and how long. Nothing is downloaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from transformers import PreTrainedTokenizerBase

from ridgeline.data import formats
from ridgeline.data.chat import encode_conversations, encode_prompts
from ridgeline.data.outcomes import Outcome
from ridgeline.data.rankings import Ranking
from ridgeline.data.sources import read_rows
from ridgeline.data.steps import Solution
from ridgeline.schema.records import Message, Preference
from ridgeline.schema.reward_kinds import RewardLoss
from ridgeline.stages.reward_model_data import read_items
from ridgeline.workbench.shapes import Shape

LOOKED_AT = 200
"""Rows that are tokenised to learn a mean length."""

Conversation = list[Message]
PROMPT, INSTRUCTION, PREFERENCE, LABELLED, TEXT = "prompt", "instruction", "preference", "labelled", "text"
ASKED = "asked"
"""Prompts, or demonstrations of which only what was asked is read."""


@dataclass(frozen=True)
class DataFacts:
    """Rows of a source, completions in a row, and the mean length (tokens) of one with its prompt."""

    rows: int
    tokens: float
    counted: bool = True
    """False where the source is not on this machine and the numbers are assumptions."""
    sides: float = 1.0
    prompt: float = 0.0
    """Of ``tokens`` those that are read and not learned."""

    @property
    def shape(self) -> Shape:
        """What a row becomes: all its completions after one prompt."""
        return Shape(self.prompt, self.tokens - self.prompt, self.sides)


def assumed(kind: str) -> DataFacts:
    """What is taken for data that is not on this machine."""
    if kind in (PROMPT, ASKED):
        return DataFacts(200, 32.0, False, prompt=32.0)
    pairs = kind in (PREFERENCE, "bradley_terry", *_RANKINGS)
    return DataFacts(1000, 256.0, False, 2.0 if pairs else 1.0, 0.0 if kind == TEXT else 64.0)


_RANKINGS = ("grouped", "plackett_luce")


def data_facts(source: str, kind: str, tokenizer: PreTrainedTokenizerBase) -> DataFacts:
    """Count ``source`` as rows of ``kind``: one of the names above, or the loss of a reward model.

    Raises:
        UsageError, DataError: a local file that is missing or wrong.
    """
    if not Path(source).exists() and not Path(source).suffix:
        return assumed(kind)
    rows = read_rows(source)
    part = rows[:LOOKED_AT]
    if kind in (PROMPT, ASKED):
        lengths = [len(ids) for ids in encode_prompts(tokenizer, _asked(part, source, kind))]
        mean = sum(lengths) / len(lengths)
        return DataFacts(len(rows), mean, prompt=mean)
    if kind == TEXT and "text" in part[0]:
        lengths = [len(ids) for ids in tokenizer([str(row["text"]) for row in part])["input_ids"]]
        return DataFacts(len(rows), sum(lengths) / len(lengths))
    units = _conversations(part, source, kind)
    conversations = [conversation for unit in units for conversation in unit]
    encoded = encode_conversations(tokenizer, conversations, "last")
    lengths = [len(each.ids) for each in encoded]
    prompt = 0.0 if kind == TEXT else sum(int((~each.trained).sum()) for each in encoded) / len(encoded)
    sides, per_row = len(lengths) / len(units), len(units) / len(part)
    return DataFacts(round(len(rows) * per_row), sum(lengths) / len(lengths), sides=sides, prompt=prompt)


def taken_apart(pairs: DataFacts) -> DataFacts:
    """The completions of preference pairs, one by one."""
    return DataFacts(math.ceil(pairs.rows * pairs.sides), pairs.tokens, pairs.counted, prompt=pairs.prompt)


def _asked(rows: Sequence[formats.DataRow], source: str, kind: str) -> list[Conversation]:
    if kind == PROMPT or formats.detect(rows, source) == "prompt":
        return [row.messages for row in formats.prompts(rows, source)]
    return [row.messages[:-1] for row in formats.instructions(rows, source)]


def _conversations(rows: Sequence[formats.DataRow], source: str, kind: str) -> list[list[Conversation]]:
    """For each unit that a stage makes of ``rows``, its conversations."""
    if kind == LABELLED and formats.detect(rows, source) != "preference":
        return [[_answered(each.prompt, each.completion)] for each in formats.unpaired(rows, source)]
    if kind == LABELLED:
        return [[side] for pair in formats.preferences(rows, source) for side in _sides(pair)]
    if kind in get_args(RewardLoss):
        return [_sides(item) for item in read_items(rows, source, kind)]  # type: ignore[arg-type]
    if kind == PREFERENCE:
        return [_sides(pair) for pair in formats.preferences(rows, source)]
    return [[each.messages] for each in formats.instructions(rows, source)]


def _sides(item: Preference | Ranking | Outcome | Solution) -> list[Conversation]:
    if isinstance(item, Preference):
        texts = [item.chosen, item.rejected]
    elif isinstance(item, Ranking):
        texts = item.completions
    else:
        texts = [item.completion if isinstance(item, Outcome) else "\n\n".join(item.steps)]
    return [_answered(item.prompt, text) for text in texts]


def _answered(prompt: Conversation, text: str) -> Conversation:
    return [*prompt, Message("assistant", text)]
