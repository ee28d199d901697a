"""Ids of texts, each different word tokenised once.

A tokenizer that cuts text into words before it merges characters gives a word the same ids wherever it
stands. The Rust core takes about a microsecond a token; to cut a word off and look it up takes a quarter of
that.

Where words surely end is known for the patterns below: none of them matches a space anywhere but at its
beginning, unless it matches white space only. So a space behind a visible character always begins a word.
For any other tokenizer the whole text is one word.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any

from transformers import PreTrainedTokenizerBase

ID = array("i").itemsize
"""Bytes of one id."""
BATCH = 1024
"""Texts in one call of the Rust core, whose encodings take about 100 bytes a token while they live."""
KEPT = 2**18
"""Words that are remembered, and how long they may be: at most about 100 MB."""
LONGEST = 40

CUT = re.compile(r"(?<=[!-~])(?= )")
LETTERS_WITH_CASE = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
)
PATTERNS = {
    # GPT-2, SmolLM2, OLMo, and Llama 3, Qwen 2 and 3, GPT-4o.
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    LETTERS_WITH_CASE + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


class Words:
    """Tokenises texts as they are: nothing added, padded or cut."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.separable = has_words(tokenizer)
        self.known: dict[str, bytes] = {}

    def encode(self, texts: Sequence[str]) -> list[bytes]:
        """Ids of each text, ``ID`` bytes each."""
        if not self.separable:
            return encode(self.tokenizer, texts)
        words = [CUT.split(text) for text in texts]
        # Sorted, so that the work is the same in every process.
        unknown = sorted(set(chain.from_iterable(words)) - self.known.keys())
        self.known.update(zip(unknown, encode(self.tokenizer, unknown), strict=True))
        found = [b"".join(map(self.known.__getitem__, each)) for each in words]
        for word in unknown:
            if len(word) > LONGEST:
                del self.known[word]
        if len(self.known) > KEPT:
            self.known.clear()
        return found


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[bytes]:
    """Ids of each text by the tokenizer itself, ``ID`` bytes each."""
    if not tokenizer.is_fast:
        return [packed(tokenizer(text, add_special_tokens=False, verbose=False).input_ids) for text in texts]
    core = tokenizer.backend_tokenizer
    # What transformers sets before each call; its own call turns every encoding into dictionaries.
    core.no_padding()
    core.no_truncation()
    core.encode_special_tokens = tokenizer.split_special_tokens
    ids: list[bytes] = []
    for start in range(0, len(texts), BATCH):
        found = core.encode_batch_fast(list(texts[start : start + BATCH]), add_special_tokens=False)
        ids += [packed(one.ids) for one in found]
    return ids


def unpacked(ids: bytes) -> list[int]:
    """The numbers in ``ids``."""
    return array("i", ids).tolist()


def packed(ids: Sequence[int]) -> bytes:
    """The inverse of ``unpacked``."""
    return array("i", ids).tobytes()


def has_words(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether ``CUT`` never changes the ids of a text.

    Words are cut by one of ``PATTERNS``, merged without chance, normalised in no way that reaches across a
    space, and no added token holds a place to cut or takes white space around it.
    """
    if not tokenizer.is_fast:
        return False
    core = tokenizer.backend_tokenizer
    added = tokenizer.added_tokens_decoder.values()
    return (
        _cuts_words(_state(core.pre_tokenizer))
        and _state(core.normalizer).get("type", "NFC") == "NFC"
        and _merges_surely(core.model)
        and not any(token.lstrip or token.rstrip or CUT.search(token.content) for token in added)
    )


def _merges_surely(model: Any) -> bool:
    return type(model).__name__ == "BPE" and not model.dropout and not model.continuing_subword_prefix


def _cuts_words(state: dict[str, Any]) -> bool:
    if state.get("type") == "Sequence":
        first, *rest = state["pretokenizers"]
        if first["type"] == "Digits":  # cuts between characters of text alone, wherever it stands
            return len(rest) == 1 and _cuts_words(rest[0])
        return len(rest) == 1 and _splits(first) and _is_bytes(rest[0]) and not rest[0]["use_regex"]
    return _is_bytes(state) and bool(state["use_regex"])


def _is_bytes(state: dict[str, Any]) -> bool:
    return state.get("type") == "ByteLevel" and not state["add_prefix_space"]


def _splits(state: dict[str, Any]) -> bool:
    return (
        state["type"] == "Split"
        and state["pattern"].get("Regex") in PATTERNS
        and state["behavior"] == "Isolated"
        and not state["invert"]
    )


def _state(part: Any) -> dict[str, Any]:
    state: dict[str, Any] = {} if part is None else json.loads(part.__getstate__())
    return state
