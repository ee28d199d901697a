from __future__ import annotations

import asyncio

import numpy as np
import pytest

from ridgeline.rewards.in_process import InProcessReward
from ridgeline.schema.errors import DataError, RunError
from ridgeline.schema.records import Sample
from tests.rewards import functions
from tests.rewards.samples import batch, make


def test_same_rules_as_an_isolated_function() -> None:
    reward = InProcessReward(functions.mixed, name="m")
    assert reward(batch(3, 2)) == [None, None, None, None, 1.0, 2.0]
    assert reward.counts == {"not_finite": 2, "wrong_type": 1}
    with pytest.raises(RunError, match="reward 'n' returned 3 values for 4"):
        InProcessReward(functions.one_too_few, name="n")(batch())
    failing = InProcessReward(functions.raises_on_p1, name="r")
    assert failing(batch(3, 1)) == [1.0, None, 1.0]
    assert failing.counts == {"exception": 1}


def test_prompts_stay_together_when_a_batch_is_given_again() -> None:
    seen: list[list[str]] = []

    def function(samples: list[Sample]) -> list[float | None]:
        seen.append([sample.text for sample in samples])
        if len(seen) == 1:
            raise OSError("a bad moment")
        return [float(len(samples))] * len(samples)

    samples = [make(f"{p}{i}", p, i) for p, i in [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("b", 2)]]
    assert InProcessReward(function, name="f")(samples) == [2.0, 3.0, 2.0, 3.0, 3.0]
    assert seen[1:] == [["a0", "a1"], ["b0", "b1", "b2"]]


def test_function_cannot_reorder_the_callers_list() -> None:
    samples = batch(1, 3)
    InProcessReward(functions.mutates, name="m")(samples)
    assert [sample.index for sample in samples] == [0, 1, 2]


def test_numpy_values_and_arrays_are_numbers() -> None:
    reward = InProcessReward(lambda samples: np.array([0.5, np.nan], dtype=np.float32), name="f")  # type: ignore[return-value, arg-type]
    values = reward(batch(1, 2))
    assert values == [0.5, None] and type(values[0]) is float
    assert reward.counts == {"not_finite": 1}


def test_async_inside_a_running_loop_as_in_a_notebook() -> None:
    reward = InProcessReward(functions.lengths_async, name="f")
    assert reward([make("123")]) == [1.0]

    async def cell() -> list[float | None]:
        return reward([make("123456")])

    assert asyncio.run(cell()) == [2.0]


def test_users_errors_pass_and_so_does_an_interrupt() -> None:
    def missing(samples: list[Sample]) -> list[float | None]:
        raise DataError("no such column")

    def interrupted(samples: list[Sample]) -> list[float | None]:
        raise KeyboardInterrupt

    with pytest.raises(DataError, match="no such column"):
        InProcessReward(missing, name="f")(batch())
    with pytest.raises(KeyboardInterrupt):
        InProcessReward(interrupted, name="f")(batch())
