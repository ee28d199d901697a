from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.presets import PRESETS

MINIMAL: dict[str, Any] = {"advantage": "group_centred", "ratio": "token", "aggregation": "token"}
CLIP: dict[str, Any] = {"bounding": "clip", "clip_low": 0.2, "clip_high": 0.2}


def test_needs_no_torch() -> None:
    code = "import sys, ridgeline.objectives.presets; sys.exit('torch' in sys.modules)"
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
    assert [name for name, objective in PRESETS.items() if objective.needs_critic] == ["ppo", "vapo"]
    assert [name for name, preset in PRESETS.items() if preset.importance == "none"] == [
        "topr",
        "mirror_descent",
        "a2po",
    ]
    assert {preset.importance_high for preset in PRESETS.values() if preset.importance == "truncated"} == {
        2.0
    }


def test_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        PRESETS["grpo"].kl_coefficient = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        PRESETS["grpo"] = PRESETS["rloo"]  # type: ignore[index]


GAE: dict[str, Any] = {"advantage": "gae", "value_coefficient": 1.0}
REGRESSION: dict[str, Any] = {
    "ratio": "product",
    "bounding": "regression",
    "regression_beta": 0.1,
    "aggregation": "fixed",
}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"advantage": "zscore"}, "unknown advantage 'zscore'; choose one of: batch_centred"),
    ({"kl_estimator": "k4"}, "unknown kl_estimator 'k4'"),
    ({"kl_estimator": "k1", "kl_coefficient": 0.1}, "k1 placed in the loss regularises nothing"),
    ({"kl_coefficient": -0.1}, "kl_coefficient = -0.1"),
    ({"kl_coefficient": float("nan")}, "kl_coefficient = nan"),
    ({"kl_corrected": True, "kl_placement": "reward"}, "kl_corrected multiplies a KL in the loss"),
    ({"kl_corrected": True, "kl_estimator": "k2"}, "k2 is biased"),
    ({"advantage": "max_rl", "kl_placement": "reward", "kl_coefficient": 0.1}, "max_rl needs rewards"),
    ({"advantage": "process_zscore", "kl_placement": "reward", "kl_coefficient": 0.1}, "one by one"),
    (
        {
            "components": "separate",
            "advantage": "group_zscore",
            "kl_placement": "reward",
            "kl_coefficient": 0.1,
        },
        "components 'separate' normalises rewards one by one",
    ),
    ({"clip_high": 0.2}, "clip_high does nothing with bounding 'none'"),
    ({"bounding": "clip", "clip_low": 0.2}, "bounding 'clip' needs clip_high"),
    ({**CLIP, "ratio": "none"}, "needs a ratio to bound"),
    ({**CLIP, "ratio": "product"}, "does not fit ratio 'product'; it needs ratio = 'token' or"),
    ({**CLIP, "bounding": "clip_tokens"}, "needs ratio = 'sequence'"),
    ({"bounding": "taper"}, "needs ratio = 'product'"),
    ({"ratio": "product"}, "bounding 'none' does not fit ratio 'product'"),
    ({**CLIP, "clip_low": 1.2}, "outside \\(0, 1\\]"),
    ({**CLIP, "clip_high": 0.0}, "clip_high = 0.0"),
    ({**CLIP, "clip_delta": 0.9}, "clip_delta = 0.9"),
    ({"bounding": "soft", "shape_positive": (1.0,)}, "needs shape_negative"),
    ({"bounding": "soft", "shape_positive": (1.0, 2.0), "shape_negative": (1.0,)}, "needs 1 finite"),
    ({"bounding": "soft", "shape_positive": (0.0,), "shape_negative": (1.0,)}, "shape_positive"),
    ({"bounding": "total_variation"}, "needs divergence_limit"),
    ({"bounding": "binary_kl", "divergence_limit": 0.0}, "divergence_limit = 0.0"),
    ({**REGRESSION, "aggregation": "token"}, "set aggregation = 'fixed'"),
    ({**REGRESSION, "regression_beta": None}, "needs regression_beta"),
    ({**REGRESSION, "advantage": "rewards_to_go"}, "has one per token"),
    ({**REGRESSION, "entropy_share": 0.2}, "none per token"),
    ({**REGRESSION, "importance": "truncated", "importance_high": 2.0}, "importance_level"),
    ({"anchor": "reference"}, "anchor = 'reference' does nothing"),
    ({"advantage": "optimal_value"}, "needs optimal_beta"),
    ({"advantage": "rewards_to_go", "ratio": "sequence"}, "use ratio = 'sequence_token'"),
    ({"length": 8}, "length does nothing with aggregation 'token'"),
    ({"aggregation": "fixed", "length": 0}, "at least 1 token"),
    ({"advantage": "batch_whiten", "whiten": True}, "whiten repeats"),
    ({"components": "separate", "advantage": "batch_centred"}, "within its group"),
    ({"components": "separate", "whiten": True}, "whiten repeats"),
    ({"importance_high": 2.0}, "does nothing with importance 'none'"),
    ({"importance_level": "product"}, "does nothing with importance 'none'"),
    ({"importance": "truncated"}, "needs importance_high"),
    (
        {"importance": "truncated", "importance_low": 0.5, "importance_high": 2.0},
        "importance_low does nothing",
    ),
    ({"importance": "masked", "importance_high": 2.0}, "needs importance_low"),
    ({"importance": "masked", "importance_low": 2.0, "importance_high": 2.0}, "importance_low <"),
    ({"off_policy_limit": 0.0}, "off_policy_limit = 0.0"),
    ({"entropy_coefficient": -1.0}, "entropy_coefficient = -1.0"),
    ({"entropy_share": 0.0}, "entropy_share = 0.0"),
    ({"positive_nll": float("inf")}, "positive_nll = inf"),
    ({"advantage": "gae"}, "needs a critic"),
    ({"value_coefficient": 0.5}, "has no critic"),
    ({"value_clip": 0.2}, "value_clip does nothing"),
    ({"critic_lam": 1.0}, "critic_lam does nothing"),
    ({"lam": 0.9}, "need 'gae'"),
    ({"gamma": 0.9}, "need 'gae'"),
    ({**GAE, "gamma": 1.5}, "between 0 and 1"),
    ({**GAE, "value_clip": 0.0}, "value_clip = 0.0"),
    ({**GAE, "critic_lam": 1.5}, "critic_lam = 1.5"),
    ({**GAE, "lam_length": 0.05, "lam": 0.9}, "drop one of the two"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_refuses_nonsense(changes: dict[str, Any], message: str) -> None:
    PolicyObjective(**MINIMAL)
    with pytest.raises(ValueError, match=message):
        PolicyObjective(**{**MINIMAL, **changes})


@pytest.mark.parametrize("base", [GAE, REGRESSION, CLIP, {"gamma": 0.9, "advantage": "rewards_to_go"}])
def test_what_the_refusals_start_from_is_allowed(base: dict[str, Any]) -> None:
    PolicyObjective(**{**MINIMAL, **base})


def test_a_corrected_k1_may_stand_in_the_loss() -> None:
    PolicyObjective(**MINIMAL, kl_estimator="k1", kl_coefficient=0.1, kl_corrected=True)
