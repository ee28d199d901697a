"""Which axes of a `PolicyObjective` cannot work together, each with the sentence that says why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, get_args

from ridgeline.objectives import axis_names as axes
from ridgeline.objectives.axis_names import GROUP_ADVANTAGES, TOKEN_ADVANTAGES

if TYPE_CHECKING:
    from ridgeline.objectives.axes import PolicyObjective

NAMES: Mapping[str, object] = MappingProxyType(
    {
        "advantage": axes.Advantage,
        "components": axes.Components,
        "ratio": axes.Ratio,
        "bounding": axes.Bounding,
        "anchor": axes.Anchor,
        "aggregation": axes.Aggregation,
        "kl_estimator": axes.Estimator,
        "kl_placement": axes.Placement,
        "importance": axes.Importance,
        "importance_level": axes.Level,
    }
)

OWNED: Mapping[str, tuple[str, tuple[str, ...], bool]] = MappingProxyType(
    {
        "clip_low": ("bounding", ("clip", "clip_tokens", "weight"), True),
        "clip_high": ("bounding", ("clip", "clip_tokens", "weight"), True),
        "clip_delta": ("bounding", ("clip",), False),
        "shape_positive": ("bounding", ("soft", "gamma"), True),
        "shape_negative": ("bounding", ("soft", "gamma"), True),
        "divergence_limit": ("bounding", ("total_variation", "binary_kl"), True),
        "regression_beta": ("bounding", ("regression",), True),
        "optimal_beta": ("advantage", ("optimal_value",), True),
        "importance_low": ("importance", ("masked",), True),
        "importance_high": ("importance", ("truncated", "masked"), True),
        "length": ("aggregation", ("fixed",), False),
        "lam_length": ("advantage", ("gae",), False),
        "critic_lam": ("advantage", ("gae",), False),
        "value_clip": ("advantage", ("gae",), False),
    }
)
"""Numbers that belong to one choice on an axis: (axis, choices, whether they must be given there)."""

HOLDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "none": ("none",),
        "token": ("none", "clip", "weight", "soft", "total_variation", "binary_kl"),
        "sequence": ("none", "clip", "clip_tokens", "weight", "soft"),
        "sequence_token": ("none", "clip", "soft"),
        "product": ("weight", "taper", "gamma", "regression"),
    }
)
"""What can hold which ratio. The product of a whole sequence is only used as a constant weight or in logs:
multiplied into every token's loss it would count a sequence once for each of its tokens."""


def check(objective: PolicyObjective) -> None:
    """Raise ValueError for an unknown name, a number out of range and combinations that cannot work."""
    _names(objective)
    _owned_numbers(objective)
    _bounding(objective)
    _kl(objective)
    _importance(objective)
    _critic(objective)
    _advantage(objective)
    _regression(objective)
    _extras(objective)


def _names(o: PolicyObjective) -> None:
    for field, kind in NAMES.items():
        value = getattr(o, field)
        if value not in get_args(kind):
            raise ValueError(f"unknown {field} '{value}'; choose one of: {', '.join(get_args(kind))}")


def _owned_numbers(o: PolicyObjective) -> None:
    for field, (axis, choices, required) in OWNED.items():
        chosen, given = getattr(o, axis), getattr(o, field) is not None
        if given and chosen not in choices:
            raise ValueError(
                f"{field} does nothing with {axis} '{chosen}'; it belongs to {axis} = {_either(choices)}"
            )
        if required and not given and chosen in choices:
            raise ValueError(f"{axis} '{chosen}' needs {field}")


def _either(choices: tuple[str, ...]) -> str:
    return " or ".join(f"'{choice}'" for choice in choices)


def _bounding(o: PolicyObjective) -> None:
    if o.bounding not in HOLDS[o.ratio]:
        if o.ratio == "none":
            raise ValueError(f"bounding '{o.bounding}' needs a ratio to bound; ratio is 'none'")
        fitting = tuple(ratio for ratio, holds in HOLDS.items() if o.bounding in holds)
        raise ValueError(
            f"bounding '{o.bounding}' does not fit ratio '{o.ratio}'; it needs ratio = {_either(fitting)}"
        )
    if o.clip_low is not None and not 0 < o.clip_low <= 1:
        raise ValueError(f"clip_low = {o.clip_low} is outside (0, 1]: the ratio cannot fall below 0")
    _positive(o, "clip_high", "divergence_limit", "regression_beta", "optimal_beta", "off_policy_limit")
    if o.clip_delta is not None and not 1 < o.clip_delta < math.inf:
        raise ValueError(f"clip_delta = {o.clip_delta} must be a finite number above 1, such as 4")
    for field in ("shape_positive", "shape_negative"):
        shape, numbers = getattr(o, field), 1 if o.bounding == "soft" else 2
        if shape is not None and (len(shape) != numbers or not all(0 < x < math.inf for x in shape)):
            raise ValueError(
                f"{field} = {list(shape)}: bounding '{o.bounding}' needs {numbers} finite number(s) above 0"
            )


def _positive(o: PolicyObjective, *fields: str) -> None:
    for field in fields:
        value = getattr(o, field)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{field} = {value} must be a finite number above 0")


