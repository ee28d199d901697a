"""The choices on every axis of a policy-gradient algorithm, by name. Free of torch."""

from __future__ import annotations

from typing import Literal

Advantage = Literal[
    "batch_centred",
    "batch_whiten",
    "group_centred",
    "group_zscore",
    "leave_one_out",
    "max_rl",
    "optimal_value",
    "greedy_baseline",
    "process_zscore",
    "rewards_to_go",
    "gae",
]
Components = Literal["summed", "separate"]
Level = Literal["token", "sequence", "product"]
Ratio = Literal["none", "token", "sequence", "sequence_token", "product"]
Bounding = Literal[
    "none",
    "clip",
    "clip_tokens",
    "weight",
    "soft",
    "taper",
    "gamma",
    "total_variation",
    "binary_kl",
    "regression",
]
Anchor = Literal["old", "reference"]
Aggregation = Literal["token", "sequence", "fixed"]
Estimator = Literal["k1", "k2", "k3"]
Placement = Literal["reward", "loss"]
Importance = Literal["none", "truncated", "masked"]

TOKEN_ADVANTAGES = frozenset({"process_zscore", "rewards_to_go", "gae"})
"""Advantages that differ from token to token; the others are one number per completion."""
GROUP_ADVANTAGES = frozenset(
    {"group_centred", "group_zscore", "leave_one_out", "max_rl", "optimal_value", "process_zscore"}
)
"""Advantages that compare the samples of one prompt: a group of equal rewards carries no signal."""
