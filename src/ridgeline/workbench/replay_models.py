"""The models of a replay: which they are, their log-probs of the file's tokens, and the one that learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ridgeline.models.batch import Row, Unit
from ridgeline.models.forward import PolicyForward
from ridgeline.models.hardware import resolve_device, resolve_dtype
from ridgeline.models.load import LanguageModel, load_model
from ridgeline.models.probe import supports_packing
from ridgeline.schema.errors import UsageError
from ridgeline.schema.stages.common import Optimiser, Work
from ridgeline.training.engine import RowScores
from ridgeline.training.local import LocalEngine
from ridgeline.workbench.names import resolve_model
from ridgeline.workbench.replay_source import Rollouts

Report = Callable[[str], None]


@dataclass(frozen=True)
class Models:
    """Names as a user would give them. ``old`` None: the sampler's records stand for the old policy.

    ``stale``: the old policy is the policy itself, this many optimizer steps ago.
    """

    policy: str
    reference: str
    old: str | None = None
    stale: int | None = None

    @property
    def old_is_sampler(self) -> bool:
        return self.old is None and self.stale is None

    @property
    def old_in_words(self) -> str:
        """What ratios compare with."""
        if self.stale is None:
            return "the sampler, as recorded" if self.old is None else self.old
        if self.stale == 0:
            return "the policy itself"
        return f"the policy {self.stale} optimizer step{'s' if self.stale > 1 else ''} ago"


def choose_models(
    rollouts: Rollouts, policy: str | None, reference: str | None, old: str | None, stale: int | None
) -> Models:
    """What was given, else the start of the stage that the file lies in and that stage's reference.

    Raises:
        UsageError: no model is known, or the old policy is given twice.
    """
    if old is not None and stale is not None:
        raise UsageError("--stale and --old-model both say what the old policy is; give one of them.")
    if stale is not None and stale < 0:
        raise UsageError(f"stale = {stale} must be at least 0: steps that the policy has taken since.")
    start = policy or rollouts.start
    if start is None:
        where = "a stage that starts from several" if rollouts.stage else "no run"
        raise UsageError(f"{rollouts.path} lies in {where}, so name the model with --model.")
    return Models(start, reference or rollouts.reference or rollouts.start or start, old, stale)


@dataclass
class Machine:
    """Where models run, and how a pass over the units is cut."""

    rollouts: Rollouts
    device: str | None = None
    dtype: str | None = None
    report: Report = lambda text: None
    in_memory: dict[str, LanguageModel] = field(default_factory=dict)

    @property
    def work(self) -> Work:
        return Work.model_validate(self.rollouts.stage.get("work", {}))

    @property
    def optimiser(self) -> Optimiser:
        given = self.rollouts.stage.get("optimiser")
        return Optimiser(betas=(0.9, 0.95)) if given is None else Optimiser.model_validate(given)

    def load(self, name: str) -> LanguageModel:
        """A model by any name, in the run's own number format unless told otherwise.

        Raises:
            UsageError: it cannot be loaded, or does not fit the file's tokens.
        """
        if name in self.in_memory:
            return self._fitting(name, self.in_memory[name])
        self.report(f"loading {name}")
        recipe = self.rollouts.recipe
        device = resolve_device(self.device or recipe.get("device", "auto"))
        dtype = resolve_dtype(self.dtype or recipe.get("dtype", "auto"), device)
        return self._fitting(name, load_model(resolve_model(name).source, dtype=dtype, device=device))

    def _fitting(self, name: str, model: LanguageModel) -> LanguageModel:
        highest = max(max(sample.prompt_ids + sample.completion_ids) for sample in self.rollouts.samples)
        known = int(model.module.config.vocab_size)
        if highest >= known:
            raise UsageError(
                f"{name} knows {known} tokens, and {self.rollouts.path} has token {highest}: "
                "it was sampled with another tokenizer."
            )
        positions = getattr(model.module.config, "max_position_embeddings", None)
        if positions is not None and self._longest > positions:
            raise UsageError(
                f"{name} has {positions} positions, and {self.rollouts.path} has a row of {self._longest}."
            )
        return model

    @property
    def _longest(self) -> int:
        return max(len(sample.prompt_ids) + len(sample.completion_ids) for sample in self.rollouts.samples)

    def engine(
        self, model: LanguageModel, forward: PolicyForward, optimiser: Optimiser | None = None
    ) -> LocalEngine:
        """``model`` as the role ``policy``, learning where an optimiser is given."""
        engine = LocalEngine(model.module.device)
        model.module.requires_grad_(optimiser is not None)
        engine.add(
            "policy",
            model.module,
            forward,
            packed=self.work.layout != "padded" and supports_packing(model.module, self._longest),
            tokens_per_microbatch=self.work.tokens_per_microbatch,
            optimiser=optimiser,
            recompute=self.work.checkpointing and optimiser is not None,
        )
        return engine

    def score(self, model: LanguageModel, units: Sequence[Unit], *, entropy: bool = False) -> list[RowScores]:
        """Log-probs, and the entropy where asked for, under the temperature of the file."""
        forward = PolicyForward(self.rollouts.temperature, entropy=entropy)
        return self.engine(model, forward).score("policy", units)


def write_scores(rows: Sequence[Row], key: str, scores: Sequence[RowScores], output: str = "logp") -> None:
    """One output of every row, as the field ``key`` of the row."""
    for row, score in zip(rows, scores, strict=True):
        row.fields[key] = score[output]


def sampler_gap(rows: Sequence[Row], scores: Sequence[RowScores]) -> float:
    """Mean distance between the policy's log-probs and the recorded ones, nats per token."""
    gaps = [
        np.abs(score["logp"] - row.fields["sampler_logp"]) for row, score in zip(rows, scores, strict=True)
    ]
    return float(np.concatenate(gaps).mean())


def name_in_memory(model: LanguageModel) -> str:
    """What a model that was passed as an object is called."""
    return f"{Path(model.source).name} in memory"
