"""Options of rejection sampling and best-of-N."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ridgeline.schema.config import SOURCE
from ridgeline.schema.stages.common import LearningStage, Optimiser, RewardSpec, Sampling, Source

PER_PROMPT = ("top_per_prompt", "statistical")
"""Selections that take the same number of completions of every prompt."""


class RejectStage(LearningStage):
    """Sample, keep the completions with the best rewards, and fine-tune on them."""

    type: Literal["reject"] = "reject"
    prompts: Source
    """A file, folder or hub id of prompts; other columns of a row are given to the rewards."""
    heldout: Annotated[str | None, SOURCE] = None
    """Prompts for evaluation."""
    reward: list[RewardSpec] = Field(min_length=1)
    """What completions are selected by: the weighted sum."""
    monitor: list[RewardSpec] = Field(default_factory=list)
    """Rewards that are logged and never selected by, such as the gold reward."""
    samples_per_prompt: int = Field(8, ge=1)
    """Completions to choose from; 10 to 30 are usual, as far as the reward can tell good from bad."""
    selection: Literal["top_per_prompt", "top_k", "threshold", "statistical"] = "top_per_prompt"
    """``top_per_prompt``: the best of every prompt. ``top_k``: the best of all, which may leave hard prompts
    without any. ``threshold``: whatever reaches it. ``statistical``: accepted with probability
    exp((r - r_max) / beta) until every prompt has its number (RSO, Liu et al. 2024)."""
    keep: int | None = Field(None, ge=1)
    """Completions per prompt (None: 1), or in all with top_k."""
    threshold: float | None = None
    """Units of reward, for the selection of that name."""
    beta: float | None = Field(None, gt=0)
    """Units of reward, for ``statistical``: small is best-of-N, large is no selection."""
    deduplicate: bool = True
    """Of equal texts of one prompt, only the first may be selected."""
    allow_truncated: bool = False
    """Whether completions that were cut at the limit may be selected."""
    good_from: float | None = None
    """What counts as a good completion, in units of the first monitor (without one, of the reward).
    None: 1 where values are only 0 and 1; elsewhere nothing that needs it is reported."""
    preferences: Literal["best_worst", "accepted"] | None = None
    """Also write ``preferences.jsonl``, for stages that learn from pairs: the best against the worst of every
    prompt, or the accepted ones of ``statistical`` two by two."""
    train: bool = True
    """Off: best-of-N selection and nothing else; the stage then makes no model."""
    control: bool = True
    """Also train a second copy of the model on completions chosen at random, as many and with the same steps,
    and report the difference. Fine-tuning on one's own samples changes a model by itself: read only the
    difference. Costs the time and the memory of a second learner."""
    repeat: int = Field(1, ge=1)
    """Rounds of sampling and fine-tuning; each samples from the model that the one before it made."""
    restart: Literal["start", "current"] = "start"
    """What each round fine-tunes: the stage's starting model again, or the current one (RAFT)."""
    rows_per_step: int = Field(16, ge=1)
    """Completions per optimizer step (all of them, when there are fewer)."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the selected completions, in every round."""
    sampling: Sampling = Sampling()
    optimiser: Optimiser = Optimiser(schedule="linear")
    """Begins anew in every round, with its warm-up and its schedule."""
    evaluate_every: int = Field(0, ge=0)
    """Steps between held-out evaluations; 0: only before, and after every round."""
    evaluation_samples: int = Field(4, ge=1)
    features: bool = True
    """Save where the reference sees every held-out completion (mean-pooled last hidden states, 8
    bytes per completion and hidden unit), for maps; it takes no forward pass of its own."""
    checkpoint_every: int = Field(25, ge=1)
    """Steps; there is one more at the end of every round."""

    @property
    def number(self) -> int:
        """``keep``, written out."""
        return 1 if self.keep is None else self.keep

    @model_validator(mode="after")
    def _fits_the_selection(self) -> RejectStage:
        for name, selection in (("threshold", "threshold"), ("beta", "statistical")):
            given = getattr(self, name) is not None
            if given and self.selection != selection:
                raise ValueError(f'{name} means nothing to selection = "{self.selection}"; remove it')
            if not given and self.selection == selection:
                raise ValueError(f'selection = "{selection}" needs {name}, in units of reward')
        if self.selection == "threshold" and self.keep is not None:
            raise ValueError("a threshold keeps whatever reaches it; remove keep")
        if self.selection == "top_k" and self.keep is None:
            raise ValueError('selection = "top_k" needs keep, the number of completions of all prompts')
        if self.selection in PER_PROMPT and self.number > self.samples_per_prompt:
            raise ValueError("keep cannot exceed samples_per_prompt")
        return self

    @model_validator(mode="after")
    def _has_a_choice(self) -> RejectStage:
        if self.selection in PER_PROMPT and self.samples_per_prompt < 2:
            raise ValueError("one sample per prompt leaves nothing to choose; raise samples_per_prompt")
        if self.sampling.temperature == 0 and self.samples_per_prompt > 1:
            raise ValueError("sampling.temperature = 0 gives the same completion every time; use 1.0")
        if self.preferences == "best_worst" and self.samples_per_prompt < 2:
            raise ValueError("a pair needs two completions of one prompt; raise samples_per_prompt")
        if self.preferences == "accepted" and (self.selection != "statistical" or self.number < 2):
            raise ValueError('preferences = "accepted" needs selection = "statistical" and keep >= 2')
        return self

    @model_validator(mode="after")
    def _learns_or_not(self) -> RejectStage:
        if self.train and self.control and self.heldout is None:
            raise ValueError(
                "the control is compared on held-out prompts; give heldout, or set control = false"
            )
        if self.restart == "current" and self.repeat == 1:
            raise ValueError('restart = "current" tells rounds apart; raise repeat, or remove it')
        if not self.train:
            for name in ("heldout", "adapter"):
                if getattr(self, name) is not None:
                    raise ValueError(f"train = false learns nothing, so {name} has no use; remove it")
            if self.repeat > 1:
                raise ValueError("train = false learns nothing, so a second round would be the first again")
        return self
