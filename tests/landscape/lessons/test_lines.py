"""The lines of lessons 6 and 12: what must hold of them whatever the seed."""

from __future__ import annotations

import numpy as np
import pytest

from ridgeline.landscape import lessons
from ridgeline.landscape.lessons.numbers import compute
from ridgeline.landscape.lessons.numbers.setup import learner_of, moved_kl, moved_return, returns
from ridgeline.landscape.lessons.numbers.trust_region import at_kl, directions, surrogate_gain


def test_the_surrogate_touches_the_true_line_where_it_starts():
    """Same value and same slope at the old policy (Kakade and Langford 2002); they part further out."""
    learner = learner_of(6, 3)
    direction = directions(learner)["natural"]
    before = returns(learner)
    ratios = []
    for nats in (1e-3, 12.0):
        policy = at_kl(learner, direction, nats)
        ratios.append(surrogate_gain(learner, policy) / (moved_return(learner, policy) - before))
    assert ratios[0] == pytest.approx(1, abs=0.01)
    assert ratios[1] > 1.2


def test_a_step_has_the_kl_that_was_asked_for():
    learner = learner_of(6, 3)
    for name, direction in directions(learner).items():
        assert moved_kl(learner, at_kl(learner, direction, 0.7), learner.policy) == pytest.approx(
            0.7, rel=1e-3
        ), name


def test_the_lines_start_at_nothing_gained_and_end_at_the_budget():
    found = lessons.run(6, 2, 0).blocks
    for name in ("line.natural", "line.plain"):
        line = found[name]
        np.testing.assert_allclose(line[0], 0.0, atol=1e-5)
        assert (np.diff(line[:, 0]) > 0).all()
        assert line[-1, 0] == pytest.approx(0.5 * 24, rel=1e-3)
        assert line[-1, 2] > line[-1, 1]


def test_the_three_directions_meet_at_the_reference_and_cost_what_the_lesson_says():
    found = lessons.run(12, 0, 0).blocks
    numbers = compute(12, 0)
    for name in ("random", "training", "spread"):
        line = found[f"line.{name}"]
        assert line[6, 0] == 0 and line[6, 2] == pytest.approx(0, abs=1e-9)
        assert line[6, 1] == pytest.approx(found["line.random"][6, 1])
        assert line[-1, 2] == pytest.approx(numbers[f"kl_{name}"], rel=1e-5)
