"""The axes of a policy-gradient algorithm as one frozen value.

Free of torch, so that recipes can be checked and planned before anything heavy is loaded. The named points of
the space are in `presets`, what cannot be combined in `axes_checks`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline.objectives.axes_checks import check
from ridgeline.objectives.axis_names import (
    Advantage,
    Aggregation,
    Anchor,
    Bounding,
    Components,
    Estimator,
    Importance,
    Level,
    Placement,
    Ratio,
)

__all__ = [
    "Advantage",
    "Aggregation",
    "Anchor",
    "Bounding",
    "Components",
    "Estimator",
    "Importance",
    "Level",
    "Placement",
    "PolicyObjective",
    "Ratio",
]


@dataclass(frozen=True, kw_only=True)
class PolicyObjective:
    """One policy-gradient algorithm: a point in advantage x ratio x bounding x aggregation x KL x correction.

    Use `dataclasses.replace(PRESETS["grpo"], kl_coefficient=0.1)` to move along one axis.

    advantage: how rewards become advantages, named after the function in `objectives.advantages`.
    components: "summed" takes the advantage of the weighted sum of the rewards; "separate" the advantage of
        each reward within its group, then their weighted sum, whitened over the step (GDPO).
    whiten: whether the advantages of the whole optimizer step are whitened over valid tokens afterwards.
    ratio: what multiplies the advantage: nothing (plain log-prob), the token ratio, the geometric mean of the
        token ratios of the sequence (GSPO), that mean with each token's own gradient ("sequence_token",
        GSPO-token), or the product of the token ratios of the sequence.
    bounding: what holds the ratio. "clip" is PPO's pessimistic minimum; "clip_tokens" takes it per token
        before the geometric mean (GMPO); "weight" clips the ratio and uses it as a constant weight on the
        log-prob, so that every token keeps a gradient (CISPO); "soft" is a sigmoid gate (SAPO); "taper"
        weighs the log-prob by 1 where the advantage is positive and by the ratio, at most 1, elsewhere
        (TOPR); "gamma" weighs it by a gamma-shaped kernel of the ratio (VESPO); "total_variation" and
        "binary_kl" drop tokens whose probability moved too far from the sampler's (DPPO); "regression" fits
        the log-ratio of the sequence to the advantage by least squares (A2PO, mirror descent).
    clip_low, clip_high: the interval is [1 - clip_low, 1 + clip_high]; clip_low = 1 means no lower bound.
    clip_delta: with "clip", a bound on the unclipped ratio too, for the case that PPO leaves open: a
        negative advantage and a large ratio (two-sided clipping; above 1 + clip_high, 4 is usual).
    shape_positive, shape_negative: of positive and of other advantages, the temperature of "soft" (one
        number) or the power k and the rate lambda of "gamma" (two numbers).
    divergence_limit: of "total_variation" and "binary_kl", per token.
    regression_beta: reward units per nat of log-ratio in "regression".
    anchor: what "regression" measures the log-ratio against: the old policy or the reference.
    optimal_beta: reward units per nat in the value of "optimal_value".
    aggregation: mean per token, per sequence then over sequences, or per sequence over a fixed `length`.
    length: divisor of "fixed" aggregation in tokens, constant for a whole run. None leaves it to the caller
        (usually the completion limit of the run). With length = 1 tokens are summed, as REINFORCE has it.
    kl_coefficient: weight of the KL to the reference in nats; 0 switches it off and needs no reference.
    kl_estimator, kl_placement: see `objectives.kl` for the gradient that each pair yields.
    kl_corrected: whether a KL in the loss (k1 or k3) is multiplied by the live token ratio, which makes its
        gradient that of KL(policy || reference), off-policy too.
    importance: correction of the sampler-learner mismatch; "truncated" caps the weight at importance_high,
        "masked" drops what leaves [importance_low, importance_high]. The weight is 1 where both agree.
    importance_level: weights per token, or one per sequence: the geometric mean ("sequence") or the product
        of its tokens' weights.
    off_policy_limit: nats per token; sequences of negative advantage are dropped when the current policy has
        moved further than this from the old one. None keeps them.
    entropy_coefficient: weight of the entropy bonus in nats, aggregated as the loss is.
    entropy_share: share of the step's tokens, those of highest entropy, that keep their advantage.
    positive_nll: weight of a negative log-likelihood, per token, on completions of positive reward (VAPO).
    gamma, lam: discount and trace decay of generalised advantage estimation; "rewards_to_go" uses gamma.
    lam_length: trace decay 1 - 1 / (lam_length * tokens) of each completion, in place of lam (VAPO).
    critic_lam: trace decay of the critic's targets, where it is not that of the advantages (VAPO: 1).
    value_coefficient: weight of the critic's loss.
    value_clip: range by which a value may move, in reward units; None does not clip.

    Raises ValueError for an unknown name, a number out of range and combinations that cannot work.
    """

    advantage: Advantage
    ratio: Ratio
    aggregation: Aggregation
    components: Components = "summed"
    whiten: bool = False
    bounding: Bounding = "none"
    clip_low: float | None = None
    clip_high: float | None = None
    clip_delta: float | None = None
    shape_positive: tuple[float, ...] | None = None
    shape_negative: tuple[float, ...] | None = None
    divergence_limit: float | None = None
    regression_beta: float | None = None
    anchor: Anchor = "old"
    optimal_beta: float | None = None
    length: int | None = None
    kl_coefficient: float = 0.0
    kl_estimator: Estimator = "k3"
    kl_placement: Placement = "loss"
    kl_corrected: bool = False
    importance: Importance = "none"
    importance_level: Level = "token"
    importance_low: float | None = None
    importance_high: float | None = None
    off_policy_limit: float | None = None
    entropy_coefficient: float = 0.0
    entropy_share: float = 1.0
    positive_nll: float = 0.0
    gamma: float = 1.0
    lam: float = 0.95
    lam_length: float | None = None
    critic_lam: float | None = None
    value_coefficient: float = 0.0
    value_clip: float | None = None

    def __post_init__(self) -> None:
        check(self)

    @property
    def needs_reference(self) -> bool:
        """Whether log-probs of a frozen reference are part of the objective."""
        return self.kl_coefficient > 0 or self.anchor == "reference"

    @property
    def needs_critic(self) -> bool:
        """Whether a value head is trained along."""
        return self.advantage == "gae"

    @property
    def needs_sampler(self) -> bool:
        """Whether the log-probs recorded by the sampler are part of the loss."""
        return self.importance != "none" or self.bounding in ("total_variation", "binary_kl")
