"""Tokenised conversations on disk, addressed by content, shared by stages and runs.

An entry holds one block of conversations. Its name is a digest of the tokenizer with its chat template, of
the software, and of what was said and what of it is trained; see ``models.content_cache``. So a file that
grows or loses a row keeps the entries of the blocks before, and memory stays that of a block.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from ridgeline.data.tokenise import Tokens
from ridgeline.models.content_cache import ContentCache, key_of
from ridgeline.models.embedded import cache_folder
from ridgeline.schema.records import Message

LIMIT = 2 * 2**30
"""Bytes that the cache may hold: about 500 million tokens."""
FEWEST = 2048
"""Rows of a block that is worth an entry. Rendering and tokenising that many takes 0.1 to 0.2 s of CPU time;
an entry 0.01 s, a file, and once 0.02 s for the tokenizer's digest."""
CLOCK = "strftime_now"


class Asked(Protocol):
    """What decides the tokens of a conversation."""

    @property
    def messages(self) -> Sequence[Message]: ...
    @property
    def train_on(self) -> str: ...
    @property
    def stopped(self) -> bool: ...


class TokenCache:
    """Blocks of conversations under one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.digest: str | None = None
        # A template that asks for the time does not depend on its input alone.
        self.usable = tokenizer.is_fast and CLOCK not in str(tokenizer.chat_template)

    def tokens(self, block: Sequence[Asked], make: Callable[[], list[Tokens]]) -> list[Tokens]:
        """The tokens of ``block``, as they were kept or as ``make`` makes them."""
        if len(block) < FEWEST or not self.usable:
            return make()
        cache = ContentCache(default_folder(), LIMIT)
        key = key_of([self._tokenizer_digest(), _said(block)])
        arrays = cache.read(key)
        if arrays is not None:
            return _unpack(arrays)
        made = make()
        cache.write(key, _pack(made))
        return made

    def _tokenizer_digest(self) -> str:
        if self.digest is None:
            self.digest = tokenizer_digest(self.tokenizer)
        return self.digest


def default_folder() -> Path:
    """Beside the converted embedded model."""
    return cache_folder() / "tokens"


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """32 hexadecimal digits that depend on whatever decides how a fast tokenizer renders and tokenises."""
    core = tokenizer.backend_tokenizer
    core.no_padding()
    core.no_truncation()
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return key_of(
        [
            *(version(name) for name in ("ridgeline", "transformers", "tokenizers", "jinja2")),
            type(tokenizer).__name__,
            core.to_str(),
            json.dumps(tokenizer.chat_template),
            json.dumps(special, sort_keys=True),
            tokenizer.split_special_tokens,
        ]
    )


def _said(block: Sequence[Asked]) -> str:
    return json.dumps(
        [
            [one.train_on, one.stopped, [(message.role, message.content) for message in one.messages]]
            for one in block
        ]
    )


def _pack(block: Sequence[Tokens]) -> dict[str, npt.NDArray[Any]]:
    """ids: all in a row, ``[T]``; lengths, turns: of each conversation, ``[N]``; spans: ``[turns, 2]``."""
    return {
        "ids": np.concatenate([tokens.ids for tokens in block]),
        "lengths": np.array([len(tokens.ids) for tokens in block], dtype=np.int32),
        "turns": np.array([len(tokens.spans) for tokens in block], dtype=np.int32),
        "spans": np.array([span for tokens in block for span in tokens.spans], dtype=np.int32),
    }


def _unpack(arrays: dict[str, npt.NDArray[Any]]) -> list[Tokens]:
    ids = np.split(arrays["ids"], np.cumsum(arrays["lengths"])[:-1])
    spans = iter([(first, last) for first, last in arrays["spans"].tolist()])
    return [
        Tokens(each, [next(spans) for _ in range(turns)])
        for each, turns in zip(ids, arrays["turns"].tolist(), strict=True)
    ]
