from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import pytest

from ridgeline.preferences.pairing import draw_pairs
from ridgeline.schema.records import Sample
from tests.rewards.samples import batch, make

Key = tuple[str, int, int]


def keys(pairs: list[tuple[Sample, Sample]]) -> list[Key]:
    assert all(a.prompt_id == b.prompt_id for a, b in pairs)
    return [(a.prompt_id, a.index, b.index) for a, b in pairs]


def test_pairs_within_prompts_without_repetition_whatever_the_order() -> None:
    samples = batch(5, 4)
    drawn = draw_pairs(samples, 12, 3, gold=None)
    assert len(set(keys(drawn.pairs))) == 12 and drawn.available == 30
    assert all(i < j for _, i, j in keys(drawn.pairs))
    shuffled = random.Random(0).sample(samples, len(samples))
    assert keys(draw_pairs(shuffled, 12, 3, gold=None).pairs) == keys(drawn.pairs)
    assert keys(draw_pairs(samples, 12, 4, gold=None).pairs) != keys(drawn.pairs)
    assert keys(draw_pairs(samples, 5, 3, gold=None).pairs) == keys(drawn.pairs)[:5]


def test_asking_for_more_gives_all() -> None:
    drawn = draw_pairs(batch(2, 3), 100, 0, gold=None)
    everything = {(p, i, j) for p in ("p0", "p1") for i, j in itertools.combinations(range(3), 2)}
    assert set(keys(drawn.pairs)) == everything and len(drawn.pairs) == drawn.available == 6


def test_every_pair_is_drawn_equally_often() -> None:
    samples = [*batch(1, 2), *[make(f"q{i}", "q", i) for i in range(4)]]  # 1 + 6 pairs
    draws = 1400
    counts = Counter(
        key for seed in range(draws) for key in keys(draw_pairs(samples, 2, seed, gold=None).pairs)
    )
    share = 2 / 7
    assert len(counts) == 7
    for count in counts.values():
        assert abs(count / draws - share) < 4 * math.sqrt(share * (1 - share) / draws)


def test_identical_texts_and_unscored_samples_are_left_out_and_counted() -> None:
    samples = [make(text, "p", i) for i, text in enumerate(["same", "same", "other", "lost"])]
    for sample in samples[:3]:
        sample.rewards["gold"] = 1.0
    samples[3].rewards["gold"] = None
    drawn = draw_pairs(samples, 10, 0)
    assert (drawn.identical, drawn.unscored, drawn.available) == (1, 1, 2)
    assert sorted(keys(drawn.pairs)) == [("p", 0, 2), ("p", 1, 2)]


def test_two_samples_with_one_index_are_refused() -> None:
    with pytest.raises(ValueError, match="two samples with index 0"):
        draw_pairs([make("a"), make("b")], 1, 0, gold=None)
