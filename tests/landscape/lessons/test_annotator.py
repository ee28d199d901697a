"""Lesson 11: what is learned from answers, against what the answers say."""

from __future__ import annotations

import numpy as np
import pytest

from ridgeline.landscape import lessons
from ridgeline.landscape.lessons.annotator import Annotator
from ridgeline.landscape.world.paths import sample_paths
from ridgeline.landscape.world.reference import clone_route
from ridgeline.landscape.world.session import Session
from ridgeline.landscape.world.terrain_file import load_terrain
from ridgeline.schema.errors import UsageError

GOLD = load_terrain("annotator")


@pytest.fixture(scope="module")
def reference():
    return clone_route(GOLD.route, GOLD)


def _pair(annotator: Annotator) -> np.ndarray:
    return annotator.blocks(33)["pair_points"]


def _learned(annotator: Annotator, states: np.ndarray) -> np.ndarray:
    return annotator.ground(GOLD).height(states.astype(np.float64), "proxy")


def test_the_chosen_walk_comes_to_lie_higher_and_a_tie_level(reference):
    gaps = {}
    for answer in ("a", "b", "tie"):
        annotator = Annotator(GOLD, reference, seed=0)
        walks = _pair(annotator)[:, :2].reshape(2, -1, 2)[:, 1:]
        annotator.answer(answer, reference)
        totals = _learned(annotator, walks).sum(-1)
        gaps[answer] = totals[0] - totals[1]
    assert gaps["a"] > 1 and gaps["b"] == pytest.approx(-gaps["a"], rel=0.01) and abs(gaps["tie"]) < 1e-6


def test_skipping_teaches_nothing_but_shows_another_pair(reference):
    annotator = Annotator(GOLD, reference, seed=0)
    before = _pair(annotator)
    annotator.answer("skip", reference)
    assert annotator.judged == 0 and not np.array_equal(before, _pair(annotator))
    assert not annotator.blocks(33)["proxy.mask"].any()
    assert not _learned(annotator, before[:, :2]).any()


def test_more_answers_agree_better_and_wrong_ones_do_harm(reference):
    def agreement(count: int, noise: float) -> float:
        annotator = Annotator(GOLD, reference, seed=1)
        annotator.simulate(count, noise)
        return annotator.numbers()["agreement"]

    right = agreement(300, 0.0)
    assert right > 0.93 > agreement(30, 0.0) > 0.7
    assert agreement(300, 0.3) < right - 0.03
    assert agreement(300, 1.0) < 0.1


def test_the_fog_lifts_where_judged_walks_went_and_nowhere_else(reference):
    annotator = Annotator(GOLD, reference, seed=0)
    walked = _pair(annotator)[:, :2]
    annotator.answer("a", reference)
    mask = annotator.blocks(65)["proxy.mask"].astype(bool)
    axis = np.linspace(-3, 3, 65)
    y, x = np.nonzero(mask)
    distance = np.linalg.norm(np.stack([axis[x], axis[y]], -1)[:, None] - walked, axis=-1)
    assert distance.min(1).max() < 0.45  # seen ground is near a walk: 0.35 and the lattice's 0.07
    column, row = np.round((walked + 3) / 6 * 64).astype(int).T
    assert mask[row, column].all()


def test_the_model_never_reads_gold(reference):
    """Answers of the opposite taste give the opposite ground, though gold is the same."""
    twice = []
    for noise in (0.0, 1.0):
        annotator = Annotator(GOLD, reference, seed=2)
        annotator.simulate(100, noise)
        twice.append(_learned(annotator, sample_paths(GOLD, reference, 20, 5).states.numpy()))
    np.testing.assert_allclose(twice[0], -twice[1], atol=0.05 * np.abs(twice[0]).max())


def test_judging_through_a_session_grows_the_terrain_that_is_trained_on():
    session = Session(0)
    session.handle({"type": "lesson", "number": 11, "step": 0})
    before, _ = session.handle({"type": "rest"})
    meta, blocks = session.handle({"type": "judge", "answer": "simulate", "count": 100})
    assert meta["ok"] and meta["lesson"]["numbers"]["pairs"] == 100
    assert blocks["proxy.mask"].shape == blocks["proxy.mean"].shape == (33, 33)
    assert len(blocks["pair_points"]) == 2 * 25 == blocks["pair_offsets"][-1]
    assert np.abs(blocks["proxy.mean"]).max() > 0.1
    meta, _ = session.handle({"type": "train", "iterations": 10})
    assert meta["ok"] and meta["scalars"]["return_gold"] > before["scalars"]["return_gold"] + 3


def test_nonsense_is_refused_in_a_sentence(reference):
    session = Session(0)
    session.handle({"type": "lesson", "number": 1, "step": 0})
    meta, _ = session.handle({"type": "judge", "answer": "a"})
    assert not meta["ok"] and "lesson 11" in meta["error"]
    annotator = Annotator(GOLD, reference, seed=0)
    for count, noise in ((0, 0.0), (10_000, 0.0), (30, -0.1), (30, 1.1)):
        with pytest.raises(UsageError, match="count"):
            annotator.simulate(count, noise)
    with pytest.raises(UsageError, match="none of"):
        annotator.answer("both", reference)


def test_the_same_lesson_is_the_same_world():
    first, second = (lessons.run(11, 2, 4) for _ in range(2))
    assert all(np.array_equal(first.blocks[name], second.blocks[name]) for name in first.blocks)
