"""Prompts in order, with numbers of their own, and attempts within a budget."""

from __future__ import annotations

from collections import Counter

import pytest

from ridgeline.data.order import batch_indices
from ridgeline.objectives.presets import PRESETS
from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.records import Sample
from ridgeline.stages.drawing import Group, Prompts, carries_signal, gather, reward_columns

REQUESTS = [PromptRequest(f"p{n}", [1], 2) for n in range(4)]


def group(rewards: list[float | None], **others: list[float | None]) -> Group:
    samples = []
    for n, total in enumerate(rewards):
        columns = {"total": total, **{name: values[n] for name, values in others.items()}}
        samples.append(Sample("p", n, [1], [2], [0.0], [True], "stop", "", rewards=columns))
    return Group(REQUESTS[0], samples)


def test_without_resampling_the_order_is_that_of_the_steps() -> None:
    prompts = Prompts(REQUESTS, seed=3)
    for step in range(6):
        drawn = [request.id for request in prompts.draw(3, Counter())]
        assert drawn == [f"p{n}" for n in batch_indices(4, 3, step, 3)]


def test_a_prompt_drawn_twice_gets_samples_of_its_own() -> None:
    """Draws are keyed by prompt and number: the same numbers would be the same completions."""
    drawn = Prompts(REQUESTS, seed=0).draw(10, Counter())
    numbers = [(r.id, r.first + i) for r in drawn for i in range(r.samples)]
    assert len(set(numbers)) == len(numbers) == 20


def test_where_a_checkpoint_stopped_the_order_goes_on() -> None:
    whole, first = Prompts(REQUESTS, seed=1), Prompts(REQUESTS, seed=1)
    both = [r.id for r in whole.draw(7, Counter())]
    begun = [r.id for r in first.draw(3, Counter())]
    resumed = Prompts(REQUESTS, seed=1, drawn=first.drawn)
    assert both == begun + [r.id for r in resumed.draw(4, Counter())]


@pytest.mark.parametrize(("budget", "asked"), [(0, [3]), (1, [3, 2]), (5, [3, 2, 1])])
def test_only_what_is_missing_is_asked_again(budget: int, asked: list[int]) -> None:
    """One group of each attempt carries signal."""
    sizes: list[int] = []

    def ask(requests: list[PromptRequest]) -> list[Sample]:
        sizes.append(len(requests))
        return [s for n in range(len(requests)) for s in group([float(n == 0), 0.0]).samples]

    objective = PRESETS["grpo"]
    has_signal = lambda found: carries_signal(found, objective, [])  # noqa: E731
    groups = gather(Prompts(REQUESTS, seed=1), 3, budget, ask, has_signal)
    assert sizes == asked
    assert len(groups) == sum(asked)


def test_what_counts_as_signal() -> None:
    grpo, gdpo, process = (PRESETS[name] for name in ("grpo", "gdpo", "process_grpo"))
    level = group([1.0, 1.0], a=[1.0, 0.0], b=[0.0, 1.0])
    assert not carries_signal(level, grpo, ["a", "b"])
    assert carries_signal(level, gdpo, ["a", "b"])
    assert not carries_signal(group([None, 1.0]), grpo, [])
    assert not carries_signal(level, process, [])
    level.samples[0].step_rewards, level.samples[1].step_rewards = [(0, 1.0)], [(0, 2.0)]
    assert carries_signal(level, process, [])


def test_columns_are_prompt_major() -> None:
    found = reward_columns(
        [group([0, 0], a=[1, 2], b=[3, None]), group([0, 0], a=[5, 6], b=[7, 8])], ["a", "b"]
    )
    assert found.shape == (2, 2, 2)
    assert found[0, :, 0].tolist() == [1.0, 2.0]
    assert found[1, :, 1].tolist() == [7.0, 8.0]
    assert found[0, 1, 1].isnan()
