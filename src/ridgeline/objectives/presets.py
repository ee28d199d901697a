"""The named points of the space of policy-gradient algorithms, a line or a few each.

Constants are those of the papers where they give them. KL of REINFORCE, RLOO and PPO: the usual static 0.05.
What acts on rollouts or rewards (DAPO's dynamic sampling and over-long penalty, VAPO's value warm-up) belongs
to the stage, not to the objective. BNPO is "token" aggregation, which here always counts the whole step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from ridgeline.objectives.axes import PolicyObjective

# Truncated importance sampling is on wherever the algorithm brings no correction of its own: its weight is 1
# where sampler and learner agree, and it is what saves a run where they do not (Yao et al. 2025).
_REINFORCE = PolicyObjective(
    advantage="batch_centred",
    ratio="none",
    aggregation="fixed",
    length=1,
    kl_coefficient=0.05,
    kl_estimator="k1",
    kl_placement="reward",
    importance="truncated",
    importance_high=2.0,
)
_UNLEASHED = replace(_REINFORCE, kl_coefficient=0.0, kl_estimator="k3", kl_placement="loss")
_PPO = PolicyObjective(
    advantage="gae",
    whiten=True,
    ratio="token",
    bounding="clip",
    clip_low=0.2,
    clip_high=0.2,
    aggregation="token",
    kl_coefficient=0.05,
    kl_estimator="k1",
    kl_placement="reward",
    importance="truncated",
    importance_high=2.0,
    value_coefficient=0.5,
    value_clip=0.2,
)
_GRPO = PolicyObjective(
    advantage="group_zscore",
    ratio="token",
    bounding="clip",
    clip_low=0.2,
    clip_high=0.2,
    aggregation="sequence",
    kl_coefficient=0.04,
    kl_estimator="k3",
    kl_placement="loss",
    importance="truncated",
    importance_high=2.0,
)
_PLUS_PLUS = replace(_PPO, advantage="rewards_to_go", value_coefficient=0.0, value_clip=None)
_FREE = replace(_GRPO, kl_coefficient=0.0)
_GSPO = replace(_FREE, ratio="sequence", clip_low=3e-4, clip_high=4e-4)
_UNCLIPPED = replace(_FREE, bounding="none", clip_low=None, clip_high=None)
_REGRESSION = replace(
    _UNLEASHED,
    ratio="product",
    bounding="regression",
    importance="none",
    importance_high=None,
    advantage="group_centred",
    regression_beta=0.1,
)

PRESETS: Mapping[str, PolicyObjective] = MappingProxyType(
    {
        "reinforce": _REINFORCE,
        "reinforce++": _PLUS_PLUS,
        "reinforce++_baseline": replace(
            _PLUS_PLUS, advantage="group_centred", kl_estimator="k2", kl_placement="loss"
        ),
        "rloo": replace(_REINFORCE, advantage="leave_one_out"),
        "remax": replace(_REINFORCE, advantage="greedy_baseline"),
        "max_rl": replace(_UNLEASHED, advantage="max_rl"),
        "ppo": _PPO,
        "vapo": replace(
            _PPO,
            clip_high=0.28,
            kl_coefficient=0.0,
            kl_estimator="k3",
            kl_placement="loss",
            lam_length=0.05,
            critic_lam=1.0,
            positive_nll=0.1,
        ),
        "grpo": _GRPO,
        "process_grpo": replace(_GRPO, advantage="process_zscore"),
        "gdpo": replace(_FREE, components="separate"),
        "dr_grpo": replace(_FREE, advantage="group_centred", aggregation="fixed"),
        "dapo": replace(_FREE, clip_high=0.28, aggregation="token"),
        "two_sided": replace(_GRPO, clip_delta=4.0),
        "gspo": _GSPO,
        "gspo_token": replace(_GSPO, ratio="sequence_token"),
        "luspo": replace(_GSPO, clip_low=2e-3, clip_high=2.5e-3, aggregation="fixed", length=1),
        "gmpo": replace(
            _FREE,
            ratio="sequence",
            bounding="clip_tokens",
            clip_low=1 - math.exp(-0.4),
            clip_high=math.exp(0.4) - 1,
        ),
        "cispo": replace(_FREE, bounding="weight", clip_low=1.0, clip_high=4.0, aggregation="token"),
        "sapo": replace(_UNCLIPPED, bounding="soft", shape_positive=(1.0,), shape_negative=(1.05,)),
        "vespo": replace(
            _UNCLIPPED,
            ratio="product",
            bounding="gamma",
            shape_positive=(2.0, 3.0),
            shape_negative=(3.0, 2.0),
            aggregation="token",
        ),
        "topr": replace(_REGRESSION, bounding="taper", regression_beta=None),
        "icepop": replace(_FREE, importance="masked", importance_low=0.5, importance_high=5.0),
        "dppo": replace(_UNCLIPPED, bounding="total_variation", divergence_limit=0.15, aggregation="token"),
        "mirror_descent": _REGRESSION,
        "a2po": replace(
            _REGRESSION,
            advantage="optimal_value",
            optimal_beta=0.5,
            anchor="reference",
            regression_beta=1e-3,
        ),
    }
)
