"""Conversational rows for the timing of data preparation, in the tokenizer's own words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

_SIGNS = (".", ",", "?", ".\n\n", ":", " 42")
_ANSWERS = {"sft": ("completion",), "preference": ("chosen", "rejected")}


def write_rows(path: Path, kind: str, count: int, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
    """``count`` JSON lines: a prompt of 10 to 60 words, and one answer or two of 15 to 80.

    Words are drawn by Zipf's law in the order of the tokenizer's merges, about their frequency in English.
    """
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    pieces = [piece[1:] for piece, _ in vocabulary if piece[:1] == "\u0120"]
    words = [piece for piece in pieces if piece.isalpha() and piece.isascii()] or ["word"]
    share = 1 / np.arange(1, len(words) + 1)
    random = np.random.default_rng(seed)
    cumulative = np.cumsum(share / share.sum())

    def say(role: str, fewest: int, most: int) -> list[dict[str, str]]:
        places = np.searchsorted(cumulative, random.random(int(random.integers(fewest, most))))
        chosen = [words[min(place, len(words) - 1)] for place in places.tolist()]
        for place in range(9, len(chosen), 12):
            chosen[place] += str(random.choice(_SIGNS))
        return [{"role": role, "content": " ".join(chosen).strip().capitalize() + "."}]

    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            row: dict[str, Any] = {"prompt": say("user", 10, 60)}
            row |= {name: say("assistant", 15, 80) for name in _ANSWERS[kind]}
            file.write(json.dumps(row) + "\n")
