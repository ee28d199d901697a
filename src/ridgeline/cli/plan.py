"""``plan``: what a recipe will do, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ridgeline.cli.run import SET_HELP
from ridgeline.cli.settings import output, print_json, settings_of

if TYPE_CHECKING:
    from rich.console import Console

    from ridgeline.workbench.plan import Plan, StagePlan


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("plan")(plan)


def plan(
    context: typer.Context,
    recipe: Path = typer.Argument(..., help="A TOML recipe."),
    overrides: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help=SET_HELP),
    mean_tokens: float | None = typer.Option(
        None, "--mean-tokens", min=1, help="Expected tokens of a completion; default: their limit."
    ),
    summary: bool = typer.Option(False, "--summary", help="Leave out the resolved recipe."),
) -> None:
    """Resolve a recipe and estimate steps, memory and time before anything runs; downloads nothing.

    \b
    ridgeline plan recipes/quickstart.toml
    ridgeline plan recipes/quickstart.toml --set policy.steps=50 --json
    """
    from ridgeline.schema.recipe import load_recipe

    resolved = load_recipe(recipe, overrides)
    from ridgeline.workbench.plan import make_plan

    made = make_plan(resolved, mean_tokens=mean_tokens)
    settings = settings_of(context)
    if settings.json:
        print_json(made.as_dict())
        return
    console = output()
    if not settings.quiet and not summary:
        _print_recipe(console, made)
    if not settings.quiet:
        for stage in made.stages:
            _print_stage(console, stage)
        console.print(made.method, markup=False)
    _print_totals(console, made)


def _print_recipe(console: Console, made: Plan) -> None:
    import tomli_w

    from ridgeline.schema.run_folder import without_none

    console.print("# The recipe with every default written out", markup=False)
    console.print(tomli_w.dumps(without_none(made.recipe.model_dump(mode="json"))), markup=False)


def _print_stage(console: Console, planned: StagePlan) -> None:
    from ridgeline.cli.tables import print_table
    from ridgeline.workbench.progress import seconds
    from ridgeline.workbench.results import number

    rows = [
        [name, value if isinstance(value, str) else number(value)]
        for name, value in planned.work.counts.items()
    ]
    rows += [[f"memory: {name}", size(value)] for name, value in planned.memory.items()]
    work = planned.work
    bound = "at most" if work.at_most else "estimate"
    rows.append(["memory, total (estimate)", size(planned.peak)])
    rows += [[f"time: {name}", seconds(value)] for name, value in work.seconds.items()]
    if work.seconds_per_step:
        rows.append([f"time, a step ({bound})", seconds(work.seconds_per_step)])
    rows.append([f"time, total ({bound})", seconds(work.total_seconds)])
    if work.dominant is not None:
        part, share = work.dominant
        rows.append(["most of it", f"{part}, {100 * share:.0f} %"])
    rows += [["not on this machine, size assumed", source] for source in planned.assumed]
    print_table(console, f"{planned.stage.name}  {planned.stage.type}", ["", ""], rows)


def _print_totals(console: Console, made: Plan) -> None:
    from ridgeline.workbench.progress import seconds

    room = f" of {size(made.available)} available" if made.available is not None else ""
    machine, bound = made.machine, "at most" if made.at_most else "about"
    console.print(
        f"{made.recipe.name}: {bound} {seconds(made.seconds)}, peak memory about {size(made.peak)}{room} "
        f"(estimates; {made.facts.parameters / 1e6:.1f}M parameters, {machine.dtype} on {machine.device}, "
        f"sampler: {machine.sampler})",
        markup=False,
    )
    if made.shortage is not None:
        console.print(f"Too little memory: {made.shortage}", markup=False)


def size(count: float) -> str:
    """Bytes for people: ``1.25 GB``, ``310 MB``."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
