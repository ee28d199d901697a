"""The recordings in the package: all there, of the texts as they are, and of the world as it is."""

from __future__ import annotations

import numpy as np
import pytest

from ridgeline.landscape import blocks as container
from ridgeline.landscape import lessons
from ridgeline.landscape.lessons.claims import holds
from ridgeline.landscape.lessons.lesson import COUNT
from ridgeline.landscape.lessons.numbers import compute
from ridgeline.landscape.lessons.recording import digest, scene
from ridgeline.schema.errors import DataError, UsageError

NUMBERS = range(1, COUNT + 1)
MEND = "run docs/record_lessons.py"
SCENE = ("gold.mean", "value", "arrows", "reference_arrows", "corridor_mean", "path_offsets", "path_points")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_recording_is_of_the_text_as_it_is_and_small(number):
    data = lessons.recorded(number)
    meta, _ = container.decode(data)
    assert meta["number"] == number
    assert meta["digest"] == digest(number), MEND
    assert len(meta["steps"]) == len(lessons.load(number).steps), MEND
    assert len(data) < 400_000


@pytest.mark.parametrize("number", NUMBERS)
def test_the_evidence_bears_out_the_claim_for_at_least_three_seeds(number):
    meta, _ = container.decode(lessons.recorded(number))
    rows = meta["evidence"]
    assert len({row["seed"] for row in rows}) >= 3
    assert [row["seed"] for row in rows if not holds(number, row)] == []
    assert lessons.load(number).as_dict()["evidence"] == rows


@pytest.mark.parametrize("number", NUMBERS)
def test_every_step_has_a_whole_scene(number):
    data = lessons.recorded(number)
    for step in range(len(lessons.load(number).steps)):
        meta, found = scene(data, step)
        assert set(SCENE) <= set(found)
        assert found["gold.mean"].shape == (33, 33)
        assert all(np.isfinite(found[name]).all() for name in SCENE)
        assert found["path_offsets"][-1] == len(found["path_points"])
        assert meta["lesson"]["step"] == step


@pytest.mark.parametrize(("number", "step"), [(6, 1), (7, 1), (11, 2)])
def test_a_step_done_again_is_the_recorded_one(number, step):
    meta, stored = scene(lessons.recorded(number), step)
    again = lessons.run(number, step, 0)
    assert set(again.blocks) == set(stored), MEND
    for name, block in again.blocks.items():
        # float16 keeps 11 bits; the rest is for other machines' order of summation.
        tolerance = 2e-3 * max(1.0, float(np.abs(block).max()))
        np.testing.assert_allclose(stored[name], block, rtol=2e-3, atol=tolerance, err_msg=f"{name}: {MEND}")
    for name, value in again.numbers.items():
        assert meta["lesson"]["numbers"][name] == pytest.approx(value, rel=1e-3, abs=1e-3), MEND
    assert meta["iteration"] == again.meta["iteration"]


@pytest.mark.parametrize("number", [1, 6, 12])
def test_numbers_measured_again_are_the_recorded_ones(number):
    row = lessons.load(number).as_dict()["evidence"][1]
    again = compute(number, row["seed"])
    assert set(again) == set(row) - {"seed"}, MEND
    for name, value in again.items():
        assert row[name] == pytest.approx(value, rel=2e-2, abs=1e-3), f"{name}: {MEND}"


def test_the_formula_is_filled_with_every_number_it_names():
    for number in NUMBERS:
        formula = lessons.load(number).as_dict()["formula"]
        assert "--" not in formula["filled"], number
        assert all(figure["value"] is not None for figure in formula["numbers"].values())


def test_a_lesson_that_is_none_has_no_recording():
    with pytest.raises(UsageError, match="1 to 12"):
        lessons.recorded(13)


def test_a_damaged_recording_is_said_to_be_damaged():
    with pytest.raises(DataError):
        scene(lessons.recorded(1)[:-1000], 0)
