"""A recipe of one stage, for the commands that are named after stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ridgeline.schema.recipe import Recipe, resolve_recipe
from ridgeline.workbench.names import resolve_model

TOP_KEYS = ("name", "seed", "device", "dtype", "chat_template")
"""Keys of ``--set`` that belong to the recipe; every other one belongs to its only stage."""


def single_stage(
    kind: str,
    *,
    model: str,
    options: dict[str, Any],
    overrides: list[str] | None = None,
    name: str | None = None,
) -> Recipe:
    """The resolved recipe with one stage of type ``kind``; ``options`` are its keys, or those of
    ``TOP_KEYS``; None leaves the default.

    Paths are relative to the working directory.

    Raises:
        UsageError: as ``schema.recipe.resolve_recipe``, and a model name that cannot be resolved.
    """
    found = resolve_model(model)
    given = {key: value for key, value in options.items() if value is not None}
    stage = {key: value for key, value in given.items() if key not in TOP_KEYS}
    values: dict[str, Any] = {
        "name": name or f"{kind.replace('_', '-')}-{found.label}",
        "model": found.source,
        "stage": [{"name": kind, "type": kind, **stage}],
        **{key: value for key, value in given.items() if key in TOP_KEYS},
    }
    if found.chat_template is not None:
        values.setdefault("chat_template", found.chat_template)
    return resolve_recipe(values, Path.cwd(), [to_stage(kind, each) for each in overrides or []])


def to_stage(kind: str, override: str) -> str:
    """``epochs=2`` means the stage's epochs; ``seed=2`` the recipe's seed."""
    first = override.partition("=")[0].strip().split(".")[0]
    return override if first in (*TOP_KEYS, kind) or "=" not in override else f"{kind}.{override}"
