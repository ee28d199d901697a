"""Checkpoints: written aside, fsynced, renamed; the last two are kept.

A checkpoint holds everything that the next step depends on, so an interrupted run continues bit for bit.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from ridgeline.schema.errors import RunError
from ridgeline.training.engine import Engine

KEEP = 2


def save_checkpoint(folder: Path, step: int, engine: Engine, state: dict[str, Any]) -> Path:
    """Write ``folder/step-NNNNNN`` for a run whose next step is ``step``.

    Raises:
        RunError: it could not be written (a full disk, say); older checkpoints are untouched.
    """
    final = folder / f"step-{step:06d}"
    aside = folder / f".step-{step:06d}.writing"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        engine.save(aside)
        torch.save(state, aside / "job.pt")
        (aside / "state.json").write_text(json.dumps({"step": step}) + "\n")
        for path in aside.iterdir():
            _sync(path)
        _sync(aside)
        _discard(final)
        aside.rename(final)
        _sync(folder)
    except (OSError, RuntimeError, _safetensors_error()) as error:
        shutil.rmtree(aside, ignore_errors=True)
        last = latest_checkpoint(folder)
        kept = f"the checkpoint of step {step_of(last)} is intact" if last else "there is no older checkpoint"
        raise RunError(
            f"could not save the checkpoint of step {step} in {folder}: {_reason(error)}; {kept}. "
            "Free some space, then: ridgeline resume."
        ) from error
    for old in _all(folder)[:-KEEP]:
        _discard(old)
    for rest in folder.glob(".step-*"):  # of a process that was killed while it wrote or removed
        shutil.rmtree(rest, ignore_errors=True)
    return final


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint, or None."""
    present = _all(folder)
    return present[-1] if present else None


def load_checkpoint(path: Path, engine: Engine) -> dict[str, Any]:
    """Restore the engine; returns the job's own state."""
    engine.load(path)
    state: dict[str, Any] = torch.load(path / "job.pt", weights_only=True)
    return state


def step_of(path: Path) -> int:
    """The next step of the checkpoint at ``path``."""
    return int(path.name.removeprefix("step-"))


def _all(folder: Path) -> list[Path]:
    present = (path for path in folder.glob("step-*") if (path / "state.json").is_file())
    return sorted(present, key=step_of)


def _discard(path: Path) -> None:
    """Remove a checkpoint; never seen in halves, whenever the process is killed."""
    if path.exists():
        rest = path.with_name(f".{path.name}.discarded")
        shutil.rmtree(rest, ignore_errors=True)
        path.rename(rest)
        shutil.rmtree(rest, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error).splitlines()[0]
