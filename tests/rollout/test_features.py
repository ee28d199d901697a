from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ridgeline.rollout.features import read_features, write_features
from ridgeline.schema.errors import DataError

KEYS = [("p", 0), ("p", 1), ("frage-ü", 12)]
STATES = list(np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32))


def test_features_come_back(tmp_path: Path) -> None:
    """float16 keeps 11 bits: half a unit in the last place is 2^-11 of the value."""
    write_features(tmp_path / "features" / "step-000000.npz", KEYS, STATES)
    found = read_features(tmp_path / "features" / "step-000000.npz")
    assert found.prompt_ids == [prompt for prompt, _ in KEYS]
    assert found.indices.tolist() == [0, 1, 12]
    assert found.states.dtype == np.float16
    np.testing.assert_allclose(found.states, np.stack(STATES), rtol=2**-11)
    assert found.fractions == (0.25, 0.5, 0.75, 1.0)


def test_same_features_same_bytes(tmp_path: Path) -> None:
    write_features(tmp_path / "a.npz", KEYS, STATES)
    write_features(tmp_path / "b.npz", KEYS, STATES)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_what_half_precision_cannot_hold_stays_finite(tmp_path: Path) -> None:
    write_features(tmp_path / "a.npz", [("p", 0)], [np.array([[1e6, -1e6]] * 4, dtype=np.float32)])
    assert read_features(tmp_path / "a.npz").states[0, 0].tolist() == [65504, -65504]


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="features = false"):
        read_features(tmp_path / "none.npz")
    write_features(tmp_path / "a.npz", KEYS, STATES)
    whole = (tmp_path / "a.npz").read_bytes()
    for damaged in (b"", b"nothing of the kind", whole[:-40]):
        (tmp_path / "a.npz").write_bytes(damaged)
        with pytest.raises(DataError, match="damaged"):
            read_features(tmp_path / "a.npz")
