from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.data.split import holdout
from ridgeline.schema.errors import DataError, UsageError

ITEMS = [(f"p{number % 20}", number) for number in range(100)]


def key(item):
    return item[0]


@given(st.floats(0.001, 0.999), st.integers(0, 1000))
def test_prompts_are_on_one_side_and_neither_side_is_empty(fraction, seed):
    train, held = holdout(ITEMS, fraction, key, seed)
    assert train and held and sorted(train + held, key=ITEMS.index) == ITEMS
    assert not {key(item) for item in train} & {key(item) for item in held}
    assert len({key(item) for item in held}) == min(max(round(fraction * 20), 1), 19)
    assert train == sorted(train, key=ITEMS.index)


def test_depends_on_seed_and_keys_only():
    held = {key(item) for item in holdout(ITEMS, 0.3, key, 1)[1]}
    assert {key(item) for item in holdout(ITEMS[::-1], 0.3, key, 1)[1]} == held
    assert {key(item) for item in holdout(ITEMS[:20], 0.3, key, 1)[1]} == held
    assert len({frozenset(item[0] for item in holdout(ITEMS, 0.3, key, seed)[1]) for seed in range(8)}) > 4


def test_split_is_the_same_in_every_version():
    assert sorted({key(item) for item in holdout(ITEMS, 0.15, key, 0)[1]}) == ["p10", "p14", "p2"]


def test_zero_holds_out_nothing():
    assert holdout(ITEMS, 0, key, 1) == (ITEMS, [])


def test_bad_splits():
    with pytest.raises(DataError, match="1 distinct prompt;"):
        holdout([("a", 1), ("a", 2)], 0.5, key, 1)
    for fraction in (1.0, -0.1, 7):
        with pytest.raises(UsageError, match="not a fraction"):
            holdout(ITEMS, fraction, key, 1)
