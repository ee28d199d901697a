from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.jobs import TinyJob, context_in, engine_for, policy

from ridgeline.models.batch import unpack_units
from ridgeline.models.forward import PolicyForward
from ridgeline.schema.errors import Interrupted, RunError
from ridgeline.schema.run_folder import Metrics, read_lines
from ridgeline.training.checkpoints import latest_checkpoint, step_of
from ridgeline.training.interrupts import StopRequest
from ridgeline.training.loop import StepPlan, forget_checkpoints, train

STEPS = 5
DETERMINISTIC = ("metrics.jsonl", "evaluations.jsonl")


class StoppingJob(TinyJob):
    """Asks for a stop, or dies, once step ``at`` is over."""

    at = -1
    stop: StopRequest | None = None
    dies = False

    def after_step(self, step: int, metrics: Metrics) -> None:
        super().after_step(step, metrics)
        if step == self.at and self.stop is not None:
            self.stop.asked = True
        if step == self.at and self.dies:
            raise KeyboardInterrupt


def new_engine(dtype: torch.dtype = torch.float32) -> Any:
    return engine_for(policy(dtype), PolicyForward(entropy=True), tokens=25, packed=True)


def outcome(path: Path, engine: Any) -> tuple[dict[str, bytes], list[torch.Tensor]]:
    folder = path / "stages" / "01-policy"
    files = {name: (folder / name).read_bytes() for name in DETERMINISTIC}
    optimiser = engine.roles["policy"].optimiser
    return files, [
        p.detach().clone()
        for name, working in optimiser.working.items()
        for p in (working, optimiser.master(name))
    ]


def uninterrupted(path: Path, dtype: torch.dtype) -> tuple[dict[str, bytes], list[torch.Tensor]]:
    engine = new_engine(dtype)
    train(engine, TinyJob(engine, steps=STEPS), context_in(path))
    return outcome(path, engine)


