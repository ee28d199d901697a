"""Merging of models from anywhere: runs, folders, hub ids. The stage itself is ``stages.merge``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ridgeline.schema.config import validate
from ridgeline.schema.errors import UsageError
from ridgeline.schema.overrides import apply_overrides
from ridgeline.schema.recipe import Recipe, anchor
from ridgeline.schema.stages import MergeStage
from ridgeline.schema.stages.merge import TASK_METHODS
from ridgeline.training.observer import Observer
from ridgeline.workbench.launch import Outcome
from ridgeline.workbench.outside import OutsidePlan, labelled, run_outside
from ridgeline.workbench.single import TOP_KEYS, to_stage

STAGE = "merge"


def merge_plan(
    models: Sequence[str],
    *,
    start: str | None = None,
    options: dict[str, Any],
    overrides: Sequence[str] = (),
    name: str | None = None,
) -> OutsidePlan:
    """Resolve ``models``, the ``start`` that they were tuned from, and the stage's other ``options``.

    Raises:
        UsageError: a model that cannot be resolved, options that do not fit the method, no start where the
            method adds what tuning changed.
    """
    sources = labelled([*models, *([] if start is None else [start])])
    labels = [source.label for source in sources]
    given = {key: value for key, value in options.items() if value not in (None, [])}
    top = {key: given.pop(key) for key in TOP_KEYS if key in given}
    stage = {"name": STAGE, "type": STAGE, "models": labels[: len(models)], **given}
    if start is not None:
        stage["start"] = labels[-1]
    model = sources[0].source if sources else ""
    values: dict[str, Any] = {"name": name or STAGE, **top, "model": model, "stage": [stage]}
    changed = apply_overrides(values, [to_stage(STAGE, each) for each in overrides])
    config = validate(MergeStage, changed["stage"][0], f"stage '{STAGE}'")
    if config.method in TASK_METHODS and start is None:
        raise UsageError(
            f"{config.method} adds what tuning changed to the model it started from; name that as start "
            "(--start)."
        )
    if config.heldout is not None:
        config = config.model_copy(update={"heldout": anchor(config.heldout, Path.cwd())})
    recipe = validate(Recipe, {**changed, "stage": [config.model_dump()]}, "the recipe")
    return OutsidePlan(recipe, sources)


def merge_models(plan: OutsidePlan, folder: Path, *, observer: Observer | None = None) -> Outcome:
    """Run the merge stage on ``plan`` in ``folder``; returns its summary.

    Raises:
        UsageError, DataError, RunError: as ``workbench.outside.run_outside``.
    """
    from ridgeline.stages import merge

    return run_outside(plan, folder, merge.run, observer=observer)
