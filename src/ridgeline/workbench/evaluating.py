"""Evaluation of models from anywhere: runs, folders, hub ids. The stage itself is ``stages.evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeline.schema.errors import UsageError
from ridgeline.schema.overrides import apply_overrides
from ridgeline.schema.recipe import Recipe, resolve_recipe
from ridgeline.schema.stages import EvaluateStage
from ridgeline.training.observer import Observer, Silent
from ridgeline.workbench.launch import Outcome, check_new
from ridgeline.workbench.names import ModelSource, resolve_models
from ridgeline.workbench.single import TOP_KEYS

if TYPE_CHECKING:
    from ridgeline.models.load import LanguageModel

STAGE = "evaluate"


@dataclass(frozen=True)
class EvaluationPlan:
    """A recipe of one stage whose models are labels, and what each label stands for."""

    recipe: Recipe
    models: list[ModelSource]


def evaluation_recipe(
    models: list[str],
    *,
    prompts: str,
    rewards: list[Any],
    samples: int = 4,
    overrides: list[str] | None = None,
    options: dict[str, Any] | None = None,
) -> EvaluationPlan:
    """Resolve ``models`` and everything else of an evaluation.

    Raises:
        UsageError: as ``schema.recipe.resolve_recipe``, a model that cannot be resolved, or no model at all.
    """
    if not models:
        raise UsageError("there is no model to evaluate; name a run folder or a model.")
    sources = resolve_models(models)
    stage = {
        "name": STAGE,
        "type": "evaluate",
        "prompts": prompts,
        "rewards": rewards,
        "samples_per_prompt": samples,
        **(options or {}),
    }
    own = [each for each in overrides or [] if each.partition("=")[0].strip().split(".")[0] in TOP_KEYS]
    rest = [
        each if each.startswith(f"{STAGE}.") else f"{STAGE}.{each}"
        for each in overrides or []
        if each not in own
    ]
    values: dict[str, Any] = {
        "name": STAGE,
        "model": sources[0].source,
        "stage": [{**stage, "models": ["base"]}],
    }
    recipe = resolve_recipe(apply_overrides(values, [*own, *rest]), Path.cwd())
    config = recipe.stage[0].model_copy(update={"models": [source.label for source in sources]})
    return EvaluationPlan(recipe.model_copy(update={"stage": [config]}), sources)


def evaluate_models(plan: EvaluationPlan, folder: Path, *, observer: Observer | None = None) -> Outcome:
    """Run the evaluation stage on ``plan`` in ``folder``; returns its summary.

    Raises:
        UsageError, DataError, RunError: as a stage of a recipe does.
    """
    from ridgeline.models.hardware import resolve_device, resolve_dtype
    from ridgeline.schema.run_folder import RunFolder, write_atomic
    from ridgeline.stages import evaluate
    from ridgeline.training.interrupts import listening

    check_new(folder)
    watcher = observer or Silent()
    run = RunFolder(folder)
    run.open_for_writing()
    try:
        run.write_recipe(plan.recipe)
        device = resolve_device(plan.recipe.device)
        dtype = resolve_dtype(plan.recipe.dtype, device)
        stage_folder = run.stage(0, STAGE)
        stage_folder.create()
        config = plan.recipe.stage[0]
        assert isinstance(config, EvaluateStage)
        watcher.stage(STAGE, "evaluate", 1, 1)
        with listening() as stop:
            context = _context_class()(plan.recipe, run, stage_folder, watcher, stop, device, dtype)
            context.sources = {source.label: source for source in plan.models}
            result = evaluate.run(context, config)
        stage_folder.finish(result)
        watcher.finished(STAGE, result)
        summary = {
            "name": plan.recipe.name,
            "model": plan.recipe.model,
            "models": {source.label: source.source for source in plan.models},
            "seed": plan.recipe.seed,
            "stages": {STAGE: result},
        }
        import json

        write_atomic(run.path / "summary.json", json.dumps(summary, indent=1) + "\n")
        return Outcome(folder, summary, None)
    finally:
        run.close()


def _context_class() -> Any:
    """``StageContext`` that finds models by label; made here because its module imports torch."""
    from ridgeline.data.chat import apply_template
    from ridgeline.models.load import load_model
    from ridgeline.stages.context import StageContext

    class LabelledModels(StageContext):
        sources: dict[str, ModelSource]

        def language_model(self, name: str) -> LanguageModel:
            source = self.sources[name]
            self.observer.phase(f"loading {name}")
            model = load_model(source.source, dtype=self.dtype, device=self.device)
            apply_template(model.tokenizer, self.recipe.chat_template or source.chat_template)
            return model

    return LabelledModels
