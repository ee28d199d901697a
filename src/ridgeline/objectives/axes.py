"""The axes of a policy-gradient algorithm as one frozen value, and the named points of that space.

Free of torch, so that recipes can be checked and planned before anything heavy is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, get_args

Advantage = Literal[
    "batch_centred",
    "batch_whiten",
    "group_centred",
    "group_zscore",
    "leave_one_out",
    "max_rl",
    "greedy_baseline",
    "gae",
]
Ratio = Literal["none", "token", "sequence"]
Bounding = Literal["none", "clip", "weight"]
Aggregation = Literal["token", "sequence", "fixed"]
Estimator = Literal["k1", "k2", "k3"]
Placement = Literal["reward", "loss"]
Importance = Literal["none", "truncated", "masked"]


@dataclass(frozen=True, kw_only=True)
class PolicyObjective:
    """One policy-gradient algorithm: a point in advantage x ratio x bounding x aggregation x KL x correction.

    Use `dataclasses.replace(PRESETS["grpo"], kl_coefficient=0.1)` to move along one axis.

    advantage: how rewards become advantages, named after the function in `objectives.advantages`.
    whiten: whether the advantages of the whole optimizer step are whitened over valid tokens afterwards.
    ratio: what multiplies the advantage: nothing (plain log-prob), the token ratio, or the geometric mean of
        the token ratios of the sequence (GSPO).
    bounding: "clip" is PPO's pessimistic minimum; "weight" clips the ratio and uses it as a constant weight
    on
        the log-prob, so that every token keeps a gradient (CISPO).
    clip_low, clip_high: the interval is [1 - clip_low, 1 + clip_high]; clip_low = 1 means no lower bound.
    aggregation: mean per token, per sequence then over sequences, or per sequence over a fixed `length`.
    length: divisor of "fixed" aggregation in tokens, constant for a whole run. None leaves it to the caller
        (usually the completion limit of the run). With length = 1 tokens are summed, as REINFORCE has it.
    kl_coefficient: weight of the KL to the reference in nats; 0 switches it off and needs no reference.
    kl_estimator, kl_placement: see `objectives.kl` for the gradient that each pair yields.
    importance: correction of the sampler-learner mismatch; "truncated" caps the weight at importance_high,
        "masked" drops tokens whose weight leaves [importance_low, importance_high].
    gamma, lam: discount and trace decay of generalised advantage estimation.
    value_coefficient, value_clip: weight of the critic's loss, and the range by which a value may move
    (reward
        units; None does not clip).

    Raises ValueError for an unknown name, a number out of range and combinations that cannot work.
    """

    advantage: Advantage
    ratio: Ratio
    aggregation: Aggregation
    whiten: bool = False
    bounding: Bounding = "none"
    clip_low: float | None = None
    clip_high: float | None = None
    length: int | None = None
    kl_coefficient: float = 0.0
    kl_estimator: Estimator = "k3"
    kl_placement: Placement = "loss"
    importance: Importance = "none"
    importance_low: float | None = None
    importance_high: float | None = None
    gamma: float = 1.0
    lam: float = 0.95
    value_coefficient: float = 0.0
    value_clip: float | None = None

    def __post_init__(self) -> None:
        self._check_names()
        self._check_bounding()
        self._check_kl()
        self._check_importance()
        self._check_critic()
        if self.length is not None and (self.aggregation != "fixed" or self.length < 1):
            raise ValueError(
                f"length = {self.length} needs aggregation 'fixed' and at least 1 token; "
                f"aggregation is '{self.aggregation}'"
            )
        if self.whiten and self.advantage == "batch_whiten":
            raise ValueError("whiten repeats what advantage 'batch_whiten' already does; drop one of the two")

    @property
    def needs_reference(self) -> bool:
        """Whether log-probs of a frozen reference are part of the objective."""
        return self.kl_coefficient > 0

    @property
    def needs_critic(self) -> bool:
        """Whether a value head is trained along."""
        return self.advantage == "gae"

    def _check_names(self) -> None:
        for field, kind in _NAMES.items():
            value = self.__dict__[field]
            if value not in get_args(kind):
                raise ValueError(f"unknown {field} '{value}'; choose one of: {', '.join(get_args(kind))}")

    def _check_bounding(self) -> None:
        bounds = (self.clip_low, self.clip_high)
        if self.bounding == "none":
            if bounds != (None, None):
                raise ValueError(
                    "clip_low and clip_high do nothing with bounding 'none'; set bounding = 'clip'"
                )
            return
        if self.ratio == "none":
            raise ValueError(
                f"bounding '{self.bounding}' needs a ratio to bound: set ratio = 'token' or 'sequence'"
            )
        if self.clip_low is None or self.clip_high is None:
            raise ValueError(
                f"bounding '{self.bounding}' needs both clip_low and clip_high, e.g. 0.2 and 0.2"
            )
        if not 0 < self.clip_low <= 1:
            raise ValueError(f"clip_low = {self.clip_low} is outside (0, 1]: the ratio cannot fall below 0")
        if not 0 < self.clip_high < math.inf:
            raise ValueError(f"clip_high = {self.clip_high} must be a finite number above 0")

    def _check_kl(self) -> None:
        if not 0 <= self.kl_coefficient < math.inf:
            raise ValueError(f"kl_coefficient = {self.kl_coefficient} must be a finite number of at least 0")
        if self.kl_placement == "loss" and self.kl_estimator == "k1":
            raise ValueError(
                "k1 placed in the loss regularises nothing: its expected gradient is zero; "
                "put it in the reward or use k2 or k3"
            )
        if self.kl_placement == "reward" and self.kl_coefficient > 0 and self.advantage == "max_rl":
            raise ValueError(
                "max_rl needs rewards that are 0 or 1, and a KL penalty in the reward makes them fractional; "
                "put the KL in the loss"
            )

    def _check_importance(self) -> None:
        low, high = self.importance_low, self.importance_high
        if self.importance == "none" and (low, high) != (None, None):
            raise ValueError("importance_low and importance_high do nothing with importance 'none'")
        if self.importance == "truncated" and (low is not None or high is None or not 0 < high < math.inf):
            raise ValueError(
                "importance 'truncated' needs importance_high above 0 (2 is usual) and no importance_low"
            )
        if self.importance == "masked" and (low is None or high is None or not 0 <= low < high < math.inf):
            raise ValueError(
                "importance 'masked' needs 0 <= importance_low < importance_high, e.g. 0.5 and 2"
            )

    def _check_critic(self) -> None:
        if self.advantage == "gae":
            if not 0 < self.value_coefficient < math.inf:
                raise ValueError(
                    "advantage 'gae' needs a critic that is trained: set value_coefficient above 0"
                )
            if self.value_clip is not None and not 0 < self.value_clip < math.inf:
                raise ValueError(f"value_clip = {self.value_clip} must be above 0; leave it out to not clip")
            if not (0 <= self.gamma <= 1 and 0 <= self.lam <= 1):
                raise ValueError(f"gamma = {self.gamma} and lam = {self.lam} must lie between 0 and 1")
            return
        if self.value_coefficient != 0 or self.value_clip is not None:
            raise ValueError(
                f"advantage '{self.advantage}' has no critic; "
                "value_coefficient and value_clip need advantage 'gae'"
            )
        if (self.gamma, self.lam) != (1.0, 0.95):
            raise ValueError(f"gamma and lam do nothing with advantage '{self.advantage}'; they need 'gae'")


_NAMES: Mapping[str, object] = MappingProxyType(
    {
        "advantage": Advantage,
        "ratio": Ratio,
        "bounding": Bounding,
        "aggregation": Aggregation,
        "kl_estimator": Estimator,
        "kl_placement": Placement,
        "importance": Importance,
    }
)

# Constants are those of the papers (KL of REINFORCE, RLOO and PPO: the usual static 0.05). DAPO's dynamic
# sampling and over-long penalty act on rollouts and rewards, so they are not part of the objective.
_REINFORCE = PolicyObjective(
    advantage="batch_centred",
    ratio="none",
    aggregation="fixed",
    length=1,
    kl_coefficient=0.05,
    kl_estimator="k1",
    kl_placement="reward",
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
)
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
    value_coefficient=0.5,
    value_clip=0.2,
)
_FREE = replace(_GRPO, kl_coefficient=0.0)

PRESETS: Mapping[str, PolicyObjective] = MappingProxyType(
    {
        "reinforce": _REINFORCE,
        "rloo": replace(_REINFORCE, advantage="leave_one_out"),
        "ppo": _PPO,
        "grpo": _GRPO,
        "dr_grpo": replace(_FREE, advantage="group_centred", aggregation="fixed"),
        "dapo": replace(_FREE, clip_high=0.28, aggregation="token"),
        "gspo": replace(_FREE, ratio="sequence", clip_low=3e-4, clip_high=4e-4),
        "cispo": replace(_FREE, bounding="weight", clip_low=1.0, clip_high=4.0, aggregation="token"),
    }
)
