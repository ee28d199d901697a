"""Stop strings: a completion ends when its text contains one, wherever tokens begin and end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from transformers import PreTrainedTokenizerBase

from ridgeline.data.pieces import HALF


class StopStrings:
    """Looks for ``strings`` in what tokens decode to, special tokens left out.

    A token other than a special one stands for a byte at least, so only as many last tokens have to be read
    as the longest string has bytes. Half a character decodes to a replacement character, which no string
    matches before its last byte is there.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strings: Sequence[str]) -> None:
        self.tokenizer, self.strings = tokenizer, strings
        self._special = frozenset(tokenizer.all_special_ids)
        self._may_end: dict[int, bool] = {}
        # One more, as some decoders drop a space at the beginning of what they are given.
        self._reach = 1 + max((len(string.encode()) for string in strings), default=0)

    def ended(self, tokens: Sequence[int]) -> bool:
        """Whether a completion whose last token is new ends with it."""
        if not self._may_end_with(tokens[-1]):
            return False
        backwards = (token for token in reversed(tokens) if token not in self._special)
        tail = list(islice(backwards, self._reach))[::-1]
        # The tail alone may decode to something else than behind the rest; a hit is rare enough to check.
        return self._first(self._text(tail)) is not None and self._first(self._text(tokens)) is not None

    def _may_end_with(self, token: int) -> bool:
        """Whether a string's last character, or half of one, is in ``token``; most are done with here."""
        known = self._may_end.get(token)
        if known is None:
            # Behind another one, as a space at the beginning may be dropped.
            text = self._text([token, token])
            known = HALF in text or any(string[-1] in text for string in self.strings)
            self._may_end[token] = known
        return known

    def cut(self, tokens: Sequence[int]) -> tuple[str, str]:
        """The text of ``tokens`` before the first stop string, and that string ("": there is none)."""
        text = self._text(tokens)
        first = self._first(text)
        return (text, "") if first is None else (text[: first[0]], self.strings[first[1]])

    def _first(self, text: str) -> tuple[int, int] | None:
        """Where the first string begins, and its number; of two that begin together the first listed."""
        places = [(text.find(string), number) for number, string in enumerate(self.strings)]
        return min((place for place in places if place[0] >= 0), default=None)

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))
