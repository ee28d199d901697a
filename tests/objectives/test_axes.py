from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from ridgeline.objectives.axes import PRESETS, PolicyObjective

MINIMAL: dict[str, Any] = {"advantage": "group_centred", "ratio": "token", "aggregation": "token"}
CLIP: dict[str, Any] = {"bounding": "clip", "clip_low": 0.2, "clip_high": 0.2}


def test_needs_no_torch() -> None:
    code = "import sys, ridgeline.objectives.axes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_presets_differ_where_their_papers_do() -> None:
    assert {"reinforce", "rloo", "ppo", "grpo", "dr_grpo", "dapo"} <= set(PRESETS)
    grpo = PRESETS["grpo"]
    assert (grpo.advantage, grpo.aggregation, grpo.kl_placement) == ("group_zscore", "sequence", "loss")
    assert PRESETS["rloo"] == replace(PRESETS["reinforce"], advantage="leave_one_out")
    assert replace(PRESETS["dr_grpo"], length=256).aggregation == "fixed"
    dapo = PRESETS["dapo"]
    assert (dapo.clip_low, dapo.clip_high, dapo.aggregation, dapo.needs_reference) == (
        0.2,
        0.28,
        "token",
        False,
    )
    assert [name for name, objective in PRESETS.items() if objective.needs_critic] == ["ppo"]


def test_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        PRESETS["grpo"].kl_coefficient = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        PRESETS["grpo"] = PRESETS["rloo"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"advantage": "zscore"}, "unknown advantage 'zscore'; choose one of: batch_centred"),
        ({"kl_estimator": "k4"}, "unknown kl_estimator 'k4'"),
        ({"kl_estimator": "k1", "kl_coefficient": 0.1}, "k1 placed in the loss regularises nothing"),
        ({"kl_coefficient": -0.1}, "kl_coefficient = -0.1"),
        ({"kl_coefficient": float("nan")}, "kl_coefficient = nan"),
        ({"advantage": "max_rl", "kl_placement": "reward", "kl_coefficient": 0.1}, "max_rl needs rewards"),
        ({"clip_high": 0.2}, "do nothing with bounding 'none'"),
        ({"bounding": "clip", "clip_low": 0.2}, "needs both clip_low and clip_high"),
        ({**CLIP, "ratio": "none"}, "needs a ratio to bound"),
        ({**CLIP, "clip_low": 1.2}, "outside \\(0, 1\\]"),
        ({**CLIP, "clip_high": 0.0}, "clip_high = 0.0"),
        ({"length": 8}, "needs aggregation 'fixed'"),
        ({"aggregation": "fixed", "length": 0}, "at least 1 token"),
        ({"advantage": "batch_whiten", "whiten": True}, "whiten repeats"),
        ({"importance_high": 2.0}, "do nothing with importance 'none'"),
        ({"importance": "truncated"}, "needs importance_high"),
        ({"importance": "masked", "importance_high": 2.0}, "importance_low < importance_high"),
        ({"advantage": "gae"}, "needs a critic"),
        ({"value_coefficient": 0.5}, "has no critic"),
        ({"value_clip": 0.2}, "has no critic"),
        ({"lam": 0.9}, "need 'gae'"),
        ({"advantage": "gae", "value_coefficient": 1.0, "gamma": 1.5}, "between 0 and 1"),
        ({"advantage": "gae", "value_coefficient": 1.0, "value_clip": 0.0}, "value_clip = 0.0"),
    ],
)
def test_refuses_nonsense(changes: dict[str, Any], message: str) -> None:
    PolicyObjective(**MINIMAL)
    with pytest.raises(ValueError, match=message):
        PolicyObjective(**{**MINIMAL, **changes})
