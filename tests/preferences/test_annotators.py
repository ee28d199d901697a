from __future__ import annotations

import math
import random

import pytest

from ridgeline.preferences.annotators import SimulatedAnnotator, sigmoid
from ridgeline.schema.errors import DataError, UsageError
from ridgeline.schema.records import Message, Preference, Sample
from tests.rewards.samples import make

PROMPT = [Message("user", "Write.")]


def pair(number: int, gold_a: float, gold_b: float) -> tuple[Sample, Sample]:
    a, b = make("a", f"p{number}", 0), make("b", f"p{number}", 1)
    a.rewards["gold"], b.rewards["gold"] = gold_a, gold_b
    return a, b


def preferences(count: int, gap: float, **options: object) -> list[Preference]:
    settings: dict[str, object] = {"temperature": 0.5, "seed": 1, **options}
    annotator = SimulatedAnnotator(**settings)  # type: ignore[arg-type]
    return [annotator.annotate(*pair(n, 1.0 + gap, 1.0), PROMPT) for n in range(count)]


@pytest.mark.parametrize("gap", [-1.0, -0.2, 0.0, 0.4, 0.9])
def test_label_frequency_follows_the_sigmoid(gap: float) -> None:
    count = 4000
    expected = 1 / (1 + math.exp(-gap / 0.5))
    share = sum(p.chosen == "a" for p in preferences(count, gap)) / count
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / count)


def test_shuffled_labels_are_fair_coins_on_the_same_presentation() -> None:
    count = 4000
    true, shuffled = preferences(count, 3.0), preferences(count, 3.0, shuffle_labels=True)
    share = sum(p.chosen == "a" for p in shuffled) / count
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(count)
    shown_first = [
        [p.chosen if p.first_shown == "chosen" else p.rejected for p in ps] for ps in (true, shuffled)
    ]
    assert shown_first[0] == shown_first[1]
    assert true[0].annotator == "simulated: gold, temperature 0.5"
    assert shuffled[0].annotator == "simulated, shuffled: gold, temperature 0.5"


def test_order_shown_is_a_coin_independent_of_the_label() -> None:
    count = 4000
    shown = preferences(count, 0.3)
    bound = 4 * 0.5 / math.sqrt(count)
    assert abs(sum(p.first_shown == "chosen" for p in shown) / count - 0.5) < bound
    a_first = sum((p.first_shown == "chosen") == (p.chosen == "a") for p in shown) / count
    assert abs(a_first - 0.5) < bound


def test_draws_depend_neither_on_order_nor_on_company() -> None:
    annotator = SimulatedAnnotator(temperature=0.5, seed=7)
    pairs = [pair(n, 0.1 * n, 0.5) for n in range(20)]
    expected = [annotator.annotate(a, b, PROMPT) for a, b in pairs]
    order = random.Random(1).sample(range(20), 20)
    again = SimulatedAnnotator(temperature=0.5, seed=7)
    assert {n: again.annotate(*reversed(pairs[n]), PROMPT) for n in order} == dict(enumerate(expected))
    other = SimulatedAnnotator(temperature=0.5, seed=8)
    assert [other.annotate(a, b, PROMPT) for a, b in pairs] != expected


def test_record_holds_scores_and_stops() -> None:
    a, b = make("good", "p", 3, stop="length"), make("bad", "p", 5)
    a.rewards["taste"], b.rewards["taste"] = 50.0, -50.0
    annotator = SimulatedAnnotator(temperature=0.3, seed=0, gold_name="sentiment", gold="taste")
    preference = annotator.annotate(b, a, PROMPT)
    assert (preference.chosen, preference.rejected) == ("good", "bad")
    assert preference.scores == {"chosen": 50.0, "rejected": -50.0}
    assert (preference.chosen_stopped, preference.rejected_stopped) == (False, True)
    assert preference.prompt == PROMPT and preference.prompt_id == "p"
    assert preference.annotator == "simulated: sentiment, temperature 0.3"


def test_bad_pairs_and_settings_are_refused() -> None:
    annotator = SimulatedAnnotator(temperature=1.0, seed=0)
    with pytest.raises(DataError, match="sample 0 of prompt 'p0' has no reward 'gold'"):
        annotator.annotate(make("a"), make("b", index=1), PROMPT)
    with pytest.raises(ValueError, match="not a pair"):
        annotator.annotate(make("a"), make("b", "other", 1), PROMPT)
    with pytest.raises(UsageError, match="temperature"):
        SimulatedAnnotator(temperature=0.0, seed=0)


def test_sigmoid_saturates_without_overflow() -> None:
    assert sigmoid(-1e6) == 0.0 and sigmoid(1e6) == 1.0 and sigmoid(0.0) == 0.5
