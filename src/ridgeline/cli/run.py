"""``run``, ``resume`` and ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ridgeline.cli.settings import messages, output, print_json, settings_of
from ridgeline.schema.errors import UsageError, nearest

if TYPE_CHECKING:
    from ridgeline.schema.recipe import Recipe

PROFILE = typer.Option(
    False, "--profile", help="Say where the second step of the first stage that learns spends its time."
)
SET_HELP = "Change the recipe: stage.key=value or key=value; repeat for more."


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("run")(run)
    app.command("resume")(resume)
    app.command("report")(report)


def run(
    context: typer.Context,
    recipe: Path = typer.Argument(..., help="A TOML recipe, such as recipes/quickstart.toml."),
    out: Path | None = typer.Option(None, "--out", help="The run folder; default: runs/<recipe name>."),
    overrides: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help=SET_HELP),
    profile: bool = PROFILE,
    profile_stage: str | None = typer.Option(
        None, "--profile-stage", metavar="STAGE", help="--profile, but of the stage of this name."
    ),
) -> None:
    """Run every stage of a recipe, print what was measured and write report.html.

    \b
    ridgeline run recipes/quickstart.toml
    ridgeline run recipes/quickstart.toml --out runs/longer --set policy.steps=50 --set seed=2
    ridgeline run recipes/quickstart.toml --profile-stage policy
    """
    from ridgeline.schema.recipe import load_recipe

    made = load_recipe(recipe, overrides)
    names = [stage.name for stage in made.stage]
    if profile_stage is not None and profile_stage not in names:
        raise UsageError(f"there is no stage '{profile_stage}' to profile; {nearest(profile_stage, names)}")
    execute(context, made, out, profile=profile or profile_stage is not None, profile_stage=profile_stage)


def resume(
    context: typer.Context,
    folder: Path = typer.Argument(..., metavar="RUN", help="The run folder, such as runs/quickstart."),
    recipe: Path | None = typer.Argument(None, help="Its recipe; default: the one kept in the run folder."),
    overrides: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help=SET_HELP),
) -> None:
    """Go on with an interrupted run, exactly where it stopped.

    The recipe must be the one the run was started with; --set repeats what `run` was given with its RECIPE.

    \b
    ridgeline resume runs/quickstart
    """
    from ridgeline.workbench.launch import existing_run, recipe_to_resume

    execute(context, recipe_to_resume(existing_run(folder), recipe, overrides), folder, resume_run=True)


def report(
    context: typer.Context,
    folder: Path = typer.Argument(..., metavar="RUN", help="The run folder, such as runs/quickstart."),
) -> None:
    """Write report.html of a run again, from what the run folder holds.

    \b
    ridgeline report runs/quickstart
    """
    from ridgeline.workbench.launch import write_report

    path = write_report(folder)
    if settings_of(context).json:
        print_json({"report": str(path)})
    else:
        output().print(str(path), markup=False)


def execute(
    context: typer.Context,
    recipe: Recipe,
    out: Path | None,
    *,
    resume_run: bool = False,
    profile: bool = False,
    profile_stage: str | None = None,
) -> None:
    """Run ``recipe`` with progress on standard error and the result on standard output."""
    from ridgeline.cli.tables import print_outcome, print_profile
    from ridgeline.training.profile import ProfilingObserver
    from ridgeline.workbench.launch import check_new, default_folder, launch
    from ridgeline.workbench.progress import observing

    settings = settings_of(context)
    folder = out if out is not None else default_folder(recipe)
    if not resume_run:
        check_new(folder)
        warn_of_shortage(recipe)
    profiler: ProfilingObserver | None = None
    try:
        with observing(messages(), recipe, quiet=settings.quiet) as observer:
            if profile:
                profiler = ProfilingObserver(observer, folder, profile_stage)
            outcome = launch(recipe, folder, resume=resume_run, observer=profiler or observer)
    finally:
        found = profiler.close() if profiler is not None else None
        if profile and found is None:
            messages().print("nothing was profiled: no such stage ended its second step", markup=False)
    if settings.json:
        print_json(outcome.as_dict() | ({"profile": found.as_dict()} if found is not None else {}))
        return
    if found is not None:
        print_profile(output(), found)
    print_outcome(output(), outcome, recipe, quiet=settings.quiet)


def warn_of_shortage(recipe: Recipe) -> None:
    """A line on standard error where the plan says that memory will not suffice; the run may go on."""
    from ridgeline.workbench.plan import memory_shortage

    shortage = memory_shortage(recipe)
    if shortage is not None:
        messages().print(f"warning: {shortage}", markup=False)
