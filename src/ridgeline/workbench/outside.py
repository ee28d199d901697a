"""A stage whose models come from outside of its run: other runs, folders, GGUF files, hub ids."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeline.schema.errors import Interrupted
from ridgeline.schema.recipe import Recipe
from ridgeline.schema.run_folder import RunFolder, without_none, write_atomic
from ridgeline.schema.stages import Stage
from ridgeline.training.observer import Observer, Silent
from ridgeline.workbench.launch import Outcome, check_new
from ridgeline.workbench.names import ModelSource, resolve_model

if TYPE_CHECKING:
    from ridgeline.models.load import LanguageModel

MODELS = "models.json"


@dataclass(frozen=True)
class OutsidePlan:
    """A recipe of one stage whose models are labels, and what each label stands for."""

    recipe: Recipe
    models: list[ModelSource]

    @property
    def stage(self) -> Stage:
        return self.recipe.stage[0]

    @property
    def sources(self) -> dict[str, str]:
        return {model.label: model.source for model in self.models}


def run_outside(
    plan: OutsidePlan,
    folder: Path,
    run_stage: Callable[[Any, Any], dict[str, Any]],
    *,
    observer: Observer | None = None,
) -> Outcome:
    """Run the one stage of ``plan`` in ``folder``; a folder that the same plan began is gone on with.

    Raises:
        UsageError, DataError, RunError: as a stage of a recipe does, or the folder holds another run.
    """
    from ridgeline.models.hardware import resolve_device, resolve_dtype
    from ridgeline.training.interrupts import listening

    watcher = observer or Silent()
    run = RunFolder(folder)
    if not _has_begun(run, plan):
        check_new(folder)
    run.open_for_writing()
    try:
        run.write_recipe(plan.recipe)
        write_atomic(run.path / MODELS, json.dumps(plan.sources, indent=1) + "\n")
        device = resolve_device(plan.recipe.device)
        dtype = resolve_dtype(plan.recipe.dtype, device)
        name = plan.stage.name
        stage_folder = run.stage(0, name)
        stage_folder.create()
        watcher.stage(name, plan.stage.type, 1, 1)
        with listening() as stop:
            context = _context_class(plan.models)(
                plan.recipe, run, stage_folder, watcher, stop, device, dtype
            )
            result = run_stage(context, plan.stage)
        stage_folder.finish(result)
        watcher.finished(name, result)
        summary = {
            "name": plan.recipe.name,
            "model": plan.recipe.model,
            "models": plan.sources,
            "seed": plan.recipe.seed,
            "stages": {name: result},
        }
        write_atomic(run.path / "summary.json", json.dumps(summary, indent=1) + "\n")
        return Outcome(folder, summary, None)
    except Interrupted:
        raise Interrupted(
            f"stopped; what was sampled is saved in {folder}, and the same command goes on from there."
        ) from None
    finally:
        run.close()


def _has_begun(run: RunFolder, plan: OutsidePlan) -> bool:
    """Whether ``run`` is an unfinished start of exactly this plan."""
    models = run.path / MODELS
    if not run.has_recipe or not models.is_file() or (run.path / "summary.json").is_file():
        return False
    same_recipe = run.recipe_as_started() == without_none(plan.recipe.model_dump(mode="json"))
    return bool(same_recipe and json.loads(models.read_text(encoding="utf-8")) == plan.sources)


def portable(name: str) -> str:
    """``name`` as ``models.load`` takes it from any working directory.

    Raises:
        UsageError: as ``workbench.names.resolve_model``.
    """
    return _anchored(resolve_model(name)).source


def labelled(names: Sequence[str]) -> list[ModelSource]:
    """One model a name, with labels that differ wherever the models do.

    Raises:
        UsageError: as ``workbench.names.resolve_model``.
    """
    found: list[ModelSource] = []
    for name in names:
        model = _anchored(resolve_model(name))
        same = next((earlier for earlier in found if earlier.source == model.source), None)
        taken = {earlier.label for earlier in found}
        label, number = model.label, 2
        while label in taken:
            label, number = f"{model.label}-{number}", number + 1
        found.append(same or replace(model, label=label))
    return found


def _anchored(model: ModelSource) -> ModelSource:
    path = Path(model.source).expanduser()
    return replace(model, source=str(path.resolve())) if path.exists() else model


def _context_class(sources: Sequence[ModelSource]) -> Any:
    """``StageContext`` that finds models by label; made here because its module imports torch."""
    from ridgeline.data.template import apply_template
    from ridgeline.models.load import load_model
    from ridgeline.stages.context import StageContext

    by_label = {source.label: source for source in sources}

    class LabelledModels(StageContext):
        def language_model(self, name: str) -> LanguageModel:
            source = by_label[name]
            self.observer.phase(f"loading {name}")
            model = load_model(source.source, dtype=self.dtype, device=self.device)
            apply_template(model.tokenizer, self.recipe.chat_template or source.chat_template)
            return model

    return LabelledModels
