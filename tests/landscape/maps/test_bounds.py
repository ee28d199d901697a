"""The data-processing bound against the table of the reference, and its limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.landscape.maps.bounds import best_of, binary_kl, is_vacuous, most_mass, sigma_equivalent
from ridgeline.statistics.best_of_n import kl_of_best_of_n

# KL in nats, at most outside the 90 % and the 99 % contour, sqrt(2 KL): studio.md 3.5, two decimals.
TABLE = (
    (0.1, 0.26, 0.08, 0.45),
    (0.5, 0.50, 0.22, 1.0),
    (1.0, 0.69, 0.36, 1.4),
    (2.0, 0.95, 0.58, 2.0),
    (3.0, 1.00, 0.77, 2.4),
    (5.0, 1.00, 1.00, 3.2),
)


@pytest.mark.parametrize(("kl", "beyond_90", "beyond_99", "sigma"), TABLE)
def test_table(kl: float, beyond_90: float, beyond_99: float, sigma: float) -> None:
    assert most_mass(0.1, kl) == pytest.approx(beyond_90, abs=0.0051)
    assert most_mass(0.01, kl) == pytest.approx(beyond_99, abs=0.0051)
    assert sigma_equivalent(kl) == pytest.approx(sigma, abs=0.051)


@given(st.floats(1e-6, 0.999), st.floats(0.0, 12.0))
def test_bound_is_the_largest_share_that_the_kl_allows(p: float, kl: float) -> None:
    q = most_mass(p, kl)
    assert p <= q <= 1
    assert binary_kl(q, p) <= kl * (1 + 1e-9) + 1e-12
    if is_vacuous(p, kl):
        assert q == 1
    elif q < 1 - 1e-6:
        assert binary_kl(q + 1e-6, p) > kl


@given(st.floats(0.001, 0.999), st.floats(0.0, 3.0))
def test_no_gaussian_shift_beats_the_bound(p: float, shift: float) -> None:
    """A unit Gaussian moved by ``shift`` costs shift^2 / 2 nats; its tail must respect the bound."""
    from scipy.special import ndtr, ndtri

    moved = float(ndtr(shift - ndtri(1 - p)))
    assert moved <= most_mass(p, shift**2 / 2) + 1e-9


def test_binary_kl_known_values() -> None:
    assert binary_kl(0.3, 0.3) == 0
    assert binary_kl(1.0, 0.25) == pytest.approx(math.log(4))
    assert binary_kl(0.5, 0.0) == math.inf
    with pytest.raises(ValueError):
        binary_kl(1.2, 0.5)
    for bad in (0.0, 1.0):
        with pytest.raises(ValueError):
            most_mass(bad, 1.0)
    with pytest.raises(ValueError):
        most_mass(0.1, float("nan"))


def test_best_of_n_inverts_its_kl() -> None:
    for n in (2, 4, 16, 1000):
        assert best_of(kl_of_best_of_n(n)) == pytest.approx(n, rel=1e-6)
    assert best_of(0.0) == 1
    assert best_of(-0.1) == 1


def test_bound_holds_for_a_resampled_policy() -> None:
    """Best-of-4 by any score stays within what its KL allows, in every half-plane of a cloud."""
    generator = np.random.default_rng(0)
    cloud = generator.normal(size=(40_000, 4, 2))
    chosen = cloud[np.arange(len(cloud)), cloud[:, :, 0].argmax(1)]
    for edge in (0.5, 1.2, 2.0):
        p = float((cloud[..., 0] > edge).mean())
        q = float((chosen[:, 0] > edge).mean())
        assert p < q <= most_mass(p, kl_of_best_of_n(4)) + 0.01
