"""Options of direct alignment on preference pairs, given or made on the way."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ridgeline.schema.config import SOURCE, Config
from ridgeline.schema.stages.common import (
    PAIR_STAGES,
    LearningStage,
    Optimiser,
    Reference,
    RewardSpec,
    Sampling,
    Source,
    model_reference,
)


class Refresh(Config):
    """Move the reference after the policy (TR-DPO, Gorbatovski et al. 2024)."""

    every: int = Field(..., ge=1)
    """Steps between two moves."""
    share: float = Field(1.0, gt=0, le=1)
    """What the reference takes of the policy's weights: 1 replaces it, less moves it part of the way."""


class Discriminator(Config):
    """A reward model that is trained along, on new labels of what the policy says now (D2PO)."""

    start: str
    """The name of an earlier ``reward_model`` stage; its head goes on learning."""
    gold: RewardSpec
    """Who labels: a reward that plays the expensive annotator."""
    every: int = Field(4, ge=1)
    """Steps between two rounds of labels."""
    pairs: int = Field(32, ge=1)
    """Newest pairs that are labelled in a round (fewer where there are fewer)."""
    updates: int = Field(8, ge=1)
    """Optimizer steps of a round, each on all labels so far."""
    optimiser: Optimiser = Optimiser(learning_rate=1e-2, warmup=0)

    @model_validator(mode="after")
    def _gold_has_no_weight(self) -> Discriminator:
        if self.gold.weight != 1:
            raise ValueError("gold only says which of two is better, so its weight does nothing; remove it")
        return self


class Online(Config):
    """Pairs that are made on the way: sample, judge, step."""

    method: Literal["dpo", "nash_md", "xpo", "d2po"] = "dpo"
    """``dpo``: the best and the worst of the policy's samples. ``nash_md``: against a mixture of policy and
    reference. ``xpo``: against the reference, with a bonus for what it would not say. ``d2po``: judged by a
    discriminator that learns along."""
    prompts: Source
    """A file, folder or hub id of prompts; other columns of a row are given to the rewards."""
    heldout: Annotated[str | None, SOURCE] = None
    """Prompts for evaluation before and after."""
    reward: list[RewardSpec] = Field(default_factory=list)
    """The judge: the completion with the higher sum is preferred (``d2po`` has its discriminator instead)."""
    monitor: list[RewardSpec] = Field(default_factory=list)
    """Rewards that are logged and never decide."""
    steps: int = Field(20, ge=1)
    """Each samples, judges and takes one optimizer step."""
    prompts_per_step: int = Field(16, ge=1)
    """One pair of each."""
    samples_per_prompt: int = Field(2, ge=2)
    """``dpo`` and ``d2po``: how many completions the pair is taken from."""
    temperature: float | None = Field(None, gt=0)
    """P(a over b) = sigmoid((reward a - reward b) / temperature); None: 1, and ties are left out (for
    ``nash_md`` a tie is 1/2)."""
    mixture: float = Field(0.125, gt=0, le=1)
    """``nash_md``: share of the reference in the geometric mixture that is played against."""
    kl: float = Field(0.05, ge=0)
    """``nash_md``: what a nat of KL to the reference costs, in units of preference."""
    exploration: float = Field(1e-5, ge=0)
    """``xpo``: weight of the bonus; 0 is online DPO against the reference."""
    discriminator: Discriminator | None = None
    """``d2po`` only."""
    sampling: Sampling = Sampling()
    evaluation_samples: int = Field(4, ge=1)
    features: bool = True
    """Save where the reference sees every completion it scores (mean-pooled last hidden states, 8 bytes per
    completion and hidden unit), for maps; it takes no forward pass of its own."""

    @model_validator(mode="after")
    def _method_has_its_options(self) -> Online:
        owners = {"mixture": "nash_md", "kl": "nash_md", "exploration": "xpo", "discriminator": "d2po"}
        for name, method in owners.items():
            if name in self.model_fields_set and getattr(self, name) is not None and self.method != method:
                if getattr(self, name) == type(self).model_fields[name].default:
                    continue
                raise ValueError(f"{name} does nothing with method '{self.method}'; it belongs to '{method}'")
        if self.method == "d2po" and (self.discriminator is None or self.reward):
            raise ValueError("method 'd2po' needs a discriminator, which judges, and no reward")
        if self.method != "d2po" and not self.reward:
            raise ValueError("a judge is missing; add reward = [...]")
        if self.method in ("nash_md", "xpo") and self.samples_per_prompt != 2:
            raise ValueError(f"method '{self.method}' compares two completions; remove samples_per_prompt")
        if self.sampling.temperature == 0:
            raise ValueError("sampling.temperature = 0 gives equal completions, so no pair; use 1.0")
        return self


class PreferenceStage(LearningStage):
    """Direct alignment: raise what was chosen over what was rejected, without a reward model in the loop."""

    type: Literal["preference"] = "preference"
    data: Annotated[str | None, SOURCE] = None
    """Preference rows, or the name of a ``collect`` or ``reject`` stage; leave it out with ``online``."""
    heldout: Annotated[str | float, SOURCE] = 0.1
    """A file of held-out pairs, or the fraction of prompts to hold out."""
    objective: str | dict[str, Any] | list[dict[str, Any]] = "dpo"
    """A preset (``dpo``, ``ipo``, ``simpo``, ``orpo``, ...), a table of ``preset`` and what changes (options
    of the loss, ``divergence``, ``length_desensitised``, ``weighting``), or a list of bare losses that are
    added up, each a table with its ``weight`` (with such axes: ``{ terms = [...], divergence = "js" }``)."""
    reference: str | None = None
    """``base`` or an earlier stage; None: this stage's own starting weights."""
    refresh: Refresh | None = None
    """None: the reference stays where it is."""
    online: Online | None = None
    """None: learn from ``data``."""
    pairs_per_step: int = Field(16, ge=1)
    """Pairs per optimizer step, with ``data`` (all of them, when there are fewer)."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the pairs."""
    max_length: int = Field(1024, ge=2)
    """Tokens of prompt and longer completion."""
    overlong: Literal["error", "drop"] = "drop"
    """What happens to a longer pair; counted and printed."""
    optimiser: Optimiser = Optimiser(learning_rate=5e-6, schedule="linear")
    evaluate_every: int = Field(0, ge=0)
    """Steps between held-out evaluations; 0: only before and after."""
    checkpoint_every: int = Field(25, ge=1)

    def references(self) -> list[Reference]:
        found = super().references()
        if self.data is not None:
            found.append(Reference("data", self.data, PAIR_STAGES, elsewhere=True))
        if self.reference is not None:
            found.append(model_reference("reference", self.reference))
        if self.online is not None and self.online.discriminator is not None:
            start = self.online.discriminator.start
            found.append(Reference("online.discriminator.start", start, ("reward_model",)))
        return found

    @model_validator(mode="after")
    def _one_origin_of_pairs(self) -> PreferenceStage:
        if (self.data is None) == (self.online is None):
            raise ValueError("give either data (pairs that exist) or online (pairs made on the way)")
        if self.online is not None:
            given = {"pairs_per_step", "epochs", "heldout", "max_length", "overlong"} & self.model_fields_set
            changed = [n for n in sorted(given) if getattr(self, n) != type(self).model_fields[n].default]
            if changed:
                raise ValueError(f"{changed[0]} does nothing with online; see the options of online")
        return self
