"""Rendered texts as token ids, each different piece of text once.

A text is cut before the special tokens that its template writes. No other token can reach across such a
place, so the ids of the whole text are those of its pieces, and headers, system prompts and prompts that
several completions share are tokenised once. Cuts (the ends of headers and turns) are found likewise: the ids
of the text up to a cut are those of the pieces before it and of the beginning of the piece that it lies in.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from ridgeline.data.rendering import Rendered, at
from ridgeline.data.template import probe_messages, render
from ridgeline.data.words import ID, Words, encode, packed, unpacked
from ridgeline.schema.errors import DataError, RidgelineError, UsageError


@dataclass(frozen=True, slots=True)
class Tokens:
    """A conversation up to its last trained token: ids ``[T]`` (int32, read-only), and first and
    one-past-last trained token of each turn."""

    ids: npt.NDArray[np.int32]
    spans: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Numbers of a text's pieces, and of each cut the piece it lies in and the beginning of that piece."""

    pieces: list[int]
    cuts: list[tuple[int, int]]


class Tokeniser:
    """Turns rendered texts into ids; a missing beginning-of-sequence token is added, once, and no more."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.words = Words(tokenizer)
        self.bos = _bos(tokenizer)
        sealed = sealed_tokens(tokenizer)
        self.seal = re.compile("|".join(map(re.escape, sealed))) if sealed else None

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        plans, pieces = self._plans([Rendered(text, []) for text in texts])
        return [unpacked(self._with_bos(b"".join(pieces[n] for n in plan.pieces))) for plan in plans]

    def mark(self, texts: Sequence[Rendered]) -> list[Tokens]:
        """Ids of each text and where its trained turns lie among them.

        Raises:
            DataError: a trained turn without a token.
            UsageError: tokens merge across the end of a header in a way that cannot be cut.
        """
        plans, pieces = self._plans(texts)
        return [self._tokens(text, plan, pieces) for text, plan in zip(texts, plans, strict=True)]

    def _plans(self, texts: Sequence[Rendered]) -> tuple[list[_Plan], list[bytes]]:
        numbers: dict[str, int] = {}
        plans = [self._plan(text, numbers) for text in texts]
        return plans, self.words.encode(list(numbers))

    def _plan(self, rendered: Rendered, numbers: dict[str, int]) -> _Plan:
        def number(piece: str) -> int:
            return numbers.setdefault(piece, len(numbers))

        text = rendered.text
        found = [match.start() for match in self.seal.finditer(text)] if self.seal else []
        starts = found if found[:1] == [0] else [0, *found]
        cuts = []
        for cut in rendered.cuts:
            piece = max(bisect_left(starts, cut) - 1, 0)
            cuts.append((piece, number(text[starts[piece] : cut])))
        return _Plan([number(text[a:b]) for a, b in pairwise([*starts, len(text)])], cuts)

    def _tokens(self, text: Rendered, plan: _Plan, pieces: Sequence[bytes]) -> Tokens:
        parts = [pieces[number] for number in plan.pieces]
        before = list(accumulate(map(len, parts), initial=0))
        ids = b"".join(parts)
        cuts: list[int] = []
        for part, head in plan.cuts:
            beginning = pieces[head]
            if not parts[part].startswith(beginning):
                ids, cuts = self._in_pieces(ids, text)
                break
            cuts.append(before[part] + len(beginning))
        whole = self._with_bos(ids)
        places = [(cut + len(whole) - len(ids)) // ID for cut in cuts]
        spans = list(zip(places[::2], places[1::2], strict=True))
        if any(last <= first for first, last in spans):
            raise DataError(f"{at(text.where)}an assistant turn holds no token.")
        return Tokens(np.frombuffer(whole, dtype=np.intc), spans)

    def _in_pieces(self, whole: bytes, text: Rendered) -> tuple[bytes, list[int]]:
        """Ids and cuts of a text whose tokens merge across the header (content that begins with a newline).

        The header ends a token there when the model samples, so that is where the training text is cut too.
        """
        parts = encode(self.tokenizer, text.pieces())
        ids = b"".join(parts)
        if self.tokenizer.decode(unpacked(ids)) != self.tokenizer.decode(unpacked(whole)):
            raise UsageError(
                f"{at(text.where)}the tokenizer merges the assistant's header with the content behind it, "
                'so the loss mask has no definite place; use chat_template = "chatml".'
            )
        return ids, list(accumulate(map(len, parts)))

    def _with_bos(self, ids: bytes) -> bytes:
        return ids if ids.startswith(self.bos) else self.bos + ids


def sealed_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Special tokens of the chat template before which any text may be cut without a change of its ids.

    The tokenizer takes such tokens out of a text before it does anything else, from the left and the longest
    first. A token is found wherever it is written if nothing can begin before it and reach into it (its first
    character stands at the beginning of added tokens only), nothing longer begins with it, and it neither
    swallows white space nor asks for it.
    """
    if not tokenizer.is_fast or tokenizer.split_special_tokens:
        return []
    try:
        example = render(tokenizer, probe_messages(tokenizer))
    except RidgelineError:
        return []  # the conversation itself says what is wrong
    added = list(tokenizer.added_tokens_decoder.values())
    inside = {character for token in added for character in token.content[1:]}
    return [
        token.content
        for token in added
        if token.content in example
        and not (token.lstrip or token.rstrip or token.single_word or token.normalized)
        and token.content[0] not in inside
        and sum(other.content.startswith(token.content) for other in added) == 1
    ]


def _bos(tokenizer: PreTrainedTokenizerBase) -> bytes:
    """The beginning-of-sequence token if the model expects one: its tokenizer adds one to plain text."""
    first = tokenizer.bos_token_id
    if first is None or tokenizer("a")["input_ids"][:1] != [first]:
        return b""
    return packed([first])
