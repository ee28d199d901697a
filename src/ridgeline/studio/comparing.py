"""Two stages side by side: their curves, their last measurements, and how their recipes differ."""

from __future__ import annotations

from typing import Any

from ridgeline.studio.lines import HIGH, LOW
from ridgeline.studio.run_reader import RunReader
from ridgeline.studio.safe import finite, sendable
from ridgeline.studio.sample_files import sample_files
from ridgeline.studio.samples import Samples
from ridgeline.studio.scores import prompt_rewards
from ridgeline.studio.stage_reader import StageReader
from ridgeline.studio.tables import Table

Side = tuple[RunReader, StageReader]
LAST_SHARE = 10
"""Of training metrics the mean over the last tenth of the steps is compared."""


def compare(samples: Samples, a: Side, b: Side) -> dict[str, Any]:
    """See ``shapes.CompareAnswer``."""
    names = [_names(stage) for _, stage in (a, b)]
    common = [name for name in names[0] if name in set(names[1])]
    return {"names": common, "table": _table(samples, a[1], b[1]), "config": _config(a, b)}


def _names(stage: StageReader) -> list[str]:
    return [
        name for table in stage.tables().values() for name in table.names() if not name.endswith((LOW, HIGH))
    ]


def _table(samples: Samples, a: StageReader, b: StageReader) -> list[dict[str, Any]]:
    """Last evaluations, then training metrics; the interval is that of the paired difference by prompt."""
    rows = []
    finals = [_finals(stage) for stage in (a, b)]
    intervals = _paired(samples, a, b)
    for name in dict.fromkeys([*finals[0], *finals[1]]):
        first, second = finals[0].get(name), finals[1].get(name)
        difference = None if first is None or second is None else finite(second - first)
        found = intervals.get(name)
        if found is not None:
            difference = found[0]
        rows.append(
            {
                "name": name,
                "a": first,
                "b": second,
                "difference": difference,
                "interval": None if found is None else found[1:],
            }
        )
    return rows


def _finals(stage: StageReader) -> dict[str, float]:
    tables = stage.tables()
    with stage.lock:
        return _ends(tables["evaluations"], 0) | _ends(tables["metrics"], LAST_SHARE)


def _ends(table: Table, share: int) -> dict[str, float]:
    """The last value of each column, or the mean of the last ``1 / share`` of its values."""
    found = {}
    for name in table.names():
        if name.endswith((LOW, HIGH)):
            continue
        _, values = table.known(name)
        last = max(1, len(values) // share) if share else 1
        value = finite(float(values[-last:].mean())) if len(values) else None
        if value is not None:
            found[name] = value
    return found


def _paired(samples: Samples, a: StageReader, b: StageReader) -> dict[str, tuple[float, float, float]]:
    """Name -> difference b - a with its interval, where both last evaluations have the same prompts."""
    from ridgeline.statistics.paired import paired_difference

    ends = []
    for stage in (a, b):
        files = [file for file in sample_files(stage) if file.kind == "evaluation"]
        if not files:
            return {}
        ends.append(prompt_rewards(samples, stage, files[-1]))
    found = {}
    for name in ends[0].keys() & ends[1].keys():
        first, second = ends[0][name], ends[1][name]
        if len(first) < 2 or first.keys() != second.keys():
            continue
        estimate = paired_difference(list(first.values()), [second[prompt] for prompt in first])
        numbers = [finite(value) for value in (estimate.value, estimate.low, estimate.high)]
        value, low, high = numbers
        if value is not None and low is not None and high is not None:
            found[f"evaluation/reward/{name}"] = (value, low, high)
    return found


def _config(a: Side, b: Side) -> list[dict[str, Any]]:
    """Keys that differ; what the whole run has in common stands under ``run.``."""
    from ridgeline.workbench.compare import flatten

    flat = []
    for run, stage in (a, b):
        whole = {key: value for key, value in run.recipe.items() if key != "stage"}
        flat.append(flatten(whole, "run") | flatten(stage.config))
    keys = dict.fromkeys([*flat[0], *flat[1]])
    return [
        {"key": key, "a": sendable(flat[0].get(key)), "b": sendable(flat[1].get(key))}
        for key in keys
        if flat[0].get(key) != flat[1].get(key)
    ]
