"""Every claim of the lessons, measured anew. The light lessons with three seeds, the others with one; the
rest of the seeds in the long tier. None of these seeds is one of the recordings but 0."""

from __future__ import annotations

import pytest

from ridgeline.landscape.lessons.claims import holds
from ridgeline.landscape.lessons.numbers import compute

LIGHT = (1, 3, 5, 6, 7, 12)
HEAVY = (2, 4, 8, 9, 10, 11)


@pytest.mark.parametrize("seed", [0, 11, 12])
@pytest.mark.parametrize("number", LIGHT)
def test_claim(number, seed):
    _check(number, seed)


@pytest.mark.parametrize("number", HEAVY)
def test_claim_of_a_lesson_that_trains(number):
    _check(number, 11)


@pytest.mark.stress
@pytest.mark.parametrize("seed", [0, 12, 13])
@pytest.mark.parametrize("number", HEAVY)
def test_claim_of_a_lesson_that_trains_with_more_seeds(number, seed):
    _check(number, seed)


def _check(number: int, seed: int) -> None:
    numbers = compute(number, seed)
    assert holds(number, numbers), numbers
