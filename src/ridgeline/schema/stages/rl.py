"""Options of policy optimisation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ridgeline.schema.config import SOURCE, Config
from ridgeline.schema.records import reshaping
from ridgeline.schema.stages.common import (
    LearningStage,
    Optimiser,
    Reference,
    RewardSpec,
    Sampling,
    Source,
    model_reference,
)


class Kl(Config):
    """The leash to the reference policy (the stage's starting model)."""

    coefficient: float | None = Field(None, ge=0)
    """What a nat costs, in units of reward; 0: no leash (KL is measured still). None: as in the preset."""
    estimator: Literal["k1", "k2", "k3"] | None = None
    """None: as the preset has it."""
    placement: Literal["loss", "reward"] | None = None
    """None: as the preset has it."""
    corrected: bool | None = None
    """Multiply a KL in the loss by the live ratio, so that its gradient is exact. None: as in the preset."""
    target: float | None = Field(None, gt=0)
    """Nats per completion: adapt the coefficient toward this KL (Ziegler et al. 2019)."""

    @model_validator(mode="after")
    def _no_k1_in_loss(self) -> Kl:
        if self.estimator == "k1" and self.placement == "loss" and not self.corrected:
            raise ValueError(
                "k1 placed in the loss regularises nothing (its expected gradient is zero); "
                'use placement = "reward", or estimator = "k2" or "k3"'
            )
        if self.target is not None and not self.coefficient:
            raise ValueError("an adaptive coefficient needs a start above 0; set coefficient = 0.05")
        return self


class Critic(Config):
    """A value function, for objectives whose advantage is ``gae``."""

    initialise_from: str = "policy"
    """``policy`` (the stage's starting model with a zero head) or the name of a ``reward_model`` stage."""
    warmup: int = Field(0, ge=0)
    """First rollouts of the stage that train the critic only."""
    optimiser: Optimiser = Optimiser(learning_rate=1e-4, betas=(0.9, 0.95))


class Entropy(Config):
    """An entropy bonus that switches on below a target (Skywork-OR1, He et al. 2025).

    Its level rises by ``gain`` after every step below the target and falls by as much after every other one;
    it is in force while the entropy is at most the target.
    """

    target: float = Field(gt=0)
    """Nats per token."""
    gain: float = Field(0.005, gt=0)
    """What the level moves by in one step."""
    minimum: float = Field(0.0, ge=0)
    """The level starts here and never falls below."""
    maximum: float = Field(0.1, ge=0)
    """The level never rises above."""

    @model_validator(mode="after")
    def _in_order(self) -> Entropy:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum = {self.minimum} exceeds maximum = {self.maximum}")
        return self


class Overlong(Config):
    """A soft penalty on length (DAPO), recorded as the reward ``overlong`` and added to the total.

    0 up to ``buffer`` tokens before sampling.max_new_tokens, then falling linearly to -1 at the limit.
    """

    buffer: int = Field(ge=1)
    """Tokens over which the penalty grows."""
    coefficient: float = Field(1.0, gt=0)
    """Its weight in the total."""


class Pretrain(Config):
    """Likelihood of other text, added to every optimizer step so that old abilities stay (PPO-ptx)."""

    data: Source
    """Rows with ``text``, every token of which counts, or instruction rows, where the answers count."""
    coefficient: float = Field(1.0, gt=0)
    """Weight of the negative log-likelihood per token."""
    rows_per_step: int = Field(8, ge=1)
    """Rows per optimizer step."""
    max_length: int = Field(1024, ge=2)
    """Tokens; longer rows keep their beginning."""


class RlStage(LearningStage):
    """Sample, score, and move the policy toward what scored better than expected, under a KL leash."""

    type: Literal["rl"] = "rl"
    prompts: Source
    """A file, folder or hub id of prompts; other columns of a row are given to the rewards."""
    heldout: Annotated[str | None, SOURCE] = None
    """Prompts for evaluation; without them the stage reports training batches only."""
    reference: str | None = None
    """What KL is measured to: ``base`` or an earlier stage; None: this stage's own starting weights."""
    reward: list[RewardSpec] = Field(min_length=1)
    monitor: list[RewardSpec] = Field(default_factory=list)
    """Rewards that are logged and never trained on, such as the gold reward."""
    objective: str | dict[str, Any] = "grpo"
    """The name of a preset (they are listed in presets.md), or a table: ``preset`` and changed axes."""
    kl: Kl | None = None
    """A table that changes what the objective's preset says, key by key."""
    entropy: Entropy | None = None
    """An adaptive entropy bonus; for a constant one set the axis ``entropy_coefficient``."""
    critic: Critic = Critic()
    prompts_per_step: int = Field(16, ge=1)
    samples_per_prompt: int = Field(4, ge=1)
    steps: int = Field(20, ge=1)
    """Rollouts of a round; each is followed by updates_per_rollout optimizer steps."""
    repeat: int = Field(1, ge=1)
    """Rounds: each later one starts with the current policy as its new reference (iterated RLHF)."""
    max_resampling: int = Field(0, ge=0)
    """How often the groups of a rollout that carry no signal are replaced by other prompts (DAPO)."""
    updates_per_rollout: int = Field(1, ge=1)
    """Optimizer steps on one rollout: the batch is cut by prompt into this many parts, each used once."""
    epochs_per_rollout: int = Field(1, ge=1)
    """Passes over one rollout."""
    truncation: Literal["score", "penalty"] = "score"
    """Completions cut at the limit: scored like the others, or given truncation_reward instead."""
    truncation_reward: float = -1.0
    overlong: Overlong | None = None
    """A penalty that grows toward the limit instead."""
    step_separator: str | None = Field(None, min_length=1)
    """Ends a step, for process supervision: the rewards then judge the completion after every step."""
    whiten_rewards: bool = False
    """Scale the combined reward of a rollout to unit variance, keeping its mean (PPO's classic trick)."""
    sampling: Sampling = Sampling()
    pretrain: Pretrain | None = None
    """A pretraining mix."""
    optimiser: Optimiser = Optimiser(betas=(0.9, 0.95))
    evaluate_every: int = Field(0, ge=0)
    """Rollouts between held-out evaluations; 0: only before and after."""
    evaluation_samples: int = Field(4, ge=1)
    features: bool = True
    """Save where the reference sees every completion it scores (mean-pooled last hidden states, 8 bytes per
    completion and hidden unit), for maps; it takes no forward pass of its own."""
    checkpoint_every: int = Field(10, ge=1)

    def references(self) -> list[Reference]:
        own = super().references()
        if self.reference is not None:
            own.append(model_reference("reference", self.reference))
        start = self.critic.initialise_from
        return [*own, Reference("critic.initialise_from", start, ("reward_model",), besides=("policy",))]

    @model_validator(mode="after")
    def _full_distribution(self) -> RlStage:
        if self.sampling.temperature == 0:
            raise ValueError("sampling.temperature = 0 explores nothing, so every group is equal; use 1.0")
        if changed := reshaping(self.sampling):
            names = " and ".join(f"sampling.{name}" for name in changed)
            raise ValueError(
                f"rl compares log-probs over the whole vocabulary as the model has them; remove {names} "
                "(a sampler of another distribution biases the importance ratio)"
            )
        if self.updates_per_rollout > self.prompts_per_step:
            raise ValueError("updates_per_rollout cannot exceed prompts_per_step: a group is never split")
        return self

    @model_validator(mode="after")
    def _additions(self) -> RlStage:
        limit = self.sampling.max_new_tokens
        if self.overlong is not None and self.overlong.buffer > limit:
            raise ValueError(
                f"overlong.buffer = {self.overlong.buffer} exceeds sampling.max_new_tokens = {limit}"
            )
        if self.overlong is not None and self.truncation == "penalty":
            raise ValueError(
                'truncation = "penalty" replaces the reward that overlong is part of; drop one of the two'
            )
        if self.pretrain is not None and self.sampling.temperature != 1:
            raise ValueError(
                "pretrain needs sampling.temperature = 1: the policy learns its tempered distribution, and "
                "the likelihood of text is that of the plain one"
            )
        return self
