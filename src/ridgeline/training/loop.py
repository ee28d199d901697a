"""The loop of every learning stage.

A job says what to learn from at each step; the engine moves the weights; the folder remembers. Interrupted
anywhere and resumed, it writes the same bytes as if it had never stopped.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from ridgeline.models.batch import Unit, pack_units
from ridgeline.schema.errors import Interrupted, RunError
from ridgeline.schema.run_folder import Metrics, RunFolder, StageFolder, append_line
from ridgeline.schema.stages.common import Optimiser
from ridgeline.training.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint, step_of
from ridgeline.training.engine import Engine
from ridgeline.training.interrupts import StopRequest
from ridgeline.training.objective import Objective
from ridgeline.training.observer import Observer
from ridgeline.training.optimiser import learning_rate


@dataclass(slots=True)
class Update:
    """One optimizer step of one role. ``extra`` adds the gradients of other objectives on other units."""

    role: str
    units: Sequence[Unit]
    objective: Objective
    optimiser: Optimiser
    extra: Sequence[tuple[Sequence[Unit], Objective]] = ()


@dataclass(slots=True)
class StepPlan:
    """What one step of the loop does: usually one update, two with a critic, none without any signal."""

    updates: list[Update]
    metrics: Metrics = field(default_factory=dict)


class Job(Protocol):
    """What a stage supplies. ``plan`` must be a pure function of (seed, step, weights, state)."""

    steps: int
    evaluate_every: int
    checkpoint_every: int

    def plan(self, step: int) -> StepPlan:
        """The units and objectives of ``step`` (from 0)."""
        ...

    def evaluate(self, step: int) -> dict[str, Any]:
        """Held-out measurements before ``step`` (``step == steps``: at the end); {} for none."""
        ...

    def after_step(self, step: int, metrics: Metrics) -> None:
        """Told what ``step`` measured, such as the KL that an adaptive coefficient follows."""
        ...

    def state(self) -> dict[str, Any]:
        """What ``plan`` depends on besides weights: plain containers and tensors."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        ...


@dataclass
class Context:
    """Where a stage runs: its folder, who watches, and whether to stop."""

    run: RunFolder
    folder: StageFolder
    observer: Observer
    stop: StopRequest


def train(engine: Engine, job: Job, context: Context) -> None:
    """Run ``job`` from its newest checkpoint, or from the start, to its last step.

    Raises:
        RunError: loss or gradient is not finite (the batch is saved), or the disk is full.
        Interrupted: Ctrl-C, after a checkpoint.
    """
    step = _restore(engine, job, context)
    while step < job.steps:
        if _due(step, job.evaluate_every) or step == 0:
            _evaluate(job, step, context)
        context.observer.phase("preparing a batch")
        clock = time.perf_counter()
        plan = job.plan(step)
        planned = time.perf_counter()
        metrics = plan.metrics
        for update in plan.updates:
            metrics |= _apply(engine, update, step, job.steps, context)
        context.observer.phase("writing")
        job.after_step(step, metrics)
        append_line(context.folder.metrics, {"step": step, "metrics": metrics})
        spent = {"collect": round(planned - clock, 4), "learn": round(time.perf_counter() - planned, 4)}
        append_line(context.folder.timings, {"step": step, "seconds": spent})
        context.observer.step(step, job.steps, metrics)
        step += 1
        if context.stop.asked and step < job.steps:
            _interrupt(engine, job, step, context)
        if _due(step, job.checkpoint_every) and step < job.steps:
            _checkpoint(engine, job, step, context)
    _evaluate(job, step, context)


def _restore(engine: Engine, job: Job, context: Context) -> int:
    path = latest_checkpoint(context.folder.checkpoints)
    if path is None:
        context.folder.truncate_lines(0)
        return 0
    job.restore(load_checkpoint(path, engine))
    step = step_of(path)
    context.folder.truncate_lines(step)
    context.run.event("resumed", stage=context.folder.name, step=step)
    context.observer.note(f"resumed at step {step}")
    return step


def _apply(engine: Engine, update: Update, step: int, total: int, context: Context) -> Metrics:
    context.observer.phase(f"learning ({update.role})")
    metrics: Metrics = {}
    for units, objective in [(update.units, update.objective), *update.extra]:
        metrics |= engine.forward_backward(update.role, units, objective)
    rate = learning_rate(update.optimiser, step, total)
    losses = [value for name, (value, _) in metrics.items() if name.startswith("loss/")]
    if not all(math.isfinite(loss) for loss in losses):
        _stop_on_nonfinite(update, step, context)
    context.observer.phase(f"optimizer step ({update.role})")
    norm = engine.step(update.role, rate)
    if not math.isfinite(norm):
        _stop_on_nonfinite(update, step, context)
    engine.publish(update.role)
    named = {**metrics, "gradient_norm": (norm, 1.0), "learning_rate": (rate, 1.0)}
    prefix = "" if update.role == "policy" or len(losses) == 0 else f"{update.role}/"
    return {f"{prefix}{name}": value for name, value in named.items()}


def _stop_on_nonfinite(update: Update, step: int, context: Context) -> None:
    """The weights are as they were before the step; the batch that broke it is kept."""
    path = context.folder.path / f"nonfinite-step-{step:06d}.pt"
    units = [*update.units, *(unit for more, _ in update.extra for unit in more)]
    torch.save({"step": step, "role": update.role, "units": pack_units(units)}, path)
    context.run.event("nonfinite", stage=context.folder.name, step=step, batch=str(path))
    raise RunError(
        f"stage '{context.folder.name}' stopped at step {step}: the loss or its gradient is not finite. "
        f"The batch that reproduces it is in {path}; lower optimiser.learning_rate or look into that batch."
    )


def _evaluate(job: Job, step: int, context: Context) -> None:
    context.observer.phase("evaluating")
    clock = time.perf_counter()
    measured = job.evaluate(step)
    if measured:
        append_line(context.folder.evaluations, {"step": step, **measured})
        seconds = {"evaluate": round(time.perf_counter() - clock, 4)}
        append_line(context.folder.timings, {"step": step, "seconds": seconds})


def _checkpoint(engine: Engine, job: Job, step: int, context: Context) -> None:
    context.observer.phase("saving a checkpoint")
    save_checkpoint(context.folder.checkpoints, step, engine, job.state())


def _interrupt(engine: Engine, job: Job, step: int, context: Context) -> None:
    _checkpoint(engine, job, step, context)
    context.run.event("interrupted", stage=context.folder.name, step=step)
    raise Interrupted(
        f"stopped in stage '{context.folder.name}' after step {step} of {job.steps}, all saved. "
        f"Go on with: ridgeline resume {context.run.path}"
    )


def forget_checkpoints(folder: StageFolder) -> None:
    """A finished stage keeps its model; its optimizer state is of no more use."""
    shutil.rmtree(folder.checkpoints, ignore_errors=True)


def _due(step: int, every: int) -> bool:
    return every > 0 and step > 0 and step % every == 0
