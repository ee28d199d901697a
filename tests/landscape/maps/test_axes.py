"""Axes and centring on states whose structure is known."""

from __future__ import annotations

import numpy as np
import pytest
from tests.landscape.maps.made import WIDTH, Made, made

from ridgeline.landscape.maps.axes import Method, Plane, fit
from ridgeline.landscape.maps.centring import Reference, group_residuals
from ridgeline.landscape.maps.ridge import ridge
from ridgeline.landscape.maps.surface import Ground, Surface, bounds_of, surface
from ridgeline.landscape.maps.values import regressed_values
from ridgeline.schema.errors import DataError


def mapped(data: Made, method: Method) -> tuple[Plane, Surface]:
    evidence = data.evidence()
    plane = fit(method, evidence)
    points = plane.coordinates(evidence.states_NH)
    ground = Ground(points, data.prompt_N, data.frame_N, evidence.fitting_N, seed=1)
    return plane, surface(ground, evidence.reward_N, bounds_of(points), 21)


def test_reward_off_the_main_directions_is_seen_by_the_reward_axis_only() -> None:
    data = made()
    plane, ground = mapped(data, "reward")
    assert ground.r2 > 0.75
    assert abs(plane.axes_2H[0, 9]) > 0.97
    assert plane.axes_2H[0, 9] > 0  # uphill is to the right
    assert abs(plane.axes_2H[0] @ plane.axes_2H[1]) < 1e-9
    blind, flat = mapped(data, "pca")
    assert abs(flat.r2) < 0.06
    assert np.abs(blind.axes_2H[:, :3]).max(1) == pytest.approx([1, 1], abs=0.1)


def test_drift_axis_finds_what_changed() -> None:
    plane, _ = mapped(made(shift=1.5), "drift")
    assert abs(plane.axes_2H[0, 9]) > 0.9
    with pytest.raises(DataError, match="no drift"):
        still = made()
        still.frame_N[:] = 0
        mapped(still, "drift")


def test_coordinates_are_standard_deviations_of_the_reference() -> None:
    data = made(shift=1.0)
    plane, _ = mapped(data, "reward")
    points = plane.coordinates(data.evidence().states_NH)
    assert points[data.frame_N == 0].std(0) == pytest.approx([1, 1], rel=0.01)
    assert points[data.frame_N == 1, 0].mean() == pytest.approx(1.0, abs=0.12)


def test_centring_removes_topics() -> None:
    """Whatever the topics are, the centred states are the same."""
    near, far = made(topics=0.0), made(topics=50.0)
    assert np.allclose(near.evidence().states_NH, far.evidence().states_NH, atol=1e-9)
    assert np.allclose(near.evidence().reward_N, far.evidence().reward_N, atol=1e-9)


@pytest.mark.parametrize("each", [2, 3, 8])
def test_a_policy_that_has_not_moved_spreads_like_the_reference(each: int) -> None:
    data = made(prompts=3000, each=each, topics=3.0)
    centred = data.reference.centre(data.states_NH[:, 9], stretch=True)
    spreads = [centred[data.frame_N == frame].std() for frame in (0, 1)]
    assert spreads[0] == pytest.approx(spreads[1], rel=0.04)
    assert spreads[0] == pytest.approx(np.sqrt(1 + 1 / each), rel=0.04)


def test_prompts_without_reference_are_counted_and_centred_on_all() -> None:
    prompt_N = np.array([0, 0, 1, 1, 2, 2, 3])
    reference_N = np.array([True, True, True, True, False, False, True])
    reference = Reference.of(prompt_N, reference_N)
    assert reference.placed_N.tolist() == [True] * 4 + [False] * 3
    assert reference.cloud_N.tolist() == [True] * 4 + [False] * 3
    values = np.array([0.0, 2.0, 4.0, 6.0, 10.0, np.nan, 8.0])
    centred = reference.centre(values, stretch=False)
    assert centred[:4].tolist() == [-1, 1, -1, 1]
    assert centred[4] == pytest.approx(10 - 4.0)  # mean of the five reference samples
    assert np.isnan(centred[5])


def test_group_residuals_know_neither_prompt_nor_step() -> None:
    values = np.array([[1.0], [3.0], [10.0], [10.0], [7.0]])
    prompt, frame = np.array([0, 0, 0, 0, 1]), np.array([0, 0, 1, 1, 0])
    residuals, paired = group_residuals(values, prompt, frame)
    assert residuals[:4, 0] == pytest.approx([-np.sqrt(2), np.sqrt(2), 0, 0])
    assert paired.tolist() == [True] * 4 + [False]


def test_ridge_recovers_a_direction_and_shrinks_noise_away() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, WIDTH))
    true = np.zeros(WIDTH)
    true[3] = 2.0
    found = ridge(x, x @ true + 0.5 * generator.normal(size=400), np.arange(400) // 4)
    assert found.weights_H == pytest.approx(true, abs=0.12)
    assert found.r2 > 0.9
    noise = ridge(x, generator.normal(size=400), np.arange(400) // 4)
    assert np.linalg.norm(noise.weights_H) < 0.1 and noise.r2 < 0.05
    with pytest.raises(ValueError, match="two prompts"):
        ridge(x, x[:, 0], np.zeros(400))


def test_values_take_the_slope_of_all_steps_and_the_level_of_their_own() -> None:
    """Reward = 2 x + level of the step; the first half of the text knows x only roughly."""
    generator = np.random.default_rng(1)
    frames, prompts = np.arange(800) % 2, np.arange(800) // 8
    x = generator.normal(size=800)
    altitude = 2 * x + 5 * frames
    vague = x + generator.normal(size=800)
    along = np.stack([vague, vague, x, x], axis=1)[..., None]
    found = regressed_values(along, altitude, prompts, frames)
    assert found.kind == "regression" and "800 finished samples" in found.note
    assert found.value_NF[:, 3] == pytest.approx(altitude, abs=0.3)
    shrunk = found.value_NF[:, 0] - 5 * frames
    assert np.polyfit(vague, shrunk, 1)[0] == pytest.approx(1.0, abs=0.15)  # cov(2x, v) / var(v)
    few = regressed_values(along[:20], altitude[:20], prompts[:20], frames[:20])
    assert few.kind is None and np.isnan(few.value_NF).all()
