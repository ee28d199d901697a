"""A recipe: the model, the machine and a list of stages, read from TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ridgeline.schema.config import FUNCTION, MODEL, SOURCE, Config, brief, change_marked, marked, validate
from ridgeline.schema.errors import UsageError, nearest
from ridgeline.schema.overrides import apply_overrides
from ridgeline.schema.stages import STAGE_TYPES, Stage
from ridgeline.schema.stages.common import Reference

RESERVED = ("base", "policy_start")
"""Names that mean something else than a stage."""


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
        if stage.name in earlier or stage.name in RESERVED:
            raise UsageError(f"{where}: the name is taken; stages need names of their own.")
        later = {other.name for other in recipe.stage} - set(earlier)
        for reference in [*stage.references(), *_judges(stage)]:
            if reference.elsewhere and reference.name not in later | set(earlier):
                continue
            fitting = [name for name, kind in earlier.items() if kind in reference.kinds]
            _must_be(reference.name, [*reference.besides, *fitting], later, f"{where}: {reference.key}")
        earlier[stage.name] = stage.type


def _judges(stage: Stage) -> list[Reference]:
    """A reward bears the name of a stage only where that stage made a reward model."""
    kinds = ("reward_model",)
    return [Reference("reward", function, kinds, elsewhere=True) for function in marked(stage, FUNCTION)]


def _must_be(name: str, valid: list[str], later: set[str], where: str) -> None:
    if name in valid:
        return
    if name in later:
        raise UsageError(f"{where} = '{name}' is not an earlier stage; move that stage above this one.")
    raise UsageError(f"{where} = '{name}' does not exist before this stage; {nearest(name, valid)}")


def sources_of(recipe: Recipe) -> set[str]:
    """Files, folders and hub ids that the stages read (not what earlier stages made)."""
    names = {stage.name for stage in recipe.stage}
    return {source for stage in recipe.stage for source in marked(stage, SOURCE)} - names


def _absolute(recipe: Recipe, folder: Path) -> Recipe:
    """Anchor what names a file: anything relative that exists, or that looks like a path."""
    names = {"base", *(stage.name for stage in recipe.stage)}

    def source(value: str) -> str:
        return value if value in names else anchor(value, folder)

    def function(value: str) -> str:
        """``file.py:name`` with the file made absolute; any other name as it is."""
        file, separator, name = value.rpartition(":")
        return f"{anchor(file, folder)}:{name}" if separator and file.endswith(".py") else value

    changes = {SOURCE: source, MODEL: source, FUNCTION: function}
    updates: dict[str, Any] = {
        "stage": [change_marked(stage, changes) for stage in recipe.stage],
        "model": anchor(recipe.model, folder),
    }
    if recipe.chat_template is not None:
        updates["chat_template"] = anchor(recipe.chat_template, folder)
    return recipe.model_copy(update=updates)


def anchor(value: str, folder: Path) -> str:
    """``value`` made absolute when it is a file or folder below ``folder``, or ends like one."""
    path = Path(value).expanduser()
    candidate = path if path.is_absolute() else folder / path
    is_file_name = path.suffix in (".jsonl", ".json", ".csv", ".parquet", ".gguf", ".jinja", ".py")
    return str(candidate.resolve()) if candidate.exists() or is_file_name else value
