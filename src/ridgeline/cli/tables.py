"""Results as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ridgeline.schema.recipe import Recipe
from ridgeline.workbench.launch import Outcome
from ridgeline.workbench.results import BEFORE_AFTER, Figure, StageTable, kinds_of, stage_tables

if TYPE_CHECKING:
    from ridgeline.training.profile import StepProfile

WIDE = 3
"""Models with intervals that fit side by side into 100 columns."""


def print_table(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, words: int = 1
) -> None:
    """A plain table; the first ``words`` columns are text, the others numbers, aligned to the right."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        text = number < words
        table.add_column(column, justify="left" if text else "right", overflow="fold", no_wrap=not text)
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console.print(table)


def print_outcome(console: Console, outcome: Outcome, recipe: Recipe, *, quiet: bool) -> None:
    """What every stage measured, and where the report is."""
    if not quiet:
        print_stage_tables(console, stage_tables(outcome.summary, kinds_of(recipe.model_dump(mode="json"))))
    count = f"{len(recipe.stage)} stage{'s' if len(recipe.stage) > 1 else ''}"
    where = f"report: {outcome.report}" if outcome.report is not None else f"run: {outcome.folder}"
    console.print(Text(f"{recipe.name}: {count} done, {where}"))


def print_profile(console: Console, found: StepProfile) -> None:
    """Where one step spent its time: phases in their order, then the most expensive operators."""
    title = f"Step {found.step} of {found.stage}: {found.seconds:.2f} s, profiled (which slows it down)"
    for heading, parts in (("phase", found.phases), ("operator, own time", found.operators)):
        rows = [[p.name, f"{p.seconds:.3f}", f"{100 * p.share:.1f} %", p.calls] for p in parts]
        print_table(console, title, [heading, "seconds", "share", "calls"], rows)
        title = ""
    console.print(Text(f"trace for ui.perfetto.dev or chrome://tracing: {found.trace}"))


def print_stage_tables(console: Console, tables: Sequence[StageTable]) -> None:
    """Learning stages in one table of before and after, then a table per evaluation."""
    rows: list[list[Any]] = []
    for table in tables:
        if table.columns == BEFORE_AFTER:
            rows += [
                [table.stage if number == 0 else "", measure, *figures]
                for number, (measure, figures) in enumerate(table.rows.items())
            ]
    if rows:
        title = "Measured (95 % intervals in brackets where there is one)"
        print_table(console, title, ["stage", "measure", *BEFORE_AFTER], rows, words=2)
    for table in tables:
        if table.columns != BEFORE_AFTER:
            _print_models(console, table)


def _print_models(console: Console, table: StageTable) -> None:
    """A column for each model, or, where that grows too wide for a terminal, a block of lines for each."""
    title = f"{table.stage} (95 % intervals over prompts)"
    if len(table.columns) <= WIDE:
        lines = [[measure, *map(_cell, figures)] for measure, figures in table.rows.items()]
        print_table(console, title, ["", *table.columns], lines)
        return
    blocks = [
        [model if number == 0 else "", measure, _cell(figures[column])]
        for column, model in enumerate(table.columns)
        for number, (measure, figures) in enumerate(
            (measure, figures) for measure, figures in table.rows.items() if figures[column] is not None
        )
    ]
    print_table(console, title, ["model", "measure", ""], blocks, words=2)


def _cell(figure: Figure | None) -> str:
    return "" if figure is None else str(figure)