def assert_equal(ours: Any, theirs: Any) -> None:
    assert ours[0] == theirs[0]
    assert all(torch.equal(a, b) for a, b in zip(ours[1], theirs[1], strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stopped_at_every_step_and_resumed_equals_uninterrupted(dtype: torch.dtype, tmp_path: Path) -> None:
    expected = uninterrupted(tmp_path / "whole", dtype)
    for at in range(STEPS - 1):
        path = tmp_path / f"stop-{at}"
        context = context_in(path)
        engine = new_engine(dtype)
        job = StoppingJob(engine, steps=STEPS)
        job.at, job.stop = at, context.stop
        with pytest.raises(Interrupted, match=f"after step {at + 1} of {STEPS}.*ridgeline resume"):
            train(engine, job, context)
        engine = new_engine(dtype)
        train(engine, TinyJob(engine, steps=STEPS), context_in(path))
        assert_equal(outcome(path, engine), expected)


def test_killed_at_every_step_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """Without a word: metrics of steps after the last checkpoint are on disk and are written again."""
    expected = uninterrupted(tmp_path / "whole", torch.float32)
    for at in range(STEPS):
        path = tmp_path / f"kill-{at}"
        engine = new_engine()
        job = StoppingJob(engine, steps=STEPS)
        job.at, job.dies = at, True
        with pytest.raises(KeyboardInterrupt):
            train(engine, job, context_in(path))
        with open(path / "stages" / "01-policy" / "metrics.jsonl", "a") as file:
            file.write('{"step": 4, "metr')  # cut in the middle of a line
        engine = new_engine()
        train(engine, TinyJob(engine, steps=STEPS), context_in(path))
        assert_equal(outcome(path, engine), expected)


def test_the_resume_test_can_fail(tmp_path: Path) -> None:
    """A job that forgets its buffer and coefficient must not pass for one that remembers them."""
    expected = uninterrupted(tmp_path / "whole", torch.float32)

    class Forgetful(TinyJob):
        def restore(self, state: dict[str, Any]) -> None:
            super().restore(state)
            self.coefficient = 0.1

    context = context_in(tmp_path / "run")
    engine = new_engine()
    job = StoppingJob(engine, steps=STEPS)
    job.at, job.stop = 2, context.stop
    with pytest.raises(Interrupted):
        train(engine, job, context)
    engine = new_engine()
    train(engine, Forgetful(engine, steps=STEPS), context_in(tmp_path / "run"))
    assert outcome(tmp_path / "run", engine)[0] != expected[0]


def test_same_seed_twice_same_bytes(tmp_path: Path) -> None:
    assert_equal(uninterrupted(tmp_path / "a", torch.float32), uninterrupted(tmp_path / "b", torch.float32))


def test_metrics_are_sum_and_count_one_line_a_step(tmp_path: Path) -> None:
    uninterrupted(tmp_path, torch.float32)
    folder = tmp_path / "stages" / "01-policy"
    lines = read_lines(folder / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(STEPS))
    for line in lines:
        assert all(len(value) == 2 for value in line["metrics"].values())
        assert line["metrics"].keys() >= {"loss/policy", "loss/kl", "gradient_norm", "learning_rate", "ratio"}
    assert [line["step"] for line in read_lines(folder / "evaluations.jsonl")] == [0, 2, 4, 5]
    assert "seconds" not in json.dumps(lines)


def test_a_stop_in_the_last_step_is_simply_the_end(tmp_path: Path) -> None:
    context = context_in(tmp_path)
    engine = new_engine()
    job = StoppingJob(engine, steps=STEPS)
    job.at, job.stop = STEPS - 1, context.stop
    train(engine, job, context)
    assert len(read_lines(context.folder.metrics)) == STEPS


class BreakingJob(TinyJob):
    """Feeds a row with a nan (or huge) advantage at step 3."""

    poison = float("nan")

    def plan(self, step: int) -> StepPlan:
        plan = super().plan(step)
        if step == 3:
            plan.updates[0].units[0][0].fields["advantage"][0] = self.poison
        return plan


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_saves_the_batch(poison: float, tmp_path: Path) -> None:
    expected_engine = new_engine()
    train(expected_engine, TinyJob(expected_engine, steps=3), context_in(tmp_path / "until-3"))
    context, engine = context_in(tmp_path / "run"), new_engine()
    job = BreakingJob(engine, steps=STEPS)
    job.poison = poison
    with pytest.raises(RunError, match=r"stopped at step 3.*not finite.*nonfinite-step-000003\.pt") as error:
        train(engine, job, context)
    assert error.value.exit_code == 4
    ours, theirs = (e.roles["policy"].optimiser for e in (engine, expected_engine))
    assert all(
        torch.equal(ours.master(name), theirs.master(name)) for name in ours.working
    )  # as before the step
    saved = torch.load(context.folder.path / "nonfinite-step-000003.pt", weights_only=True)
    units = unpack_units(saved["units"])
    assert (saved["step"], saved["role"]) == (3, "policy")
    fresh = new_engine()
    job = TinyJob(fresh)
    gradient = TinyJob.plan(job, 0).updates[0].objective
    metrics = fresh.forward_backward("policy", units, gradient)
    assert not np.isfinite(metrics["loss/policy"][0])  # the file reproduces it
    newest = latest_checkpoint(context.folder.checkpoints)
    assert newest is not None and step_of(newest) == 2
    events = read_lines(context.run.path / "events.jsonl")
    assert [event["kind"] for event in events] == ["nonfinite"]


def test_a_loss_that_breaks_while_its_gradient_does_not_moves_no_weight(tmp_path: Path) -> None:
    engine = new_engine()
    plain = engine.forward_backward

    def broken(*arguments: Any) -> Metrics:
        return {**plain(*arguments), "loss/policy": (float("inf"), 1.0)}

    engine.forward_backward = broken
    before = [p.clone() for p in engine.roles["policy"].module.parameters()]
    with pytest.raises(RunError, match="stopped at step 0"):
        train(engine, TinyJob(engine), context_in(tmp_path))
    after = engine.roles["policy"].module.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_finished_stage_forgets_its_checkpoints(tmp_path: Path) -> None:
    uninterrupted(tmp_path, torch.float32)
    folder = context_in(tmp_path).folder
    assert latest_checkpoint(folder.checkpoints) is not None
    forget_checkpoints(folder)
    assert not folder.checkpoints.exists()
    forget_checkpoints(folder)
