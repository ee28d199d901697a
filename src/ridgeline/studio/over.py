"""Gold and proxy against KL: the evaluations of a stage, best-of-n beside them, and where gold turned."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ridgeline.studio.figures import figure
from ridgeline.studio.lines import HIGH, LOW
from ridgeline.studio.run_reader import RunReader
from ridgeline.studio.safe import finite
from ridgeline.studio.sample_files import sample_files
from ridgeline.studio.samples import Samples
from ridgeline.studio.scores import prompt_means
from ridgeline.studio.stage_reader import StageReader
from ridgeline.studio.tables import Table

MARKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
NO_GOLD = "The stage watches no gold reward (monitor), so only what it is trained on is shown."
TRAINING = "No held-out evaluation has been made yet, so these are the training steps, without intervals."
MOVES = "The proxy learns along (d2po), so its values at two times cannot be compared."


def roles(run: RunReader, stage: StageReader) -> tuple[str | None, str | None, bool]:
    """Gold and proxy by the name they are recorded under, and whether the proxy itself learns along."""
    from pathlib import Path

    from ridgeline.schema.run_folder import StageFolder
    from ridgeline.workbench.report.rl_view import rl_views
    from ridgeline.workbench.report.source import RunData, StageData

    stages = [
        StageData(StageFolder(each.folder), each.name, each.type, each.config, True)
        for each in run.stages.values()
    ]
    try:
        views = rl_views(RunData(Path(run.path), run.recipe, "", {}, [], stages, []))
    except (TypeError, ValueError, KeyError, AttributeError):
        return None, None, False  # a recipe that somebody wrote by hand
    for view in views:
        if view.stage.folder.path == stage.folder:
            return view.gold, view.proxy, view.judge_moves
    return None, None, False


def over(samples: Samples, run: RunReader, stage: StageReader) -> dict[str, Any]:
    """See ``shapes.OverAnswer``."""
    gold, proxy, moves = roles(run, stage)
    tables = stage.tables()
    with stage.lock:
        evaluations = _points(tables["evaluations"], "evaluation/", gold, proxy)
        points = evaluations or _points(tables["metrics"], "", gold, proxy)
    notes = [NO_GOLD] if gold is None else []
    if points and not evaluations:
        notes.append(TRAINING)
    if moves:
        notes.append(MOVES)
    peak = _peak(samples, stage, gold, points) if gold is not None and evaluations else None
    if peak is not None:
        notes.append(_verdict(peak, points))
    if not points:
        notes.append("The stage has recorded no KL beside a reward.")
    farthest = max((point["kl"] for point in points), default=0.0)
    return {
        "points": points,
        "best_of_n": _marks(farthest),
        "peak": peak,
        "note": " ".join(notes),
        "gold_name": gold,
        "proxy_name": proxy,
    }


def _points(table: Table, prefix: str, gold: str | None, proxy: str | None) -> list[dict[str, Any]]:
    kl = table.column(f"{prefix}kl_k1")
    if kl is None:
        return []
    columns: dict[str, Any] = {}
    for role, name in (("gold", gold), ("proxy", proxy or "total")):
        base = f"{prefix}reward/{name}"
        if role == "proxy" and table.column(base) is None:
            base = f"{prefix}reward/total" if table.column(f"{prefix}reward/total") is not None else "reward"
        for key, suffix in ((role, ""), (f"{role}_low", LOW), (f"{role}_high", HIGH)):
            columns[key] = table.column(base + suffix) if name is not None else None
    points = []
    for row, step in enumerate(table.steps()):
        walked = finite(float(kl[row]))
        if walked is None:
            continue
        values = {key: None if c is None else finite(float(c[row])) for key, c in columns.items()}
        if values["gold"] is None and values["proxy"] is None:
            continue
        # A sampled KL may come out below zero; its root may not.
        distance = max(0.0, walked)
        points.append({"step": int(step), "kl": distance, "sqrt_kl": math.sqrt(distance), **values})
    return points


def _marks(farthest: float) -> list[dict[str, Any]]:
    """Best-of-n up to the first mark beyond what was walked, and at least up to 16."""
    from ridgeline.statistics.best_of_n import kl_of_best_of_n

    marks = [{"n": n, "kl": kl_of_best_of_n(n)} for n in MARKS]
    beyond = next((place for place, mark in enumerate(marks) if mark["kl"] > farthest), len(marks))
    return marks[: max(5, beyond + 1)]


def _peak(
    samples: Samples, stage: StageReader, gold: str, points: list[dict[str, Any]]
) -> dict[str, Any] | None:
    known = [point for point in points if point["gold"] is not None]
    if len(known) < 2:
        return None
    top = max(known, key=lambda point: point["gold"])
    found = {key: top[key] for key in ("step", "kl", "sqrt_kl", "gold")}
    return found | _fall(samples, stage, gold)


def _fall(samples: Samples, stage: StageReader, gold: str) -> dict[str, Any]:
    """The fall of gold since its peak, by prompts that did not choose the peak (``fall_after_peak``)."""
    from ridgeline.statistics.over_optimisation import fall_after_peak

    unknown = {"fall": None, "fall_low": None, "fall_high": None, "over_optimised": None}
    files = [file for file in sample_files(stage) if file.kind == "evaluation"]
    rows = [prompt_means(samples, stage, file, gold) for file in files]
    if len(rows) < 2 or len(rows[0]) < 4 or any(row.keys() != rows[0].keys() for row in rows):
        return unknown
    gold_SP = np.array([[row[prompt] for prompt in rows[0]] for row in rows])
    found = fall_after_peak([file.step for file in files], gold_SP)
    return {
        "fall": finite(found.fall.value),
        "fall_low": finite(found.fall.low),
        "fall_high": finite(found.fall.high),
        "over_optimised": bool(found.over_optimised),
    }


def _verdict(peak: dict[str, Any], points: list[dict[str, Any]]) -> str:
    if peak["step"] == points[-1]["step"]:
        return "Gold was highest at the last evaluation, so no over-optimisation was seen."
    if peak["fall"] is None:
        return f"Gold was highest at step {peak['step']}; too few prompts to say whether it fell since."
    drop = f"{figure(peak['fall'])} [{figure(peak['fall_low'])}, {figure(peak['fall_high'])}]"
    if peak["over_optimised"]:
        return (
            f"Over-optimised: since its peak at step {peak['step']} gold fell by {drop} "
            "(peak and fall from different halves of the prompts)."
        )
    return f"Gold was highest at step {peak['step']}; its drop since, {drop}, may be none."
