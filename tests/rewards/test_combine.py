from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest

from ridgeline.rewards.combine import Component, RewardSet, function_reward
from ridgeline.rewards.in_process import InProcessReward
from ridgeline.rewards.isolation import IsolatedReward
from ridgeline.schema.errors import RunError, UsageError
from ridgeline.schema.records import Sample
from tests.rewards import functions
from tests.rewards.samples import batch, make


@dataclass
class Fixed:
    """A component that is no function, as a reward model is."""

    name: str
    values: list[float | None]
    counts: dict[str, int] = field(default_factory=dict)
    closed: bool = False

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        return self.values

    def close(self) -> None:
        self.closed = True


def test_total_is_the_weighted_sum_of_what_applies() -> None:
    judge = Fixed("judge", [1.0, 2.0, None, None])
    style = Fixed("style", [10.0, None, 30.0, None])
    watched = Fixed("watched", [7.0, 7.0, None, 7.0])
    weightless = Fixed("weightless", [5.0] * 4)
    components: list[tuple[Component, float]] = [(judge, 2.0), (style, -0.5), (weightless, 0.0)]
    rewards = RewardSet(components, [watched])
    samples = batch(2, 2)
    rewards.score(samples)
    assert [sample.rewards["total"] for sample in samples] == [-3.0, 4.0, -15.0, None]
    assert [sample.rewards["judge"] for sample in samples] == judge.values
    assert [sample.rewards["watched"] for sample in samples] == watched.values
    assert rewards.names == ["judge", "style", "weightless", "watched"]
    assert list(samples[0].rewards) == [*rewards.names, "total"]
    rewards.close()
    assert judge.closed and watched.closed


def test_failed_component_leaves_no_total_but_an_inapplicable_one_does() -> None:
    failing = InProcessReward(functions.raises_on_p1, name="f")
    rewards = RewardSet([(failing, 1.0), (Fixed("other", [1.0, 1.0]), 1.0)])
    samples = batch(2, 1)
    rewards.score(samples)
    assert [sample.rewards["total"] for sample in samples] == [2.0, None]
    assert samples[1].rewards == {"f": None, "other": 1.0, "total": None}
    assert rewards.counts() == {"f (exception)": 1}
    assert "ValueError" in rewards.failures()["f"]


def test_batch_without_any_total_because_of_failures_stops_the_run() -> None:
    rewards = RewardSet([(InProcessReward(functions.raises, name="f"), 1.0)])
    samples = batch()
    with pytest.raises(RunError, match=r"none of the 4 completions.*reward 'f' raised KeyError: 'solution'"):
        rewards.score(samples)
    assert all(sample.rewards == {} for sample in samples)


def test_nothing_applicable_and_failing_monitors_do_not_stop_the_run() -> None:
    samples = batch()
    RewardSet([(Fixed("n", [None] * 4), 1.0)]).score(samples)
    assert [sample.rewards["total"] for sample in samples] == [None] * 4
    monitor = InProcessReward(functions.raises, name="m")
    rewards = RewardSet([(Fixed("n", [1.0] * 4), 1.0)], [monitor])
    rewards.score(samples)
    assert [sample.rewards["total"] for sample in samples] == [1.0] * 4
    assert rewards.counts() == {"m (exception)": 4}


def test_names_and_weights_are_checked() -> None:
    with pytest.raises(UsageError, match="two rewards are named 'a'"):
        RewardSet([(Fixed("a", []), 1.0)], [Fixed("a", [])])
    with pytest.raises(UsageError, match="cannot be named 'total'"):
        RewardSet([(Fixed("total", []), 1.0)])
    with pytest.raises(UsageError, match="finite"):
        RewardSet([(Fixed("a", []), math.inf)])


def test_function_reward_chooses_where_to_run() -> None:
    builtin = function_reward("length")
    assert isinstance(builtin, InProcessReward) and builtin.name == "length"
    assert builtin([make(tokens=3)]) == [3.0]
    module = function_reward("tests.rewards.functions:lengths", timeout=5)
    assert isinstance(module, IsolatedReward) and module.timeout == 5
    assert module.name == "tests.rewards.functions:lengths"
    importable = function_reward(functions.lengths)
    assert isinstance(importable, IsolatedReward) and importable.name == "lengths"
    try:
        assert importable([make("123")]) == [1.0]
    finally:
        importable.close()
    closure = function_reward(lambda samples: [2.0] * len(samples), name="two")
    assert isinstance(closure, InProcessReward) and closure.name == "two"
    assert closure(batch(1, 1)) == [2.0]
    with pytest.raises(UsageError, match="did you mean 'length'"):
        function_reward("lenght")
