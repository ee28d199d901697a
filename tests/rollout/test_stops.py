"""Stop strings across tokens, inside tokens, in halves of characters, and beside special tokens."""

from __future__ import annotations

import pytest
from tests.tiny import make_tokenizer

from ridgeline.rollout.stops import StopStrings

TOKENIZER = make_tokenizer()


def first_end(stops: StopStrings, tokens: list[int]) -> int | None:
    """How many tokens a completion has when it ends."""
    return next((n for n in range(1, len(tokens) + 1) if stops.ended(tokens[:n])), None)


def slowly(strings: list[str], tokens: list[int]) -> int | None:
    """The oracle: everything decoded again for every token."""
    texts = [TOKENIZER.decode(tokens[:n], skip_special_tokens=True) for n in range(1, len(tokens) + 1)]
    return next((n for n, text in enumerate(texts, 1) if any(string in text for string in strings)), None)


@pytest.mark.parametrize(
    "text, strings, left, found",
    [
        ("I like the sea, it is good", ["sea"], "I like the ", "sea"),
        ("I like the sea", ["like the"], "I ", "like the"),  # over several tokens
        ("I like the sea", ["ik"], "I l", "ik"),  # inside one
        ("one\n\ntwo", ["\n\n", "two"], "one", "\n\n"),
        ("one two", ["two", "ne t"], "o", "ne t"),  # the first in the text, not in the list
        ("naïve ✓ done", ["✓"], "naïve ", "✓"),
        ("naïve", ["ï"], "na", "ï"),
        ("a long text before it, and then: END of it", ["END"], "a long text before it, and then: ", "END"),
    ],
)
def test_found_as_soon_as_it_is_there(text: str, strings: list[str], left: str, found: str) -> None:
    tokens = TOKENIZER.encode(text)
    stops = StopStrings(TOKENIZER, strings)
    end = first_end(stops, tokens)
    assert end is not None and end == slowly(strings, tokens)
    assert stops.cut(tokens[:end]) == (left, found)


def test_half_a_character_is_none() -> None:
    tokens = TOKENIZER.encode("✓")
    assert len(tokens) == 3
    stops = StopStrings(TOKENIZER, ["✓"])
    assert [stops.ended(tokens[:n]) for n in (1, 2, 3)] == [False, False, True]


def test_special_tokens_between_change_nothing() -> None:
    special = TOKENIZER.convert_tokens_to_ids("<|im_start|>")
    tokens = [token for each in TOKENIZER.encode("END") for token in [each, *[special] * 9]]
    assert first_end(StopStrings(TOKENIZER, ["END"]), tokens) == slowly(["END"], tokens) is not None


def test_no_strings_never_stop() -> None:
    stops = StopStrings(TOKENIZER, [])
    assert not stops.ended(TOKENIZER.encode("anything"))
    assert stops.cut(TOKENIZER.encode("anything")) == ("anything", "")
