"""``doctor``: first checks of a recipe or a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ridgeline.cli.run import SET_HELP
from ridgeline.cli.settings import output, print_json, settings_of

if TYPE_CHECKING:
    from ridgeline.workbench.checks.result import Check


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("doctor")(doctor)


def doctor(
    context: typer.Context,
    recipe: Path | None = typer.Argument(None, help="A TOML recipe to check."),
    model: str | None = typer.Option(None, "--model", "-m", help="Check a model instead of a recipe."),
    chat_template: str | None = typer.Option(
        None, "--chat-template", help="chatml, or a Jinja file (with --model)."
    ),
    overrides: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help=SET_HELP),
) -> None:
    """Check in seconds what would otherwise fail late: masks, ratios, rewards, memory.

    On-policy ratio 1, learning rate 0 changes nothing, stop token trained, sampler and trainer agree,
    truncated share; for a recipe also its reward functions, the spread of rewards within groups, and memory.
    Leaves with exit code 4 when a check fails.

    \b
    ridgeline doctor recipes/quickstart.toml
    ridgeline doctor --model runs/quickstart:sft
    """
    from ridgeline.schema.errors import UsageError
    from ridgeline.schema.recipe import load_recipe

    if (recipe is None) == (model is None):
        raise UsageError("name a recipe, or a model with --model.")
    resolved = load_recipe(recipe, overrides) if recipe is not None else None
    from ridgeline.workbench.doctor import examine_model, examine_recipe

    settings = settings_of(context)
    silent = settings.json or settings.quiet
    report = _ignore if silent else _print_check
    if resolved is not None:
        checks = examine_recipe(resolved, report=report)
    else:
        checks = examine_model(str(model), chat_template=chat_template, report=report)
    failed = [check for check in checks if not check.passed]
    if settings.json:
        print_json({"passed": not failed, "checks": [check.as_dict() for check in checks]})
    else:
        names = f" ({', '.join(check.name for check in failed)})" if failed else ""
        output().print(f"{len(checks) - len(failed)} of {len(checks)} checks passed{names}", markup=False)
    if failed:
        raise typer.Exit(4)


def _print_check(check: Check) -> None:
    from rich.text import Text

    mark = Text("ok    ", style="green") if check.passed else Text("failed", style="bold red")
    output().print(Text.assemble(mark, f"  {check.name}: {check.detail}"))


def _ignore(check: Check) -> None:
    """The closing line or the JSON says it all."""
