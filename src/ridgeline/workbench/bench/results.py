"""The file that a comparison leaves: figures, and all that is needed to believe or repeat them."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
from pathlib import Path
from typing import Any

from ridgeline.models.hardware import cpu_name
from ridgeline.workbench.bench.compare import Check, Spread, equal_work, faster, figure
from ridgeline.workbench.bench.load import BUSY
from ridgeline.workbench.bench.process import Run
from ridgeline.workbench.bench.works import Work


def summary(work: Work, runs: dict[str, list[Run]], facts: dict[str, Any]) -> dict[str, Any]:
    """Everything about one comparison; ``runs`` of each side in the order they were taken, ours first."""
    ours, *peers = runs
    figures = {name: [figure(work, run) for run in taken] for name, taken in runs.items()}
    checks = {name: equal_work(runs[ours][0], runs[name][0]) for name in peers}
    others = [run.others for taken in runs.values() for run in taken if run.others is not None]
    return {
        "work": work.name,
        "title": work.title,
        "unit": work.unit,
        "note": work.note,
        "sizes": work.sizes,
        "steps": {"warm-up": work.warm, "timed": work.steps},
        **facts,
        "others": max(others, default=None),
        "disturbed": any(share > BUSY for share in others),
        "sides": {name: _side(runs[name], figures[name]) for name in runs},
        "faster": {name: faster(work, figures[ours], figures[name]).as_dict() for name in peers},
        "memory": {name: _median_ratio(runs[ours], runs[name], "peak") for name in peers},
        "start": {name: _median_ratio(runs[ours], runs[name], "start") for name in peers},
        "equal_work": {name: [check.as_dict() for check in found] for name, found in checks.items()},
        "equal": all(_holds(found) for found in checks.values()),
        **_details(work, runs[ours]),
        "runs": {name: [_shortened(run) for run in taken] for name, taken in runs.items()},
    }


def _holds(checks: list[Check]) -> bool:
    return all(check.holds for check in checks)


def _side(runs: list[Run], figures: list[float]) -> dict[str, Any]:
    return {
        "figure": Spread.of(figures).as_dict(),
        "peak_bytes": Spread.of([run.peak for run in runs]).as_dict(),
        "start_seconds": Spread.of([run.start for run in runs]).as_dict(),
        "settings": runs[0].settings,
        "versions": runs[0].versions,
    }


def _median_ratio(ours: list[Run], theirs: list[Run], name: str) -> float:
    """Our share of what they take."""
    mine, yours = (statistics.median(getattr(run, name) for run in runs) for runs in (ours, theirs))
    return float(mine / yours)


def _details(work: Work, runs: list[Run]) -> dict[str, Any]:
    """Our parts of a step in seconds, DPO without its reference, and shares of the roofline."""
    steps = [
        {name: values[number] for name, values in run.parts.items()}
        for run in runs
        for number in range(work.warm, len(run.seconds))
        if run.parts
    ]
    details: dict[str, Any] = {}
    if steps:
        details["parts"] = {name: statistics.median(step[name] for step in steps) for name in steps[0]}
    if work.kind == "dpo":
        rates = [
            tokens / (seconds - spent)
            for run in runs
            for seconds, tokens, spent in list(
                zip(run.seconds, run.tokens, run.parts["reference"], strict=True)
            )[work.warm :]
        ]
        details["tokens/s with cached reference"] = statistics.median(rates)
    shares = [run.roofline for run in runs if run.roofline]
    if shares:
        details["roofline"] = {name: statistics.median(each[name] for each in shares) for name in shares[0]}
    return details


def _shortened(run: Run) -> dict[str, Any]:
    """Without the lengths of every row, which the seed gives again."""
    plain = {name: value for name, value in run.as_dict().items() if name not in ("settings", "versions")}
    plain["checks"] = {name: value for name, value in run.checks.items() if not isinstance(value, list)}
    return plain


def machine() -> dict[str, Any]:
    """The processor by name, its cores, and the instructions that torch uses."""
    import torch

    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.platform(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def commit() -> str | None:
    """The commit of the checkout that this code lies in, marked when files differ from it; None elsewhere."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def today() -> str:
    """ISO date and time, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write(result: dict[str, Any], path: Path) -> Path:
    """``result`` as indented JSON at ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path
