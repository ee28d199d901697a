"""Rows of a pretraining mix: plain text, or conversations of which the answers count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ridgeline.data.formats import instructions
from ridgeline.data.sources import read_rows
from ridgeline.data.supervised import build
from ridgeline.models.batch import Row, Unit
from ridgeline.schema.errors import DataError
from ridgeline.schema.stages.rl import Pretrain


def pretraining_units(config: Pretrain, tokenizer: PreTrainedTokenizerBase) -> tuple[list[Unit], int]:
    """One unit a row, and how many of them were cut at ``max_length``.

    Raises:
        DataError: a text that is missing, empty or no text, or malformed instruction rows.
    """
    rows = read_rows(config.data)
    if any("text" in row for row in rows):
        return _texts(rows, config, tokenizer)
    items = instructions(rows, config.data)
    data = build(items, tokenizer, max_length=config.max_length, overlong="truncate")
    return [[row] for row in data.rows], data.truncated


def _texts(
    rows: Sequence[Mapping[str, Any]], config: Pretrain, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[Unit], int]:
    units: list[Unit] = []
    cut = 0
    for number, row in enumerate(rows, start=1):
        text = row.get("text")
        if not isinstance(text, str):
            raise DataError(f"{config.data}, row {number}, text: expected text, got {type(text).__name__}.")
        ids = np.asarray(tokenizer(text)["input_ids"], dtype=np.int64)
        if len(ids) < 2:
            raise DataError(f"{config.data}, row {number}, text: fewer than 2 tokens; remove the row.")
        cut += len(ids) > config.max_length
        ids = ids[: config.max_length]
        units.append([Row(ids, np.arange(1, len(ids), dtype=np.int64))])
    return units, cut
