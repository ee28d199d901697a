"""Start or resume a run and write its report: shared by the command line and the Python API."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline.schema.errors import RidgelineError, UsageError
from ridgeline.schema.recipe import Recipe, load_recipe
from ridgeline.schema.run_folder import RunFolder
from ridgeline.training.observer import Observer, Silent


@dataclass(frozen=True)
class Outcome:
    """A finished run: its folder, its summary, and its report (None when the report failed)."""

    folder: Path
    summary: dict[str, Any]
    report: Path | None

    def as_dict(self) -> dict[str, Any]:
        """The summary with the two paths, as ``--json`` prints it."""
        return {**self.summary, "run": str(self.folder), "report": str(self.report) if self.report else None}


def default_folder(recipe: Recipe) -> Path:
    """``runs/<name>`` below the working directory."""
    return Path("runs") / recipe.name


def launch(
    recipe: Recipe, folder: Path, *, resume: bool = False, observer: Observer | None = None
) -> Outcome:
    """Run every stage, then write ``report.html``; a report that fails costs one line, never the run.

    Raises:
        UsageError, DataError, RunError: as ``stages.pipeline.run_recipe``.
    """
    from ridgeline.stages.pipeline import run_recipe

    watcher = observer or Silent()
    summary = run_recipe(recipe, folder, resume=resume, observer=watcher)
    watcher.phase("writing the report")
    try:
        report: Path | None = write_report(folder)
    except Exception as error:  # a picture must not cost a finished run its exit code
        watcher.note(f"the run is complete, its report failed: {error!r} (retry: ridgeline report {folder})")
        report = None
    return Outcome(folder, summary, report)


def write_report(folder: Path) -> Path:
    """(Re)write ``report.html`` of a run folder.

    Raises:
        UsageError: the folder holds no run.
    """
    from ridgeline.workbench import report

    existing_run(folder)
    return report.write_report(folder)


def existing_run(path: str | Path) -> RunFolder:
    """The run at ``path``.

    Raises:
        UsageError: there is none.
    """
    run = RunFolder(path)
    if not run.has_recipe:
        what = "holds no run" if run.path.is_dir() else "does not exist"
        raise UsageError(f"the run folder {path} {what}; name one, such as runs/quickstart.")
    return run


def recipe_to_resume(run: RunFolder, path: str | Path | None, overrides: list[str] | None = None) -> Recipe:
    """The recipe to go on with: ``path``, or else the run's own ``recipe.toml``.

    Whether it still is the one that the run was started with is for the pipeline to check.
    """
    return load_recipe(run.path / "recipe.toml" if path is None else path, overrides)


def read_summary(run: RunFolder) -> dict[str, Any]:
    """``summary.json``, or as much of it as an unfinished run has.

    Raises:
        RidgelineError: the file cannot be parsed.
    """
    path = run.path / "summary.json"
    if path.is_file():
        try:
            summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RidgelineError(f"cannot read {path}: {error}.") from None
        return summary
    recipe = run.recipe_as_started()
    stages = {stage.name: stage.result() for stage in run.stages()}
    return {
        "name": recipe["name"],
        "model": recipe["model"],
        "seed": recipe["seed"],
        "stages": stages,
        "finished": False,
    }


def check_new(folder: Path) -> None:
    """Refuse a folder that already holds a run, before anything heavy is loaded.

    Raises:
        UsageError: says whether that run is finished, and what can be done.
    """
    run = RunFolder(folder)
    if not run.is_occupied:
        return
    if (folder / "summary.json").is_file():
        raise UsageError(
            f"{folder} already holds a finished run; choose another --out, or remove that folder."
        )
    raise UsageError(
        f"{folder} already holds an unfinished run; go on with: ridgeline resume {folder}, "
        "or choose another --out."
    )
