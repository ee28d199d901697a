"""Evaluation of models from anywhere: runs, folders, hub ids. The stage itself is ``stages.evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ridgeline.schema.errors import UsageError
from ridgeline.schema.overrides import apply_overrides
from ridgeline.schema.recipe import resolve_recipe
from ridgeline.training.observer import Observer
from ridgeline.workbench.launch import Outcome
from ridgeline.workbench.names import resolve_models
from ridgeline.workbench.outside import OutsidePlan, run_outside
from ridgeline.workbench.single import TOP_KEYS, to_stage

STAGE = "evaluate"


def evaluation_recipe(
    models: list[str],
    *,
    prompts: str,
    rewards: list[Any],
    samples: int = 4,
    overrides: list[str] | None = None,
    options: dict[str, Any] | None = None,
) -> OutsidePlan:
    """Resolve ``models`` and everything else of an evaluation.

    Raises:
        UsageError: as ``schema.recipe.resolve_recipe``, a model that cannot be resolved, or no model at all.
    """
    if not models:
        raise UsageError("there is no model to evaluate; name a run folder or a model.")
    sources = resolve_models(models)
    given = dict(options or {})
    top = {key: given.pop(key) for key in TOP_KEYS if key in given}
    stage = {
        "name": STAGE,
        "type": "evaluate",
        "models": ["base"],
        "prompts": prompts,
        "rewards": rewards,
        "samples_per_prompt": samples,
        **given,
    }
    values: dict[str, Any] = {"name": STAGE, **top, "model": sources[0].source, "stage": [stage]}
    recipe = resolve_recipe(
        apply_overrides(values, [to_stage(STAGE, each) for each in overrides or []]), Path.cwd()
    )
    config = recipe.stage[0].model_copy(update={"models": [source.label for source in sources]})
    return OutsidePlan(recipe.model_copy(update={"stage": [config]}), sources)


def evaluate_models(plan: OutsidePlan, folder: Path, *, observer: Observer | None = None) -> Outcome:
    """Run the evaluation stage on ``plan`` in ``folder``; returns its summary.

    Raises:
        UsageError, DataError, RunError: as ``workbench.outside.run_outside``.
    """
    from ridgeline.stages import evaluate

    return run_outside(plan, folder, evaluate.run, observer=observer)
