"""``compare``: two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ridgeline.cli.settings import output, print_json, settings_of

if TYPE_CHECKING:
    from ridgeline.workbench.compare import Comparison

VERDICTS = {True: "overlap", False: "apart", None: ""}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("compare")(compare)


def compare(
    context: typer.Context,
    first: Path = typer.Argument(..., metavar="RUN", help="A run folder, such as runs/a."),
    second: Path = typer.Argument(..., metavar="RUN", help="Another run folder."),
) -> None:
    """Show how two recipes differ and what both runs measured at the end, with intervals.

    \b
    ridgeline compare runs/quickstart runs/hotter
    """
    from ridgeline.workbench.compare import compare as compare_runs

    found = compare_runs(first, second)
    settings = settings_of(context)
    if settings.json:
        print_json(found.as_dict())
        return
    if not settings.quiet:
        _print_tables(found)
    apart = sum(each.overlap is False for each in found.measured)
    known = sum(each.overlap is not None for each in found.measured)
    keys = len(found.differences)
    output().print(
        f"{keys} recipe keys differ; of {known} measurements with intervals {apart} are apart.",
        markup=False,
    )


def _print_tables(found: Comparison) -> None:
    from ridgeline.cli.tables import print_table

    console = output()
    rows: list[list[Any]] = [
        [each.key, _value(each.first), _value(each.second)] for each in found.differences
    ]
    columns = ["key", found.first, found.second]
    print_table(console, "Recipe", columns, rows or [["(no difference)", "", ""]], words=3)
    lines = []
    for each in found.measured:
        model = f" ({each.model})" if each.model else ""
        lines.append(
            [f"{each.stage}  {each.measure}{model}", each.first, each.second, VERDICTS[each.overlap]]
        )
    title = "Measured at the end (95 % intervals)"
    print_table(console, title, ["measure", found.first, found.second, "intervals"], lines)


def _value(value: Any) -> str:
    return "(absent)" if value is None else str(value)
