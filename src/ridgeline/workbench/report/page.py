"""The page: sections in order, each of them allowed to fail alone."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from ridgeline.schema.errors import UsageError
from ridgeline.schema.run_folder import write_atomic
from ridgeline.workbench.report.completions import completions
from ridgeline.workbench.report.controls import controls
from ridgeline.workbench.report.headline import headline
from ridgeline.workbench.report.markup import note, text
from ridgeline.workbench.report.over_optimisation import over_optimisation
from ridgeline.workbench.report.reproduce import reproduce
from ridgeline.workbench.report.source import RunData, read_run
from ridgeline.workbench.report.stage_sections import stage_sections

SECTIONS: dict[str, Callable[[RunData], str]] = {
    "the over-optimisation picture": over_optimisation,
    "the controls": controls,
    "the stages": stage_sections,
    "the completions": completions,
    "how to reproduce": reproduce,
}


def write_report(run: Path) -> Path:
    """Write ``report.html`` into the run folder ``run`` and return its path.

    Reads nothing but the folder, which may belong to a run that is still going on or that broke off: what is
    missing or damaged becomes a note on the page. The page needs no network and no other file, and the same
    folder always gives the same bytes.

    Raises:
        UsageError: ``run`` is not a folder, or the page cannot be written into it.
    """
    run = Path(run)
    if not run.is_dir():
        raise UsageError(f"there is no run folder {run}; check the path.")
    page = run / "report.html"
    html = render(read_run(run))
    try:
        write_atomic(page, html)
    except OSError as error:
        raise UsageError(
            f"cannot write {page}: {error.strerror}; make some room or check its rights."
        ) from None
    return page


def render(run: RunData) -> str:
    """The whole page."""
    sections = "".join(_guarded(name, build, run) for name, build in SECTIONS.items())
    # The headline comes first but is built last: it repeats what the others found missing.
    body = _guarded("the headline", headline, run) + f"<main>{sections}</main>"
    style = files("ridgeline.workbench.report").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src '
        "'unsafe-inline'\">"
        f"<title>{text(run.name)} · Ridgeline</title><style>\n{style}</style></head>\n"
        f"<body>{body}</body></html>\n"
    )


def _guarded(name: str, build: Callable[[RunData], str], run: RunData) -> str:
    # A run folder can be damaged in ways nobody listed, and a report must never fail for one part of it.
    try:
        return build(run)
    except Exception as error:
        return f"<section>{note(f'{name} could not be drawn: {type(error).__name__}: {error}')}</section>\n"
