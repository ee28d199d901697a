"""Options that several stages share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ridgeline.schema.config import FUNCTION, SOURCE, Config

Source = Annotated[str, SOURCE]
"""A file, folder or hub id of rows."""
Function = Annotated[str, FUNCTION]
"""A name, ``package.module:function`` or ``path/to/file.py:function``."""
MODEL_STAGES = ("sft", "preference", "unpaired", "rl", "reject", "distill", "merge")
"""Stage types whose output is a language model."""
PAIR_STAGES = ("collect", "reject")
"""Stage types that write preference pairs."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A value in a stage that means, or may mean, what an earlier stage made.

    key: where it stands, as the user would call it. kinds: types of stages that fit. besides: other names
    that fit. elsewhere: it may also be a file, a hub id or a function, so it is checked only where a stage
    bears the name.
    """

    key: str
    name: str
    kinds: tuple[str, ...]
    besides: tuple[str, ...] = ()
    elsewhere: bool = False


class StageConfig(Config):
    """Every stage has a name, by which later stages refer to what it made."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Lower case letters, digits, - and _."""

    def references(self) -> list[Reference]:
        """What this stage takes from earlier ones; rewards are found by themselves."""
        return []

    @model_validator(mode="before")
    @classmethod
    def _keep_stage_defaults(cls, values: Any) -> Any:
        """A table given in part (``optimiser = { learning_rate = 1e-5 }``) changes only what it names."""
        if not isinstance(values, dict):
            return values
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return {
            name: {**default.model_dump(), **value}
            if isinstance(value, dict) and isinstance(default := defaults.get(name), Config)
            else value
            for name, value in values.items()
        }


class ModelStage(StageConfig):
    """A stage that starts from one model."""

    model: str = "base"
    """``base`` (the recipe's model) or the name of an earlier stage that makes a model."""

    def references(self) -> list[Reference]:
        return [model_reference("model", self.model)]


def model_reference(key: str, name: str) -> Reference:
    """``base`` or an earlier stage that makes a language model."""
    return Reference(key, name, MODEL_STAGES, besides=("base",))


class Optimiser(Config):
    """AdamW on float32 master weights."""

    learning_rate: float = Field(2e-5, ge=0)
    """The rate after the warm-up."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up: stay, or decay to 0 at the last step."""
    warmup: int = Field(3, ge=0)
    """Steps of linear warm-up from learning_rate / (warmup + 1)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running mean of gradients, and of their squares."""
    epsilon: float = Field(1e-8, gt=0)
    """Added to the root of the mean square."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled; applied to matrices only, never to norms and biases."""
    max_gradient_norm: float = Field(1.0, gt=0)
    """A longer gradient is scaled down to this L2 norm."""


class Sampling(Config):
    """The distribution that completions are drawn from: bias, penalties, temperature, top_k, top_p, min_p."""

    max_new_tokens: int = Field(128, ge=1)
    """Completions are cut here, and say so."""
    temperature: float = Field(1.0, ge=0)
    """0 is greedy decoding."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Keep the smallest set of likely tokens with this much mass; 1 keeps all."""
    top_k: int = Field(0, ge=0)
    """0 keeps the whole vocabulary."""
    min_p: float = Field(0.0, ge=0, le=1)
    """Keep tokens at least this share as likely as the likeliest (Nguyen et al. 2024); 0 keeps all."""
    repetition_penalty: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Logits of tokens in the prompt or the completion are divided by it where positive, else multiplied
    (Keskar et al. 2019); 1 changes nothing."""
    presence_penalty: float = Field(0.0, allow_inf_nan=False)
    """Taken from the logits of tokens that the completion has already."""
    frequency_penalty: float = Field(0.0, allow_inf_nan=False)
    """Taken from the logits of the completion's tokens once for every time they are in it."""
    logit_bias: dict[str, float] = Field({})
    """Added to the logits of tokens: a token's id, or its text, and a number; -100 bans it."""
    stop: list[str] = Field([])
    """Texts that end a completion, which is cut before the first of them."""

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _ids_as_text(cls, value: Any) -> Any:
        """TOML has only text for keys; in Python an id may be a number."""
        return {str(key): number for key, number in value.items()} if isinstance(value, dict) else value

    @field_validator("logit_bias")
    @classmethod
    def _finite(cls, value: dict[str, float]) -> dict[str, float]:
        if not all(math.isfinite(number) for number in value.values()):
            raise ValueError("a bias must be finite; -100 bans a token")
        return value

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, value: list[str]) -> list[str]:
        if "" in value:
            raise ValueError("an empty text is in every completion; remove it")
        return value


class RewardSpec(Config):
    """One component of the reward.

    ``function`` is the name of an earlier ``reward_model`` stage, a built-in reward, or
    ``package.module:function`` / ``path/to/file.py:function``.
    """

    function: Function
    weight: float = 1.0
    """Its share in the sum that the policy is trained on."""
    timeout: float = Field(30.0, gt=0)
    """Seconds a batch may take in the worker process before it is killed and counted as None."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"function": value} if isinstance(value, str) else value


class Work(Config):
    """How a step is cut into pieces; changes speed and memory, never a result beyond rounding."""

    tokens_per_microbatch: int = Field(3072, ge=1)
    """A unit (sequence, pair, group) is never split, so one unit may exceed it."""
    layout: Literal["auto", "padded", "packed"] = "auto"
    """``packed`` encodes a shared prompt once and pads nothing; ``auto`` uses it where the model allows."""
    checkpointing: bool = False
    """Keep no activations but compute them again in the backward pass: less memory, about a third slower."""


class Adapter(Config):
    """Small trainable matrices beside frozen weights, through peft (Hu et al. 2022; Liu et al. 2024)."""

    kind: Literal["lora", "dora"] = "lora"
    """``dora`` also learns the length of every weight column."""
    rank: int = Field(16, ge=1)
    """Of the update of each matrix."""
    alpha: float = Field(32.0, gt=0)
    """The update counts alpha / rank times."""
    targets: str | list[str] = "all-linear"
    """Names of the layers that get one; ``all-linear``: every linear layer but the head."""


class LearningStage(ModelStage):
    """A stage that changes the weights of its model."""

    adapter: Adapter | None = None
    """Train a LoRA or DoRA adapter instead of every weight: saved by itself, and merged into the model."""
    work: Work = Work()
