from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats

from ridgeline.rollout.draws import stream_keys, text_key, uniforms

BASE = {"seed": 1, "step": 2, "prompts": ["p"], "samples": [3]}


def numbers(position: int = 0, **changes: object) -> float:
    return float(uniforms(stream_keys(**{**BASE, **changes}), position)[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2}, {"step": 3}, {"prompts": ["q"]}, {"samples": [4]}, {"position": 1},
        {"seed": 2, "step": 1}, {"step": 3, "samples": [2]}, {"seed": 2**63 - 1},
    ],
)  # fmt: skip
def test_every_part_of_the_key_changes_the_draw(changes: dict[str, object]) -> None:
    assert numbers() == numbers()
    assert numbers(**changes) != numbers()


def test_draws_do_not_depend_on_neighbours_or_order() -> None:
    prompts, samples = ["a", "b", "a", "c"], [0, 0, 1, 5]
    together = uniforms(stream_keys(5, 6, prompts, samples), 7)
    for number in range(4):
        alone = uniforms(stream_keys(5, 6, prompts[number : number + 1], samples[number : number + 1]), 7)
        assert alone[0] == together[number]
    shuffled = uniforms(stream_keys(5, 6, prompts[::-1], samples[::-1]), 7)
    assert (shuffled[::-1] == together).all()


def test_uniforms_lie_in_the_half_open_interval_and_are_uniform() -> None:
    streams = stream_keys(0, 0, [f"p{i}" for i in range(300)], [0] * 300)
    grid = np.stack([uniforms(streams, position) for position in range(60)])
    assert grid.min() >= 0 and grid.max() < 1
    assert stats.kstest(grid.ravel(), "uniform").pvalue > 1e-4
    assert len(np.unique(grid)) == grid.size
    # Neither neighbouring positions nor neighbouring prompts go together.
    assert abs(np.corrcoef(grid[:-1].ravel(), grid[1:].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(grid[:, :-1].ravel(), grid[:, 1:].ravel())[0, 1]) < 0.03


def test_neighbouring_seeds_steps_and_samples_are_uncorrelated() -> None:
    for part in ("seed", "step", "samples"):
        rows = [
            stream_keys(**{**BASE, part: [value] if part == "samples" else value}) for value in range(1500)
        ]
        series = uniforms(np.concatenate(rows), 0)
        assert abs(np.corrcoef(series[:-1], series[1:])[0, 1]) < 0.1
        assert stats.kstest(series, "uniform").pvalue > 1e-4


def test_the_largest_number_is_below_one() -> None:
    assert (np.uint64(2**64 - 1) >> np.uint64(11)).astype(np.float64) * 2.0**-53 < 1


def test_keys_are_stable_over_versions() -> None:
    """A recorded run replays only while these stay what they are."""
    assert text_key("prompt") == 14832251758147735480
    assert stream_keys(1, 2, ["p"], [3])[0] == np.uint64(17901947371783175780)


def test_no_overflow_warning_reaches_the_user() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        uniforms(stream_keys(2**63 - 1, 2**40, ["p"], [2**31]), 2**31)
