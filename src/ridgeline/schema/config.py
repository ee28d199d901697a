"""The strict base of every configuration model, and pydantic's complaints turned into our sentences."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ridgeline.schema.errors import UsageError, nearest

SOURCE = "source"
"""Marks a field (``Annotated[str, SOURCE]``) that names rows: a file, a folder, a hub id or a stage."""
MODEL = "model"
"""Marks a field that names a model: a folder, a GGUF file, a hub id or a stage."""
FUNCTION = "function"
"""Marks a field that names a function, perhaps in a file."""


class Config(BaseModel):
    """Immutable; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


C = TypeVar("C", bound=Config)


def inner_configs(config: Config) -> Iterator[Config]:
    """Every table inside ``config``, however deep."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Config):
                yield item
                yield from inner_configs(item)


def marked(config: Config, mark: str) -> Iterator[str]:
    """Strings in fields of ``config`` and of its inner tables that bear ``mark``."""
    for table in [config, *inner_configs(config)]:
        for name, field in type(table).model_fields.items():
            if mark in field.metadata:
                value = getattr(table, name)
                listed = value if isinstance(value, list) else [value]
                yield from (item for item in listed if isinstance(item, str))


def change_marked(config: C, changes: Mapping[str, Callable[[str], str]]) -> C:
    """A copy of ``config`` in which each string of a marked field went through the change of its mark."""

    def changed(value: Any, change: Callable[[str], str] | None) -> Any:
        if isinstance(value, list):
            return [changed(item, change) for item in value]
        if isinstance(value, Config):
            return change_marked(value, changes)
        return change(value) if change is not None and isinstance(value, str) else value

    updates = {}
    for name, field in type(config).model_fields.items():
        marks = [mark for mark in field.metadata if isinstance(mark, str)]
        change = next((changes[mark] for mark in marks if mark in changes), None)
        updates[name] = changed(getattr(config, name), change)
    return config.model_copy(update=updates)


def validate(model: type[C], values: dict[str, Any], where: str) -> C:
    """``model(**values)``; on failure one ``UsageError`` that names the key, the value and the mend.

    ``where`` is how the user would call this part of the recipe, such as ``stage 'policy'``.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UsageError(_sentence(model, error, where)) from None


def _sentence(model: type[Config], error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key '{key}'; {_suggestion(_model_at(model, path[:-1]), path[-1])}"
    if first["type"] == "missing":
        return f"{where}: '{key}' is missing; add {path[-1]} = ..."
    if first["type"] == "value_error":
        return f"{where}: {key + ': ' if key else ''}{first['ctx']['error']}"
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        choices = [choice.strip(" '") for choice in first["ctx"]["expected"].replace(" or ", ",").split(",")]
        return f"{where}: {key} = {brief(first['input'])} is not valid; {nearest(first['input'], choices)}"
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"{where}: {key} = {brief(first['input'])}: {message}"


def brief(value: object) -> str:
    """``repr`` of what the user wrote, cut to 80 characters: a sentence must not quote half a recipe."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _suggestion(model: type[Config], word: str) -> str:
    """The nearest key here or, when a key of an inner table is closer, that key with its table."""
    choices = list(model.model_fields)
    for name, field in model.model_fields.items():
        inner = _config_in(field.annotation)
        if inner is not None and difflib.get_close_matches(word, inner.model_fields, n=1, cutoff=0.8):
            close = difflib.get_close_matches(word, inner.model_fields, n=1, cutoff=0.8)[0]
            if not difflib.get_close_matches(word, choices, n=1, cutoff=0.8):
                return f"did you mean '{name}.{close}'?"
    return nearest(word, choices)


def _model_at(model: type[Config], path: list[str]) -> type[Config]:
    for part in path:
        field = model.model_fields.get(part)
        inner = _config_in(field.annotation) if field else None
        if inner is not None:
            model = inner
    return model


def _config_in(annotation: Any) -> type[Config] | None:
    """The Config class inside an annotation such as ``Critic | None`` or ``list[RewardSpec | str]``."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return annotation
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        for part in typing.get_args(annotation):
            found = _config_in(part)
            if found is not None:
                return found
    return None
