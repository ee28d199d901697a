"""Run the stages of a recipe in order, skipping what is done, and sum up."""

from __future__ import annotations

import errno
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ridgeline.data.sources import fingerprint
from ridgeline.models.hardware import describe, resolve_device, resolve_dtype
from ridgeline.models.kernels import kernels_note
from ridgeline.schema.errors import RunError, UsageError
from ridgeline.schema.recipe import Recipe, sources_of
from ridgeline.schema.run_folder import RunFolder, without_none, write_atomic
from ridgeline.schema.stages import Stage
from ridgeline.stages import (
    collect,
    distill,
    evaluate,
    merge,
    preference,
    reject,
    reward_model,
    rl,
    sft,
    unpaired,
)
from ridgeline.stages.context import StageContext
from ridgeline.training.allocator import tune_allocator
from ridgeline.training.interrupts import listening
from ridgeline.training.loop import forget_checkpoints
from ridgeline.training.observer import Observer, Silent

STAGES: dict[str, Callable[[StageContext, Any], dict[str, Any]]] = {
    "sft": sft.run,
    "collect": collect.run,
    "reward_model": reward_model.run,
    "preference": preference.run,
    "unpaired": unpaired.run,
    "rl": rl.run,
    "reject": reject.run,
    "distill": distill.run,
    "merge": merge.run,
    "evaluate": evaluate.run,
}

CHECKS: dict[str, Callable[[Any], object]] = {
    "preference": preference.objective_of,
    "unpaired": unpaired.objective_of,
    "rl": rl.objective_of,
}
"""What a stage can refuse before anything heavy is loaded."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def run_recipe(
    recipe: Recipe, folder: Path, *, resume: bool, observer: Observer | None = None
) -> dict[str, Any]:
    """Run ``recipe`` in ``folder``; returns the summary.

    Raises:
        UsageError: the folder already holds a run (and ``resume`` is off), or none (and it is on), or its
            recipe or data differ from what it was started with.
    """
    observer = observer or Silent()
    run = RunFolder(folder)
    _check_folder(run, recipe, resume)
    check_stages(recipe)
    inputs = _inputs(recipe)  # before the folder is taken: after a wrong path the same command can run again
    run.open_for_writing()
    try:
        if not resume:
            run.write_recipe(recipe)
        device, dtype = _environment(run, recipe, resume)
        _check_inputs(run, inputs, resume)
        with listening() as stop:
            for number, stage in enumerate(recipe.stage):
                context = StageContext(
                    recipe, run, run.stage(number, stage.name), observer, stop, device, dtype
                )
                _run_stage(context, stage, number)
        return _summarise(run, recipe)
    finally:
        run.close()


def check_stages(recipe: Recipe) -> None:
    """What can be refused before anything heavy is loaded."""
    for stage in recipe.stage:
        if stage.type in CHECKS:
            CHECKS[stage.type](stage)
    reject.check_users(recipe)


def _run_stage(context: StageContext, stage: Stage, number: int) -> None:
    context.observer.stage(stage.name, stage.type, number + 1, len(context.recipe.stage))
    result = context.folder.result()
    if result is None:
        context.folder.create()
        context.run.event("stage started", stage=stage.name)
        start = time.perf_counter()
        try:
            result = STAGES[stage.type](context, stage)
            context.folder.finish(result)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise _disk_full(context, error) from error
            raise
        context.run.event("stage finished", stage=stage.name, seconds=round(time.perf_counter() - start, 2))
    forget_checkpoints(context.folder)  # again after a resume: a kill may have come before they were gone
    context.observer.finished(stage.name, result)


def _disk_full(context: StageContext, error: OSError) -> RunError:
    return RunError(
        f"stage '{context.folder.name}' stopped: {error.strerror}; what was saved is intact. "
        f"Free some space, then: ridgeline resume {context.run.path}."
    )


def _check_folder(run: RunFolder, recipe: Recipe, resume: bool) -> None:
    if not resume and run.is_occupied:
        raise UsageError(
            f"{run.path} already holds a run; go on with: ridgeline resume {run.path}, "
            "or choose another --out."
        )
    if resume:
        if not run.has_recipe:
            raise UsageError(f"{run.path} holds no run to resume; start one with: ridgeline run RECIPE.")
        _check_unchanged(run, recipe)


def _check_unchanged(run: RunFolder, recipe: Recipe) -> None:
    before = _flat(run.recipe_as_started())
    now = _flat(without_none(recipe.model_dump(mode="json")))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise UsageError(
                f"cannot resume {run.path}: the recipe changed at {key} ({before.get(key)!r} then, "
                f"{now.get(key)!r} now); put it back, or start a new run with --out."
            )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        parts = ((item.get("name", index), item) for index, item in enumerate(value))  # type: ignore[assignment]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in parts:
        flat |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _environment(run: RunFolder, recipe: Recipe, resume: bool) -> tuple[torch.device, torch.dtype]:
    """Device and format; a resumed run keeps those it was started with."""
    path = run.path / "environment.json"
    allocator = tune_allocator()
    device = resolve_device(recipe.device)
    if resume and path.is_file():
        recorded = json.loads(path.read_text(encoding="utf-8"))
        if recorded["device"] != str(device):
            raise UsageError(
                f"this run was started on {recorded['device']}, which is not what device gives now."
            )
        return device, resolve_dtype(recorded["dtype"], device)
    dtype = resolve_dtype(recipe.dtype, device)
    environment = {
        **describe(device, dtype),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {
            name: version(name) for name in ("ridgeline", "torch", "transformers", "tokenizers", "numpy")
        },
        "kernels": kernels_note(),
        "engine": "local",
        "allocator": allocator,
    }
    write_atomic(path, json.dumps(environment, indent=1) + "\n")
    if not environment["device_verified"]:
        run.event("warning", text=f"the device {device} has not been verified by the test suite")
    return device, dtype


def _inputs(recipe: Recipe) -> dict[str, str]:
    """Content hashes of every data source."""
    return {source: fingerprint(source) for source in sorted(sources_of(recipe))}


def _check_inputs(run: RunFolder, now: dict[str, str], resume: bool) -> None:
    """A resumed run notices a changed file."""
    path = run.path / "inputs.json"
    if resume and path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        for source, digest in now.items():
            if before.get(source) != digest:
                raise UsageError(
                    f"cannot resume {run.path}: {source} changed since the run started; restore it, "
                    "or start a new run with --out."
                )
    write_atomic(path, json.dumps(now, indent=1) + "\n")


def _summarise(run: RunFolder, recipe: Recipe) -> dict[str, Any]:
    results = {
        stage.name: run.stage(number, stage.name).result() for number, stage in enumerate(recipe.stage)
    }
    summary = {"name": recipe.name, "model": recipe.model, "seed": recipe.seed, "stages": results}
    write_atomic(run.path / "summary.json", json.dumps(summary, indent=1) + "\n")
    run.event("run finished")
    return summary