def _kl(o: PolicyObjective) -> None:
    if not 0 <= o.kl_coefficient < math.inf:
        raise ValueError(f"kl_coefficient = {o.kl_coefficient} must be a finite number of at least 0")
    if o.kl_corrected and o.kl_placement == "reward":
        raise ValueError(
            "kl_corrected multiplies a KL in the loss by the live ratio; set kl_placement = 'loss'"
        )
    if o.kl_corrected and o.kl_estimator == "k2":
        raise ValueError("kl_corrected makes an unbiased estimator exact, and k2 is biased; use k1 or k3")
    if o.kl_placement == "loss" and o.kl_estimator == "k1" and not o.kl_corrected:
        raise ValueError(
            "k1 placed in the loss regularises nothing: its expected gradient is zero; "
            "put it in the reward, use k2 or k3, or set kl_corrected"
        )
    charged = o.kl_placement == "reward" and o.kl_coefficient > 0
    if charged and o.advantage == "max_rl":
        raise ValueError(
            "max_rl needs rewards that are 0 or 1, and a KL penalty in the reward makes them fractional; "
            "put the KL in the loss"
        )
    if charged and (o.advantage == "process_zscore" or o.components == "separate"):
        which = "process_zscore" if o.advantage == "process_zscore" else "components 'separate'"
        raise ValueError(
            f"{which} normalises rewards one by one, so no sum can carry the KL; put it in the loss"
        )


def _importance(o: PolicyObjective) -> None:
    low, high = o.importance_low, o.importance_high
    if o.importance == "truncated" and (high is None or not 0 < high < math.inf):
        raise ValueError("importance 'truncated' needs a finite importance_high above 0 (2 is usual)")
    if o.importance == "masked" and (low is None or high is None or not 0 <= low < high < math.inf):
        raise ValueError("importance 'masked' needs 0 <= importance_low < importance_high, e.g. 0.5 and 2")
    if o.importance == "none" and o.importance_level != "token":
        raise ValueError("importance_level does nothing with importance 'none'")


def _critic(o: PolicyObjective) -> None:
    if not 0 <= o.gamma <= 1 or not 0 <= o.lam <= 1:
        raise ValueError(f"gamma = {o.gamma} and lam = {o.lam} must lie between 0 and 1")
    if o.critic_lam is not None and not 0 <= o.critic_lam <= 1:
        raise ValueError(f"critic_lam = {o.critic_lam} must lie between 0 and 1")
    _positive(o, "lam_length", "value_clip")
    if o.advantage == "gae":
        if not 0 < o.value_coefficient < math.inf:
            raise ValueError("advantage 'gae' needs a critic that is trained: set value_coefficient above 0")
        if o.lam_length is not None and o.lam != 0.95:
            raise ValueError(
                "lam does nothing with lam_length, which sets the trace decay; drop one of the two"
            )
        return
    if o.value_coefficient != 0:
        raise ValueError(f"advantage '{o.advantage}' has no critic; value_coefficient needs advantage 'gae'")
    if o.lam != 0.95 or (o.gamma != 1 and o.advantage != "rewards_to_go"):
        raise ValueError(
            f"gamma and lam do nothing with advantage '{o.advantage}'; "
            "they need 'gae' (gamma: or 'rewards_to_go')"
        )


def _advantage(o: PolicyObjective) -> None:
    if o.whiten and o.advantage == "batch_whiten":
        raise ValueError("whiten repeats what advantage 'batch_whiten' already does; drop one of the two")
    if o.components == "separate":
        if o.advantage not in GROUP_ADVANTAGES - {"process_zscore", "optimal_value"}:
            raise ValueError(
                f"components 'separate' compares each reward within its group; advantage '{o.advantage}' "
                "does not: choose group_zscore, group_centred, leave_one_out or max_rl"
            )
        if o.whiten:
            raise ValueError("whiten repeats what components 'separate' already does; drop one of the two")
    if o.ratio == "sequence" and o.advantage in TOKEN_ADVANTAGES:
        raise ValueError(
            f"ratio 'sequence' would spread each token's advantage of '{o.advantage}' over the whole "
            "sequence; use ratio = 'sequence_token'"
        )


def _regression(o: PolicyObjective) -> None:
    if o.bounding != "regression":
        if o.anchor != "old":
            raise ValueError(
                f"anchor = '{o.anchor}' does nothing with bounding '{o.bounding}'; it needs 'regression'"
            )
        return
    if o.advantage in TOKEN_ADVANTAGES:
        raise ValueError(
            f"regression fits one number per sequence; advantage '{o.advantage}' has one per token"
        )
    if o.aggregation != "fixed":
        raise ValueError(
            "regression has one loss per sequence, which other aggregations would weigh by length; "
            "set aggregation = 'fixed' and length = 1"
        )
    if o.entropy_share < 1:
        raise ValueError("entropy_share takes the advantage from tokens, but regression has none per token")
    if o.importance != "none" and o.importance_level == "token":
        raise ValueError(
            "regression has one loss per sequence; set importance_level = 'sequence' or 'product'"
        )


def _extras(o: PolicyObjective) -> None:
    if o.length is not None and o.length < 1:
        raise ValueError(f"length = {o.length} must be at least 1 token")
    for field in ("entropy_coefficient", "positive_nll"):
        if not 0 <= getattr(o, field) < math.inf:
            raise ValueError(f"{field} = {getattr(o, field)} must be a finite number of at least 0")
    if not 0 < o.entropy_share <= 1:
        raise ValueError(
            f"entropy_share = {o.entropy_share} must lie in (0, 1]; 0.2 is usual, 1 keeps every token"
        )
