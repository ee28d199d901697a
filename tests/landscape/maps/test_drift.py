"""Corridor and visibility: known shifts give known numbers; projections never show more than there is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ridgeline.landscape.maps.density import LEVELS, corridor
from ridgeline.landscape.maps.drift import drift
from ridgeline.landscape.maps.visibility import projected_kl, share_shown


def cloud(seed: int, count: int = 2000, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 2)) + np.array([shift, 0.0])


@pytest.mark.parametrize("shift", [0.5, 1.0, 1.5])
def test_known_shift_gives_its_kl(shift: float) -> None:
    """KL = shift^2 / 2 for unit Gaussians; cells cost at most a quarter of it."""
    found = np.mean(
        [projected_kl(cloud(seed, 3000, shift), cloud(seed + 100, 3000)).nats for seed in range(4)]
    )
    assert 0.72 * shift**2 / 2 < found < 1.05 * shift**2 / 2


def test_no_shift_shows_nothing_on_average() -> None:
    found = [projected_kl(cloud(seed, 200), cloud(seed + 50, 200)).nats for seed in range(20)]
    assert np.mean(found) < 0.03


def test_projection_shows_no_more_than_the_whole() -> None:
    """Shift of 1 in 16 dimensions, two of them drawn: 1/2 nat in all, 2/16 of it visible."""
    generator = np.random.default_rng(5)
    reference = generator.normal(size=(4000, 16))
    moved = generator.normal(size=(4000, 16)) + 0.25
    shown = share_shown(projected_kl(moved[:, :2], reference[:, :2]).nats, 0.5)
    assert 0.05 < shown < 0.25


def test_clouds_far_apart_are_at_the_limit() -> None:
    far = projected_kl(cloud(0, 300, 20.0), cloud(1, 300))
    assert far.is_at_its_limit and far.nats < far.limit
    assert not projected_kl(cloud(0, 300, 0.5), cloud(1, 300)).is_at_its_limit


def test_ties_and_few_samples() -> None:
    assert math.isnan(projected_kl(cloud(0, 10), cloud(1)).nats)
    lattice_points = np.round(cloud(2, 500))
    assert 0 <= projected_kl(np.round(cloud(3, 500)), lattice_points).nats < 0.1
    same = np.zeros((100, 2))
    assert projected_kl(same, same).nats == 0
    assert math.isnan(share_shown(0.0, 0.0)) and math.isnan(share_shown(0.1, None))


def test_contours_hold_what_they_say() -> None:
    reference = corridor(cloud(7, 1000))
    for level in LEVELS:
        fresh = reference.outside(cloud(8, 6_000), level).mean()
        assert fresh == pytest.approx(1 - level, abs=0.035 if level < 0.9 else 0.015)
    lines = reference.outlines(81)
    assert {level for level, _ in lines} == set(LEVELS)
    assert all(np.allclose(line[0], line[-1]) for _, line in lines)  # closed
    assert [level for level, _ in lines] == sorted((level for level, _ in lines), reverse=True)
    radius = {level: np.linalg.norm(line, axis=1).mean() for level, line in lines if len(line) > 40}
    for level, wanted in ((0.5, 1.18), (0.9, 2.15)):  # sqrt(-2 log(1 - level)) of a round Gaussian
        assert radius[level] == pytest.approx(wanted, rel=0.12)


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 2.0, 3.5])
def test_bound_holds_and_says_when_it_is_none(shift: float) -> None:
    reference = cloud(9, 1500)
    moved = cloud(10, 1500, shift)
    found = drift(corridor(reference), moved, np.arange(1500) // 3, reference, shift**2 / 2)
    for level in (0.9, 0.99):
        outside = found.outside[level]
        assert outside is not None
        assert outside.low <= found.allowed[level]
    assert ("no bound" in found.sentence()) == (shift == 3.5)
    scalars = found.scalars()
    assert scalars["outside_99_low"] <= scalars["outside_99"] <= scalars["outside_99_high"]  # type: ignore[operator]


def test_too_few_samples_claim_nothing() -> None:
    reference = cloud(9, 100)
    found = drift(corridor(reference), cloud(1, 5), np.arange(5), reference, math.nan)
    assert found.outside == {0.9: None, 0.99: None}
    assert found.scalars()["allowed_99"] is None and found.scalars()["projected_kl"] is None
