"""Kernel regression against plain loops; bandwidth; fog."""

from __future__ import annotations

import numpy as np
import pytest
from tests.oracles import kernel_regression as oracle

from ridgeline.landscape.maps.kernel import choose_bandwidth, lattice, leave_prompt_out, nearby, regress
from ridgeline.landscape.maps.surface import Ground, bounds_of, surface

GENERATOR = np.random.default_rng(3)
POINTS = GENERATOR.normal(size=(40, 2))
VALUES = GENERATOR.normal(size=40)
PROMPTS = np.arange(40) % 7


@pytest.mark.parametrize("bandwidth", [0.3, 1.0])
def test_regression_matches_loops(bandwidth: float) -> None:
    places = GENERATOR.normal(size=(6, 2))
    smooth = regress(POINTS, VALUES, places, bandwidth)
    for number, place in enumerate(places):
        expected = oracle.regress(POINTS.tolist(), VALUES.tolist(), tuple(place), bandwidth)
        found = smooth.mean[number], smooth.error[number], smooth.spread[number], smooth.effective[number]
        assert found == pytest.approx(expected, rel=1e-9)
    predicted = leave_prompt_out(POINTS, VALUES, PROMPTS, bandwidth)
    expected_all = oracle.leave_prompt_out(POINTS.tolist(), VALUES.tolist(), PROMPTS.tolist(), bandwidth)
    assert predicted == pytest.approx(expected_all, rel=1e-6, abs=1e-6)


def test_mean_never_overshoots_and_far_away_is_unknown() -> None:
    smooth = regress(POINTS, VALUES, lattice(((-4, 4), (-4, 4)), 15), 0.4)
    assert smooth.mean.min() >= VALUES.min() and smooth.mean.max() <= VALUES.max()
    assert np.isnan(regress(POINTS, VALUES, np.array([[1e4, 0.0]]), 0.4).mean).all()


def test_lattice_is_rows_of_y() -> None:
    grid = lattice(((0.0, 1.0), (10.0, 20.0)), 3).reshape(3, 3, 2)
    assert grid[0, 2].tolist() == [1.0, 10.0]
    assert grid[2, 0].tolist() == [0.0, 20.0]


def test_bandwidth_fits_the_roughness_and_ignores_twins_of_a_prompt() -> None:
    generator = np.random.default_rng(0)
    points = generator.normal(size=(600, 2))
    noise = generator.normal(size=600) * 0.3
    prompts = np.arange(600)
    rough = choose_bandwidth(points, np.sin(6 * points[:, 0]) + noise, prompts)
    flat = choose_bandwidth(points, noise, prompts)
    assert rough < 0.35 and flat > 1.5
    # Pure noise, every sample with three copies of its prompt beside it: copies must not look like skill.
    twins = np.repeat(np.arange(150), 4)
    assert choose_bandwidth(points[:150].repeat(4, 0), noise[:150].repeat(4), twins) > 1.5


def test_fog_lies_where_nothing_was_sampled() -> None:
    generator = np.random.default_rng(1)
    points = np.concatenate(
        [generator.normal(size=(300, 2)) * 0.3 - 2, generator.normal(size=(300, 2)) * 0.3 + 2]
    )
    ground = Ground(points, np.arange(600), np.zeros(600, dtype=int), np.arange(600) % 2 == 0, seed=1)
    bounds = bounds_of(points)
    found = surface(ground, points[:, 0], bounds, 41)
    at = lattice(bounds, 41)
    nearest = np.sqrt(((at[:, None] - points[None]) ** 2).sum(-1)).min(1).reshape(41, 41)
    assert nearest[found.shown].max() < 0.7
    assert not found.shown[nearest > 1.0].any()
    assert found.shown[nearby(points, at, 0.35).reshape(41, 41) > 20].mean() > 0.9
    assert found.r2 > 0.95


def test_r2_of_a_reward_that_ignores_the_place_is_nothing() -> None:
    generator = np.random.default_rng(2)
    points, reward = generator.normal(size=(800, 2)), generator.normal(size=800)
    prompts = np.arange(800) // 8
    ground = Ground(points, prompts, np.zeros(800, dtype=int), prompts % 2 == 0, seed=1)
    found = surface(ground, reward, bounds_of(points), 21)
    assert abs(found.r2) < 0.05
    assert found.residual == pytest.approx(1.0, abs=0.1)


def test_within_a_step_is_told_from_between_steps() -> None:
    """Steps lie apart and differ in reward, but inside a step place says nothing."""
    generator = np.random.default_rng(4)
    frames = np.arange(600) % 2
    points = generator.normal(size=(600, 2)) * 0.5 + 3 * frames[:, None]
    reward = 4.0 * frames + generator.normal(size=600) * 0.5
    ground = Ground(points, np.arange(600) // 4, frames, (np.arange(600) // 4) % 2 == 0, seed=1)
    found = surface(ground, reward, bounds_of(points), 21)
    assert found.r2 > 0.9
    assert found.r2_within < 0.1
