"""The steps of rejection sampling as the loop sees them: rounds of supervised learning, with a control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ridgeline.data.order import batch_indices
from ridgeline.models.batch import Unit, completion_row
from ridgeline.rewards.combine import RewardSet
from ridgeline.rollout.request import PromptRequest
from ridgeline.rollout.store import write_samples
from ridgeline.schema.records import Sample
from ridgeline.schema.run_folder import Metrics, StageFolder
from ridgeline.schema.stages.reject import PER_PROMPT, RejectStage
from ridgeline.stages.heldout import differences
from ridgeline.stages.measuring import measurements
from ridgeline.stages.recording import Recorder
from ridgeline.stages.rejecting import Round, Rounds
from ridgeline.training.local import LocalEngine
from ridgeline.training.loop import StepPlan, Update
from ridgeline.training.next_token import NextToken
from ridgeline.training.optimiser import learning_rate

POLICY, CONTROL = "policy", "control"


def as_sampled(role: str) -> str:
    """The role that scores ``role`` under the temperature it is sampled with."""
    return f"{role} as sampled"


@dataclass
class Heldout:
    """Measures policy and control on the same prompts with the same draws."""

    engine: LocalEngine
    config: RejectStage
    rewards: RewardSet
    requests: Sequence[PromptRequest]
    seed: int
    folder: StageFolder
    recorder: Recorder

    def measure(self, step: int, roles: Sequence[str]) -> dict[str, Any]:
        """Rewards, KL to the start, length and stop share; with a control also its own and the difference."""
        samples = {role: self._samples(role, step) for role in roles}
        measured = {
            role: measurements(
                self.engine,
                as_sampled(role),
                samples[role],
                save=partial(self.recorder.save, _evaluation(role, step), samples[role]),
            )
            for role in roles
        }
        line: dict[str, Any] = {"samples": len(samples[POLICY]), **measured[POLICY]}
        if CONTROL in samples:
            line["control"] = measured[CONTROL]
            line["against_control"] = differences(samples[CONTROL], samples[POLICY])
        return line

    def _samples(self, role: str, step: int) -> list[Sample]:
        samples = self.engine.sample(role, self.requests, self.config.sampling, seed=self.seed ^ 1, step=0)
        self.rewards.score(samples)
        write_samples(self.folder.samples / f"{_evaluation(role, step)}.parquet", samples)
        return samples


def _evaluation(role: str, step: int) -> str:
    name = "evaluation" if role == POLICY else f"evaluation-{role}"
    return f"{name}-{step:06d}"


class RejectJob:
    """Each round draws a pool, selects, and makes its epochs of next-token steps on what was selected.

    How many steps a round takes is known once it has selected; until then it counts like the round before.
    """

    def __init__(
        self, config: RejectStage, engine: LocalEngine, rounds: Rounds, heldout: Heldout | None, seed: int
    ) -> None:
        self.config = config
        self.engine = engine
        self.rounds = rounds
        self.heldout = heldout
        self.seed = seed
        self.roles = [POLICY, *([CONTROL] if config.control else [])]
        self.start = engine.trained_weights(POLICY) if config.repeat > 1 and config.restart == "start" else {}
        self.ends: list[int] = []
        """For every round begun, the step after its last."""
        self.units: dict[str, list[Unit]] = {}
        self.steps = config.repeat
        self.evaluate_every = 1  # asked at every step: rounds end where they end
        self.checkpoint_every = config.checkpoint_every

    def plan(self, step: int) -> StepPlan:
        metrics: Metrics = {}
        if step == (self.ends[-1] if self.ends else 0):
            metrics = self._begin(step)
        first = self.ends[-2] if len(self.ends) > 1 else 0
        # Sampling the next round takes longest, so what was learned before it is saved.
        self.checkpoint_every = step + 1 if step + 1 == self.ends[-1] else self.config.checkpoint_every
        return StepPlan(self._updates(step - first, self.ends[-1] - first), metrics)

    def _begin(self, step: int) -> Metrics:
        made = self.rounds.round(len(self.ends))
        self._warn(made)
        if made.number > 0:
            for role in self.roles:
                self.engine.restart(role, self.start)
        self.units = self._units_of(made)
        per_step = min(self.config.rows_per_step, max(1, len(made.selected)))
        self.ends.append(step + max(1, math.ceil(self.config.epochs * len(made.selected) / per_step)))
        self._count_steps()
        return round_metrics(made)

    def _units_of(self, made: Round) -> dict[str, list[Unit]]:
        chosen = {POLICY: made.selected, CONTROL: made.control}
        return {
            role: [[completion_row(s.prompt_ids, s.completion_ids)] for s in chosen[role]]
            for role in self.roles
        }

    def _count_steps(self) -> None:
        last = self.ends[-1] - (self.ends[-2] if len(self.ends) > 1 else 0)
        self.steps = self.ends[-1] + last * (self.config.repeat - len(self.ends))

    def _updates(self, step: int, total: int) -> list[Update]:
        """The schedule runs over the round, so the loop, which counts the whole stage, gets its result."""
        rate = learning_rate(self.config.optimiser, step, total)
        now = {"learning_rate": rate, "schedule": "constant", "warmup": 0}
        optimiser = self.config.optimiser.model_copy(update=now)
        updates = []
        for role in self.roles:
            units = self.units[role]
            if units:
                per_step = min(self.config.rows_per_step, len(units))
                chosen = batch_indices(len(units), per_step, step, self.seed + len(self.ends))
                updates.append(Update(role, [units[k] for k in chosen], NextToken(), optimiser))
        return updates

    def _warn(self, made: Round) -> None:
        where = f"round {made.number + 1}" if self.config.repeat > 1 else "the pool"
        for sentence in shortfalls(made, self.config):
            self.rounds.context.warn(f"{where}: {sentence}")

    def evaluate(self, step: int) -> dict[str, Any]:
        every = self.config.evaluate_every
        due = step == 0 or step in self.ends or (every > 0 and step % every == 0)
        if self.heldout is None or not due:
            return {}
        done = sum(end <= step for end in self.ends)
        # Before the first step the control is the policy.
        return {"round": done, **self.heldout.measure(step, self.roles if step else [POLICY])}

    def after_step(self, step: int, metrics: Metrics) -> None: ...

    def state(self) -> dict[str, Any]:
        return {"ends": self.ends, "versions": self.engine.versions()}

    def restore(self, state: dict[str, Any]) -> None:
        """The pool of the round is on disk, and what is selected of it is a function of it."""
        self.ends = state["ends"]
        self.engine.set_versions(state["versions"])
        self.units = self._units_of(self.rounds.round(len(self.ends) - 1))
        self._count_steps()


def round_metrics(made: Round) -> Metrics:
    """What the pool and the selection are like, as (sum, count)."""
    count = float(len(made.pool))
    prompts = {sample.prompt_id for sample in made.pool}
    metrics: Metrics = {
        "selected": (float(len(made.selected)), count),
        "selected_prompts": (float(len({s.prompt_id for s in made.selected})), float(len(prompts))),
        "left_out": (float(sum(made.left_out.values())), count),
        "length": (float(sum(len(s.completion_ids) for s in made.pool)), count),
        "stopped": (float(sum(not s.truncated for s in made.pool)), count),
    }
    for part, samples in (("pool", made.pool), ("selected", made.selected), ("control", made.control)):
        for name in made.pool[0].rewards:
            known = [value for sample in samples if (value := sample.rewards[name]) is not None]
            if known:
                metrics[f"{part}/{name}"] = (float(sum(known)), float(len(known)))
    return metrics


def shortfalls(made: Round, config: RejectStage) -> list[str]:
    """A sentence for everything that was not selected as it was asked for."""
    sentences = [f"{count} completions are {reason}" for reason, count in made.left_out.items()]
    if not made.selected:
        sentences.append("nothing can be selected, so nothing is learned")
    asked = config.number * (len(made.rewards_PG) if config.selection in PER_PROMPT else 1)
    if config.selection != "threshold" and len(made.selected) < asked:
        sentences.append(f"{asked} completions were asked for, only {len(made.selected)} can be selected")
    if config.train and config.control and len(made.control) < len(made.selected):
        sentences.append(
            f"the control has {len(made.control)} completions, the selection {len(made.selected)}"
        )
    return sentences
