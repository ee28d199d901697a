"""``models``: what there is to start from."""

from __future__ import annotations

from pathlib import Path

import typer

from ridgeline.cli.settings import output, print_json, settings_of


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("models")(models)


def models(
    context: typer.Context,
    runs: Path = typer.Option(Path("runs"), "--runs", help="The folder that holds run folders."),
) -> None:
    """The embedded model, models that runs have made, and which names are accepted."""
    from ridgeline.models.embedded import EMBEDDED_NAME
    from ridgeline.workbench.names import ACCEPTED, embedded_status, models_in_runs

    status, made = embedded_status(), models_in_runs(runs)
    if settings_of(context).json:
        print_json({"embedded": {"name": EMBEDDED_NAME, **status}, "runs": made, "accepted": ACCEPTED})
        return
    lines = [f"{EMBEDDED_NAME}: {status['state']}", ""]
    lines += [f"Made by runs in {runs}:", *(f"  {name}" for name in made or ["(none)"]), ""]
    lines += ["A model can be named by", *(f"  {line}" for line in ACCEPTED)]
    output().print("\n".join(lines), markup=False)
