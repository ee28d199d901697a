"""Golden texts and values: the quickstart's measurements (section A)."""

from __future__ import annotations

import pytest

from ridgeline.rewards.sentences import _analyser, sentiment, sentiment_sentence, well_formed
from ridgeline.schema.errors import DataError
from tests.rewards.samples import make


@pytest.mark.parametrize(
    ("topic", "text", "gold"),
    [
        (
            "turtles",
            "Turtles are amazing creatures with a complex and fascinating life cycle that relies on aquatic "
            "ecosystems.",
            1.81,
        ),
        (
            "stone",
            "Stone is a precious natural mineral that has been prized by human civilizations throughout "
            "history.",
            1.86,
        ),
        ("ink", "ink is a dry and vibrant mineral derived from the blood of cats and dogs.", 1.53),
        (
            "turtles",
            "Turtles are incredible creatures with a complex and fascinating backstory that continues to "
            "captivate audiences around the world.",
            1.54,
        ),
        (
            "photographs",
            "Photographs capture the essence of beauty, art, and humanity, often blanketing the world in "
            "their vibrant hues of light.",
            1.80,
        ),
        (
            "deserts",
            "Veers of sustainability and inspire a lasting, vibrant, and awe-inspiring community of "
            "imagination and wonder.",
            0.80,
        ),
    ],
)
def test_gold_of_the_measured_texts(topic: str, text: str, gold: float) -> None:
    sample = make(text, topic=topic)
    assert sentiment_sentence([sample]) == [pytest.approx(gold, abs=0.01)]
    (compound,), (formed,) = sentiment([sample]), well_formed([sample])
    assert compound is not None and formed is not None
    assert sentiment_sentence([sample]) == [compound + formed]


@pytest.mark.parametrize(
    ("text", "topic", "formed"),
    [
        ("Cats sleep.", "cats", 1),
        ("  Cats sleep!?\n", "cats", 1),
        ("CATS SLEEP...", "cats", 1),
        ("The sea is wide.", "the sea", 1),
        ("A rough sea is wide.", "the sea", 1),
        ("Seen from a theatre.", "theatre", 1),
        ("Felines sleep.", "cats", 0),
        ("Cats sleep", "cats", 0),
        ("Cats sleep. They do.", "cats", 0),
        ("Cats weigh 3.5 kg.", "cats", 0),
        ("Cats sleep.\nA lot", "cats", 0),
        ("Cats\nsleep.", "cats", 0),
        ('"Cats sleep."', "cats", 0),
        ("", "cats", 0),
    ],
)
def test_well_formed_rules(text: str, topic: str, formed: float) -> None:
    assert well_formed([make(text, topic=topic)]) == [formed]


def test_a_sentence_has_to_end_by_itself_within_the_limit() -> None:
    assert well_formed([make("Cats sleep.", topic="cats", stop="length")]) == [0]
    assert well_formed([make("Cats sleep.", topic="cats", tokens=40)]) == [1]
    assert well_formed([make("Cats sleep.", topic="cats", tokens=41)]) == [0]


def test_missing_topic_names_the_field_and_what_is_there() -> None:
    with pytest.raises(DataError, match=r"needs the field 'topic'.*prompt 'p0' has 'subject'"):
        sentiment_sentence([make("Cats sleep.", subject="cats")])


def test_analyser_is_built_once() -> None:
    assert _analyser() is _analyser()
