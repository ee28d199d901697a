from __future__ import annotations

import pytest

from ridgeline.rewards.answers import addition, exact_match, last_number
from ridgeline.schema.errors import DataError
from tests.rewards.samples import make


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("13", 13, 1),
        ("4 + 9 = 13", "13", 1),
        ("4 + 9 = 13.", 13, 1),
        ("4+9=013", 13, 1),
        ("13.0", 13, 1),
        ("13 = 4 + 9", 13, 0),
        ("113", 13, 0),
        ("8.13", 13, 0),
        ("-13", 13, 0),
        ("1 - 13", 13, 1),
        ("1-13", 13, 1),
        ("1 + -3 = -2", -2, 1),
        ("1,300", 1300, 1),
        ("1, 2, 300", 300, 1),
        ("thirteen", 13, 0),
        ("", 13, 0),
        ("9" * 5000, 13, 0),
        ("0", 0, 1),
    ],
)
def test_addition_reads_the_last_number(text: str, answer: int | str, right: float) -> None:
    assert addition([make(text, answer=answer)]) == [right]


def test_addition_needs_a_stop_and_an_answer() -> None:
    assert addition([make("13", answer=13, stop="length")]) == [0]
    assert addition([make("no number", answer="unknown")]) == [0]  # None equals no answer
    with pytest.raises(DataError, match="'answer'"):
        addition([make("13", solution=13)])
    with pytest.raises(DataError, match="no fields"):
        addition([make("13")])


@pytest.mark.parametrize(
    ("text", "number"),
    [("a 1 b -02 c", "-2"), ("-0", "0"), ("\u22127", "-7"), ("x", None), ("1.50", "1.5"), ("(3)-4", "4")],
)
def test_last_number_has_one_spelling(text: str, number: str | None) -> None:
    assert last_number(text) == number


def test_exact_match_strips_and_nothing_else() -> None:
    samples = [make(" Paris\n", answer="Paris"), make("paris", answer="Paris"), make("7", answer=7)]
    cut = make("Paris", answer="Paris", stop="length")
    assert exact_match([*samples, cut]) == [1, 0, 1, 0]
