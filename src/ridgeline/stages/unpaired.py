"""Alignment on single completions that were liked or not: KTO, BCO, APO."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ridgeline.data.chat import encode_completions
from ridgeline.data.formats import Unpaired, detect, preferences, prompt_id, unpaired
from ridgeline.data.order import batch_indices
from ridgeline.data.sources import read_rows
from ridgeline.data.split import holdout
from ridgeline.data.supervised import TOO_LONG, too_long
from ridgeline.models.batch import Unit, completion_row
from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import LanguageModel
from ridgeline.objectives.unpaired import bco_shift, kto_reference_point
from ridgeline.schema.errors import DataError
from ridgeline.schema.run_folder import Metrics, read_lines
from ridgeline.schema.stages import UnpairedStage
from ridgeline.stages.collect import OUTPUT
from ridgeline.stages.context import StageContext, ends
from ridgeline.stages.pair_objective import unpaired_objective
from ridgeline.statistics.intervals import clustered_mean_interval
from ridgeline.training.local import LocalEngine
from ridgeline.training.logprob_cache import reference_logprobs
from ridgeline.training.loop import StepPlan, Update
from ridgeline.training.unpaired import UnpairedPreference


@dataclass
class LabelledSet:
    """Completions as units of one row; ``mismatched`` has each completion under the prompt of another row."""

    units: list[Unit]
    mismatched: list[Unit]
    prompts: list[str]


def run(context: StageContext, config: UnpairedStage) -> dict[str, Any]:
    """Train on the labelled completions; report held-out log-ratios of both kinds before and after."""
    loss, options = objective_of(config)
    model = context.language_model(config.model)
    train_set, heldout_set, dropped = _datasets(context, config, model)
    engine = LocalEngine(context.device)
    context.add_policy(
        engine,
        "policy",
        model,
        config.work,
        forward=PolicyForward(),
        optimiser=config.optimiser,
        adapter=config.adapter,
        longest=config.max_length,
    )
    context.add_reference(engine, model, config.work, forward=PolicyForward(), name=config.reference)
    job = UnpairedJob(config, engine, loss, options, train_set, heldout_set, context.seed)
    context.observer.phase("comparing with the reference")
    job.compare_with_reference()
    context.train(engine, job)
    context.save_model(model)
    before, after = ends(read_lines(context.folder.evaluations))
    desirable = sum(unit[0].values["desirable"] for unit in train_set.units)
    return {
        "objective": loss,
        "rows": len(train_set.units),
        "desirable_share": desirable / len(train_set.units),
        "heldout_rows": len(heldout_set.units),
        "dropped": dropped,
        "before": {key: value for key, value in before.items() if key != "step"},
        "after": {key: value for key, value in after.items() if key != "step"},
    }


def objective_of(config: UnpairedStage) -> tuple[str, dict[str, float]]:
    """Loss and options, or a UsageError that says what is wrong with them."""
    return unpaired_objective(config.objective, f"stage '{config.name}': objective")


def _datasets(
    context: StageContext, config: UnpairedStage, model: LanguageModel
) -> tuple[LabelledSet, LabelledSet, int]:
    context.observer.phase("preparing data")
    source = config.data
    if context.is_stage(source):
        source = str(context.output_of(source).path / OUTPUT)
    rows = _labelled(source)
    if isinstance(config.heldout, str):
        heldout = _labelled(config.heldout)
    else:
        rows, heldout = holdout(rows, config.heldout, _prompt, context.seed)
    train_set, dropped = _build(config, rows, model)
    heldout_set, _ = _build(config, heldout, model)
    if dropped:
        context.warn(f"{dropped} rows dropped: {TOO_LONG}")
    kinds = {unit[0].values["desirable"] for unit in train_set.units}
    if len(kinds) < 2:
        which = "none" if not kinds else "desirable only" if 1.0 in kinds else "undesirable only"
        lost = f" ({dropped} rows are longer than max_length = {config.max_length})" if dropped else ""
        raise DataError(
            f"{config.data}: rows of both labels are needed to learn from, there are: {which}{lost}."
        )
    return train_set, heldout_set, dropped


def _labelled(source: str) -> list[Unpaired]:
    """Single completions; of a preference pair the better one counts as liked, the other one as not.

    A soft label below 1/2 turns the pair round; a tie says nothing about either side and is left out.
    """
    rows = read_rows(source)
    if detect(rows, source) != "preference":
        return unpaired(rows, source)
    return [
        Unpaired(pair.prompt, text, liked, f"{source}, row {number}", stopped)
        for number, pair in enumerate(preferences(rows, source), start=1)
        for text, liked, stopped in (
            (pair.chosen, pair.label > 0.5, pair.chosen_stopped),
            (pair.rejected, pair.label < 0.5, pair.rejected_stopped),
        )
        if pair.label != 0.5
    ]


def _build(config: UnpairedStage, items: Sequence[Unpaired], model: LanguageModel) -> tuple[LabelledSet, int]:
    sides = encode_completions(
        model.tokenizer,
        [item.prompt for item in items],
        [item.completion for item in items],
        stopped=[item.stopped for item in items],
        where=[item.where for item in items],
    )
    kept = []
    for number, (prompt_ids, completion_ids) in enumerate(sides):
        length = len(prompt_ids) + len(completion_ids)
        if length > config.max_length and config.overlong == "error":
            raise DataError(too_long(items[number].where, length, config.max_length, '"drop"'))
        if length <= config.max_length:
            kept.append(number)
    prompts = [_prompt(items[number]) for number in kept]
    units, mismatched = [], []
    for place, partner in enumerate(partners(prompts)):
        prompt_ids, completion_ids = sides[kept[place]]
        row = completion_row(prompt_ids, completion_ids)
        row.values["desirable"] = float(items[kept[place]].label)
        units.append([row])
        mismatched.append([completion_row(prompt_ids, sides[kept[partner]][1])])
    return LabelledSet(units, mismatched, prompts), len(sides) - len(kept)


def partners(prompts: Sequence[str]) -> list[int]:
    """For each row the index of a row of another prompt, a permutation wherever that can be had.

    Fixed by the data alone, so that batches may be shuffled and the reference scores each combination once.
    Rows are sorted by prompt and turned by the size of the largest group; with one prompt only, each row is
    its own partner.
    """
    order = sorted(range(len(prompts)), key=lambda index: (prompts[index], index))
    largest = max(Counter(prompts).values(), default=0)
    result = [0] * len(prompts)
    for place, index in enumerate(order):
        result[index] = order[(place + largest) % len(order)]
    return result


def _prompt(item: Unpaired) -> str:
    return prompt_id(item.prompt)


class UnpairedJob:
    """Batches of completions as a pure function of (seed, step); ``shift`` is the running mean of BCO."""

    def __init__(
        self,
        config: UnpairedStage,
        engine: LocalEngine,
        loss: str,
        options: dict[str, float],
        train_set: LabelledSet,
        heldout_set: LabelledSet,
        seed: int,
    ) -> None:
        self.config, self.engine, self.loss, self.options = config, engine, loss, options
        self.train_set, self.heldout_set, self.seed = train_set, heldout_set, seed
        self.shift: float | None = None
        self.per_step = min(config.rows_per_step, len(train_set.units))
        self.steps = max(1, math.ceil(config.epochs * len(train_set.units) / self.per_step))
        self.evaluate_every = config.evaluate_every
        self.checkpoint_every = config.checkpoint_every

    def compare_with_reference(self) -> None:
        """Log-probs of every completion, and of the mismatched ones that KTO measures its KL on."""
        units = [*self.train_set.units, *self.heldout_set.units]
        if self.loss == "kto":
            units += self.train_set.mismatched
        for unit, logp in zip(units, reference_logprobs(self.engine, "reference", units), strict=True):
            unit[0].fields["ref_logp"] = logp

    def plan(self, step: int) -> StepPlan:
        chosen = batch_indices(len(self.train_set.units), self.per_step, step, self.seed)
        units = [self.train_set.units[index] for index in chosen]
        settled, metrics = self._settle(units, chosen)
        objective = UnpairedPreference(self.loss, {**self.options, **settled})
        return StepPlan([Update("policy", units, objective, self.config.optimiser)], metrics)

    def _settle(self, units: Sequence[Unit], chosen: Sequence[int]) -> tuple[dict[str, float], Metrics]:
        """What depends on the whole optimizer step: KTO's reference point, BCO's shift."""
        if self.loss == "kto":
            ratios = self._ratios([self.train_set.mismatched[index] for index in chosen])
            point = float(kto_reference_point(torch.from_numpy(ratios), torch.zeros(len(ratios))))
            return {"reference_point": point}, {"kl_mismatched": (float(ratios.sum()), float(len(ratios)))}
        if self.loss == "bco":
            rewards = self.options["beta"] * self._ratios(units)
            liked = np.array([unit[0].values["desirable"] > 0.5 for unit in units])
            means = [float(rewards[side].mean()) if side.any() else None for side in (liked, ~liked)]
            self.shift = bco_shift(self.shift, means[0], means[1])
            return {"shift": self.shift}, {"shift": (self.shift, 1.0)}
        return {}, {}

    def _ratios(self, units: Sequence[Unit]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """log pi(y|x) - log ref(y|x) of each unit under the policy as it is now."""
        scores = self.engine.score("policy", units)
        logps = [score["logp"].sum() for score in scores]
        references = [unit[0].fields["ref_logp"].sum() for unit in units]
        return np.asarray(logps, dtype=np.float32) - np.asarray(references, dtype=np.float32)

    def evaluate(self, step: int) -> dict[str, Any]:
        """Log-ratios to the reference (nats per completion) of what people liked and of what they did not."""
        if not self.heldout_set.units:
            return {}
        ratios = self._ratios(self.heldout_set.units).astype(np.float64)
        liked = np.array([unit[0].values["desirable"] > 0.5 for unit in self.heldout_set.units])
        report: dict[str, Any] = {}
        for name, side in (("desirable", liked), ("undesirable", ~liked)):
            if side.any():
                prompts = [p for p, inside in zip(self.heldout_set.prompts, side, strict=True) if inside]
                report[f"log_ratio/{name}"] = clustered_mean_interval(ratios[side], prompts).as_dict()
        if liked.any() and (~liked).any():
            report["separation"] = _separation(ratios[liked], ratios[~liked])
        return report

    def after_step(self, step: int, metrics: Metrics) -> None: ...

    def state(self) -> dict[str, Any]:
        return {"shift": self.shift}

    def restore(self, state: dict[str, Any]) -> None:
        self.shift = state["shift"]


def _separation(
    liked: np.ndarray[Any, np.dtype[np.float64]], disliked: np.ndarray[Any, np.dtype[np.float64]]
) -> float:
    """Probability that a liked completion has the higher log-ratio (ties half): 0.5 before any training."""
    difference = liked[:, None] - disliked[None, :]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())
