"""Options that every command has, and where a command prints."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer
    from rich.console import Console

GLOBAL_OPTIONS = ("--debug", "--quiet", "--json")
PIPE_WIDTH = 120


@dataclass(frozen=True)
class Settings:
    """``--debug``, ``--quiet`` and ``--json``, which may stand before or after the command."""

    debug: bool = False
    quiet: bool = False
    json: bool = False


def settings_of(context: typer.Context) -> Settings:
    """The settings of the call that ``context`` belongs to."""
    found = context.find_object(Settings)
    return found if found is not None else Settings()


def output() -> Console:
    """Results: standard output."""
    return _console(stderr=False)


def messages() -> Console:
    """Progress, notes and errors: standard error."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    """As wide as the terminal; in a file or a pipe wide enough for the tables."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, PIPE_WIDTH)
    return console


def print_json(value: Any) -> None:
    """``value`` as indented JSON on standard output; what JSON cannot hold (nan, inf) becomes null."""
    print(json.dumps(_finite(value), indent=1, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
