"""A comparison: the workload once, then both sides in turn, each run in a fresh process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ridgeline.schema.errors import UsageError
from ridgeline.workbench.bench import results
from ridgeline.workbench.bench.compare import figure
from ridgeline.workbench.bench.load import BUSY, load_average, settled_use
from ridgeline.workbench.bench.models import model_folder
from ridgeline.workbench.bench.process import Run, Side, run_side, sides_of
from ridgeline.workbench.bench.workload import write_workload
from ridgeline.workbench.bench.works import Work


@dataclass(frozen=True)
class Options:
    """How a comparison is taken.

    runs, steps: None for those of the work. busy: go on beside other work, and say so in the result. isa: a
    name of ``process.ISA``, which keeps both sides from using all that the processor has.
    """

    model: str = "smollm2-135m-instruct"
    seed: int = 1
    runs: int | None = None
    steps: int | None = None
    isa: str | None = None
    busy: bool = False


def compare(work: Work, against: str, options: Options, report: Callable[[str], None]) -> dict[str, Any]:
    """Time ``work`` on our side and on that of ``against``; ``report`` is told of every run.

    Raises:
        UsageError: the machine is busy, or the peer's environment is missing.
        RunError: a side failed.
    """
    if options.steps is not None and work.measure == "steps":
        work = replace(work, steps=options.steps)
    work = replace(work, runs=options.runs or work.runs)
    sides = sides_of(against, work.kind)
    busy = False
    taken: dict[str, list[Run]] = {side.name: [] for side in sides}
    with tempfile.TemporaryDirectory(prefix="ridgeline-bench-") as name:
        folder = Path(name)
        workload = _workload(work, options, folder / "workload.json")
        before = load_average()
        for number in range(work.runs):
            for side in sides:
                busy |= check_idle(options.busy, report)
                run = run_side(side, folder / "workload.json", folder, isa=options.isa)
                taken[side.name].append(run)
                report(_line(work, side, run, number))
    facts = {
        "against": against,
        "date": results.today(),
        "commit": results.commit(),
        "model": options.model,
        "model_folder": Path(workload["model"]).name,
        "seed": options.seed,
        "isa": options.isa or "all",
        "machine": results.machine(),
        "load_average": before,
        "busy": busy,
    }
    return results.summary(work, taken, facts)


def _workload(work: Work, options: Options, path: Path) -> dict[str, Any]:
    from ridgeline.models.load import load_tokenizer

    folder = model_folder(options.model)
    tokenizer = load_tokenizer(str(folder))
    return write_workload(work, path, model=folder, tokenizer=tokenizer, seed=options.seed)


def check_idle(busy: bool, report: Callable[[str], None]) -> bool:
    """Whether others are at work, which only ``busy`` allows.

    Raises:
        UsageError: they are, and it is not allowed.
    """
    use = settled_use(0.0 if busy else 5.0)
    if use is None:
        report("this system does not say how busy it is; close what you can")
        return False
    if use > BUSY and not busy:
        raise UsageError(
            f"the machine is busy: {100 * use:.0f} % of its processors are in use; "
            "close other programs, or add --busy and trust nothing but the ratio."
        )
    return use > BUSY


def _line(work: Work, side: Side, run: Run, number: int) -> str:
    others = "" if run.others is None or run.others <= BUSY else f", others used {100 * run.others:.0f} %"
    peak = f"{run.peak / 1e9:.2f} GB"
    value = f"{figure(work, run):.4g} {work.unit}"
    return f"{work.name} {number + 1}/{work.runs}  {side.name}: {value}, {peak}{others}"
