"""A recipe: the model, the machine and a list of stages, read from TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ridgeline.schema.config import Config, brief, validate
from ridgeline.schema.errors import UsageError, nearest
from ridgeline.schema.overrides import apply_overrides
from ridgeline.schema.stages import STAGE_TYPES, CollectStage, EvaluateStage, RewardModelStage, RlStage, Stage
from ridgeline.schema.stages.common import RewardSpec

MODEL_STAGES = ("sft", "rl")
"""Stage types whose output is a language model."""


class Recipe(Config):
    """The resolved recipe; written back in full to ``run/recipe.toml``."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    model: str
    """The embedded model ``smollm2-135m-instruct``, a folder, a GGUF file or a hub id."""
    seed: int = Field(1, ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Working weights (masters are always float32). ``auto``: bfloat16 where the processor is fast at it."""
    chat_template: str | None = None
    """``chatml`` or a path to a Jinja file; None: the tokenizer's own."""
    stage: list[Stage] = Field(min_length=1)

    def stage_named(self, name: str) -> Stage:
        return next(stage for stage in self.stage if stage.name == name)


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read, override, validate and cross-check a TOML recipe.

    Paths inside a recipe are relative to the recipe's folder and come back absolute.

    Raises:
        UsageError: unreadable file, bad TOML, unknown key or value, reference to a stage that is not earlier.
    """
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"cannot read the recipe {path}: {reason}; check the path.") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from None
    return resolve_recipe(values, folder=path.parent, overrides=overrides)


def resolve_recipe(values: dict[str, Any], folder: Path, overrides: list[str] | None = None) -> Recipe:
    """The same for a recipe given as a dict; ``folder`` anchors its relative paths."""
    values = apply_overrides(values, overrides or [])
    stages = values.get("stage")
    if not isinstance(stages, list) or not stages:
        raise UsageError("the recipe has no stages; add one with [[stage]].")
    for number, stage in enumerate(stages):
        _check_stage(stage, number)
    validated = [
        validate(STAGE_TYPES[stage["type"]], stage, f"stage '{stage.get('name', number + 1)}'")
        for number, stage in enumerate(stages)
    ]
    rest = {key: value for key, value in values.items() if key != "stage"}
    recipe = validate(Recipe, {**rest, "stage": [stage.model_dump() for stage in validated]}, "the recipe")
    _check_references(recipe)
    return _absolute(recipe, folder.resolve())


def _check_stage(stage: Any, number: int) -> None:
    if not isinstance(stage, dict):
        raise UsageError(f"stage {number + 1} is not a table; write it as [[stage]].")
    where = f"stage '{stage.get('name', number + 1)}'"
    kind = stage.get("type")
    if kind is None:
        raise UsageError(f"{where}: 'type' is missing; valid: {', '.join(STAGE_TYPES)}.")
    if not isinstance(kind, str) or kind not in STAGE_TYPES:
        raise UsageError(f"{where}: unknown type {brief(kind)}; {nearest(str(kind), STAGE_TYPES)}")


def _check_references(recipe: Recipe) -> None:
    earlier: dict[str, str] = {}
    for stage in recipe.stage:
        where = f"stage '{stage.name}'"
        if stage.name in earlier or stage.name in ("base", "policy_start"):
            raise UsageError(f"{where}: the name is taken; stages need names of their own.")
        models = ["base", *(name for name, kind in earlier.items() if kind in MODEL_STAGES)]
        later = {other.name for other in recipe.stage} - set(earlier)
        if not isinstance(stage, EvaluateStage):
            _must_be(stage.model, models, later, f"{where}: model")
        else:
            for name in [*stage.models, *([stage.reference] if stage.reference else [])]:
                _must_be(name, models, later, f"{where}: models")
        judges = [name for name, kind in earlier.items() if kind == "reward_model"]
        if isinstance(stage, RlStage):
            if stage.reference is not None:
                _must_be(stage.reference, models, later, f"{where}: reference")
            if stage.critic.initialise_from != "policy":
                _must_be(
                    stage.critic.initialise_from,
                    ["policy", *judges],
                    later,
                    f"{where}: critic.initialise_from",
                )
        if isinstance(stage, RewardModelStage) and (stage.data in later or stage.data in earlier):
            _must_be(
                stage.data, [n for n, kind in earlier.items() if kind == "collect"], later, f"{where}: data"
            )
        for spec in _rewards(stage):
            if spec in later or spec in earlier:
                _must_be(spec, judges, later, f"{where}: reward")
        earlier[stage.name] = stage.type


def _rewards(stage: Stage) -> list[str]:
    if isinstance(stage, RlStage):
        return [spec.function for spec in [*stage.reward, *stage.monitor]]
    if isinstance(stage, EvaluateStage):
        return [spec.function for spec in stage.rewards]
    return [stage.annotator.gold] if isinstance(stage, CollectStage) else []


def _must_be(name: str, valid: list[str], later: set[str], where: str) -> None:
    if name in valid:
        return
    if name in later:
        raise UsageError(f"{where} = '{name}' is not an earlier stage; move that stage above this one.")
    raise UsageError(f"{where} = '{name}' does not exist before this stage; {nearest(name, valid)}")


_PATH_KEYS = ("data", "prompts", "heldout")


def _absolute(recipe: Recipe, folder: Path) -> Recipe:
    """Anchor what names a file: anything relative that exists, or that looks like a path."""
    names = {stage.name for stage in recipe.stage}
    updates: dict[str, Any] = {
        "stage": [stage.model_copy(update=_anchored(stage, names, folder)) for stage in recipe.stage],
        "model": anchor(recipe.model, folder),
    }
    if recipe.chat_template is not None:
        updates["chat_template"] = anchor(recipe.chat_template, folder)
    return recipe.model_copy(update=updates)


def _anchored(stage: Stage, names: set[str], folder: Path) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for key in _PATH_KEYS:
        value = getattr(stage, key, None)
        if isinstance(value, str) and value not in names:
            changes[key] = anchor(value, folder)
    if isinstance(stage, RlStage):
        changes["reward"] = [_anchored_reward(spec, folder) for spec in stage.reward]
        changes["monitor"] = [_anchored_reward(spec, folder) for spec in stage.monitor]
    elif isinstance(stage, EvaluateStage):
        changes["rewards"] = [_anchored_reward(spec, folder) for spec in stage.rewards]
    elif isinstance(stage, CollectStage):
        gold = _anchored_function(stage.annotator.gold, folder)
        changes["annotator"] = stage.annotator.model_copy(update={"gold": gold})
    return changes


def _anchored_reward(spec: RewardSpec, folder: Path) -> RewardSpec:
    return spec.model_copy(update={"function": _anchored_function(spec.function, folder)})


def _anchored_function(function: str, folder: Path) -> str:
    """``file.py:name`` with the file made absolute; any other name as it is."""
    file, separator, name = function.rpartition(":")
    return f"{anchor(file, folder)}:{name}" if separator and file.endswith(".py") else function


def anchor(value: str, folder: Path) -> str:
    """``value`` made absolute when it is a file or folder below ``folder``, or ends like one."""
    path = Path(value).expanduser()
    candidate = path if path.is_absolute() else folder / path
    is_file_name = path.suffix in (".jsonl", ".json", ".csv", ".parquet", ".gguf", ".jinja", ".py")
    return str(candidate.resolve()) if candidate.exists() or is_file_name else value
