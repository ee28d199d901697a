from __future__ import annotations

import math

import pytest

from ridgeline.objectives.controllers import AdaptiveEntropy


def test_the_bonus_grows_below_the_target_and_rests_above() -> None:
    bonus = AdaptiveEntropy(target=1.0, gain=0.01, minimum=0.0, maximum=0.025)
    assert bonus.value == 0.0
    assert AdaptiveEntropy(target=1.0, gain=0.01, minimum=0.02).value == 0.02
    assert [bonus.update(0.5) for _ in range(3)] == pytest.approx([0.01, 0.02, 0.025])
    assert bonus.update(1.5) == 0.0
    assert bonus.level == pytest.approx(0.015)
    assert bonus.update(1.0) == pytest.approx(0.005)  # at the target: in force, and falling
    assert [bonus.update(2.0) for _ in range(3)] == [0.0] * 3
    assert bonus.level == 0.0


def test_resumes_exactly() -> None:
    one, other = (AdaptiveEntropy(target=1.0, gain=0.03, minimum=0.01, maximum=0.5) for _ in range(2))
    one.update(0.2)
    one.update(1.2)
    other.load_state_dict(one.state_dict())
    assert one.value == other.value
    assert [one.update(x) for x in (0.5, 1.5, 0.1)] == [other.update(x) for x in (0.5, 1.5, 0.1)]


def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="target"):
        AdaptiveEntropy(target=0.0, gain=0.1)
    with pytest.raises(ValueError, match="gain"):
        AdaptiveEntropy(target=1.0, gain=math.inf)
    with pytest.raises(ValueError, match="minimum"):
        AdaptiveEntropy(target=1.0, gain=0.1, minimum=2.0, maximum=1.0)
    bonus = AdaptiveEntropy(target=1.0, gain=0.1)
    with pytest.raises(ValueError, match="measured entropy is nan"):
        bonus.update(math.nan)
