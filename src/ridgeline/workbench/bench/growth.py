"""How time grows with tokens, prompt length, group size and model size: exponents on logarithmic axes."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline.workbench.bench import results
from ridgeline.workbench.bench.models import model_folder
from ridgeline.workbench.bench.process import run_side, sides_of
from ridgeline.workbench.bench.run import Options, check_idle

BASE = {
    "rollout": {"prompts": 8, "group": 8, "prompt tokens": 42, "new tokens": 64},
    "training step": {"prompts": 2, "group": 8, "prompt tokens": 42, "new tokens": 64},
}
AXES = {"new tokens": (32, 64, 128, 256), "prompt tokens": (32, 128, 512), "group": (2, 8, 32)}
MODELS = ("45m-random", "smollm2-135m-instruct", "360m-random")
REPEATS = 2


@dataclass(frozen=True)
class Fit:
    """seconds ~ size ** exponent, with the standard error of the exponent (None below three points)."""

    exponent: float
    error: float | None


def fit(sizes: Sequence[float], seconds: Sequence[float]) -> Fit:
    """Least squares on logarithms.

    Raises:
        ValueError: fewer than two different sizes.
    """
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in seconds]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((each - mean_x) ** 2 for each in x)
    if spread == 0:
        raise ValueError("an exponent needs two different sizes")
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    if len(x) < 3:
        return Fit(slope, None)
    rest = sum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
    return Fit(slope, math.sqrt(rest / (len(x) - 2) / spread))


def measure_growth(options: Options, report: Callable[[str], None]) -> dict[str, Any]:
    """Our side only: every axis on ``options.model``, then three model sizes.

    Raises:
        UsageError: the machine is busy.
        RunError: a run failed.
    """
    seconds, _, use = _measure(options.model, _points(), options, report)
    axes = [
        _axis(work, axis, [(size, seconds[_name(work, axis, size)]) for size in sizes])
        for work in BASE
        for axis, sizes in AXES.items()
    ]
    by_model: dict[str, list[tuple[float, list[float]]]] = {work: [] for work in BASE}
    uses = [use]
    for name in MODELS:
        points = [_point(work, "model", name, sizes) for work, sizes in BASE.items()]
        seconds, parameters, use = _measure(name, points, options, report)
        uses.append(use)
        for work in BASE:
            by_model[work].append((parameters, seconds[_name(work, "model", name)]))
    axes += [_axis(work, "parameters", points) for work, points in by_model.items()]
    return {
        "work": "growth",
        "date": results.today(),
        "commit": results.commit(),
        "model": options.model,
        "machine": results.machine(),
        "isa": options.isa or "all",
        "base": BASE,
        "busy": any(uses),
        "axes": axes,
    }


def _points() -> list[dict[str, Any]]:
    return [
        _point(work, axis, size, base | {axis: size})
        for work, base in BASE.items()
        for axis, sizes in AXES.items()
        for size in sizes
    ]


def _point(work: str, axis: str, size: object, sizes: dict[str, int]) -> dict[str, Any]:
    return {"name": _name(work, axis, size), "work": work, "sizes": sizes}


def _name(work: str, axis: str, size: object) -> str:
    return f"{work}/{axis}/{size}"


def _axis(work: str, axis: str, points: Sequence[tuple[float, list[float]]]) -> dict[str, Any]:
    every = [(size, value) for size, values in points for value in values]
    fitted = fit([size for size, _ in every], [value for _, value in every])
    return {
        "work": work,
        "axis": axis,
        "points": [{"size": size, "seconds": min(values), "all": values} for size, values in points],
        "exponent": fitted.exponent,
        "error": fitted.error,
    }


def _measure(
    model: str, points: list[dict[str, Any]], options: Options, report: Callable[[str], None]
) -> tuple[dict[str, list[float]], int, bool]:
    """Seconds by point, parameters of the model, and whether others were at work."""
    workload = {
        "kind": "growth",
        "model": str(model_folder(model)),
        "seed": options.seed,
        "points": points,
        "repeats": options.steps or REPEATS,
    }
    busy = check_idle(options.busy, report)
    with tempfile.TemporaryDirectory(prefix="ridgeline-bench-") as name:
        path = Path(name) / "workload.json"
        path.write_text(json.dumps(workload))
        run = run_side(sides_of("plain")[0], path, Path(name), isa=options.isa)
    report(f"growth: {model}, {len(points)} points, {run.seconds[0]:.0f} s")
    return run.parts, int(run.checks["parameters"]), busy
