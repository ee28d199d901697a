"""Completions of one step, by prompt: paged, searched and sorted."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ridgeline.studio.prompts import Tokenizers, prompt_of
from ridgeline.studio.safe import Problem, finite, sendable, whole
from ridgeline.studio.sample_files import (
    TEXT_COLUMNS,
    SampleFile,
    Stamp,
    Tables,
    column,
    sample_files,
)
from ridgeline.studio.sample_step import Numbers, Step, has, object_of, read_step
from ridgeline.studio.stage_reader import StageReader

SORTS = ("", "reward", "length", "advantage", "kl", "spread")
"""What groups are sorted by: their mean (``spread``: highest minus lowest total reward); with a minus
in front the highest comes first."""
GROUP_LIMIT = 512
"""Completions shown of one prompt."""
STEPS_KEPT = 4
"""Files whose completions are kept as arrays, so that the next page costs nothing."""


class Samples:
    """All that the completion browser reads, with its caches."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.tokenizers = Tokenizers()
        self._steps: OrderedDict[tuple[Path, Stamp, Stamp], Step] = OrderedDict()
        self._lock = threading.Lock()

    def steps(self, stage: StageReader) -> list[dict[str, Any]]:
        """Every file of samples: what it is, how many completions, whether there is a trace."""
        listed = []
        for file in sample_files(stage):
            count = self.tables.count(stage.root, file.path)
            # A damaged file is listed too, with no samples: whoever opens it is told what is wrong with it.
            counted = {"samples": count or 0, "has_trace": file.trace.is_file()}
            listed.append({"kind": file.kind, "step": file.step, **counted})
        return listed

    def step(self, stage: StageReader, file: SampleFile) -> Step:
        """Kept until the file or its trace changes. Raises Problem 422 where the file is damaged."""
        key = (file.path, self.tables.mark_of(file.path), self.tables.mark_of(file.trace))
        with self._lock:
            if key in self._steps:
                self._steps.move_to_end(key)
                return self._steps[key]
        step = read_step(self.tables, stage, file)
        with self._lock:
            self._steps[key] = step
            while len(self._steps) > STEPS_KEPT:
                self._steps.popitem(last=False)
        return step

    def groups(
        self, stage: StageReader, file: SampleFile, model: str | None, search: str, sort: str, page: slice
    ) -> dict[str, Any]:
        """``{"total", "groups"}``: the groups of ``page`` among those that hold ``search`` anywhere."""
        step = self.step(stage, file)
        order = _sorted(step, sort, _matching(step, search))
        shown = order[page]
        return {"total": len(order), "groups": [self._group(stage, step, rows, model) for rows in shown]}

    def before_training(
        self, stage: StageReader, files: Sequence[SampleFile], prompt_id: str
    ) -> dict[str, Any]:
        """The first completion of a prompt in the evaluation before training, or in the first rollout."""
        for kind in ("evaluation", "before/part", "step"):
            first = next((file for file in files if file.kind == kind), None)
            if first is None or (first.step and kind != "before/part"):
                continue
            table = self.tables.read(stage.root, first.path, ("prompt_id", "text"))
            for prompt, text in zip(column(table, "prompt_id"), column(table, "text"), strict=True):
                if prompt == prompt_id:
                    return {"text": str(sendable(str(text or ""))), "where": f"samples/{first.path.name}"}
        where = "The stage stored no completion of this prompt from before its first update."
        return {"text": None, "where": where}

    def prompt(self, stage: StageReader, file: SampleFile, row: int, model: str | None) -> str | None:
        """The prompt of one completion, as text."""
        table = self.tables.read(stage.root, file.path, TEXT_COLUMNS)
        told = object_of(table.column("row")[row].as_py()) if has(table, "row") else {}
        text = prompt_of(told, None, None)
        if text is not None:
            return text
        ids = self.tables.read(stage.root, file.path, ("prompt_ids",))
        given = ids.column("prompt_ids")[row].as_py() if has(ids, "prompt_ids") else None
        return prompt_of({}, _ids(given), self.tokenizers.of(stage, model))

    def _group(
        self, stage: StageReader, step: Step, rows: NDArray[np.int64], model: str | None
    ) -> dict[str, Any]:
        first = int(rows[0])
        prompt = self.prompt(stage, step.file, first, model) or ""
        shown = [self._completion(step, int(row)) for row in rows[:GROUP_LIMIT]]
        return {"prompt_id": step.prompt_id(first), "prompt": prompt, "completions": shown}

    def _completion(self, step: Step, row: int) -> dict[str, Any]:
        stop = step.table.column("stop_reason")[row].as_py() if has(step.table, "stop_reason") else None
        index = whole(step.table.column("index")[row].as_py())
        return {
            "index": row if index is None else index,
            "text": str(sendable(str(step.table.column("text")[row].as_py() or ""))),
            "length": int(step.length[row]),
            "stop_reason": str(sendable(str(stop or ""))),
            "rewards": step.rewards(row),
            "advantage": finite(float(step.advantage[row])),
            "kl": finite(float(step.kl[row])),
            "discarded": step.discarded[row],
        }


def _ids(values: Any) -> list[int] | None:
    if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
        return None
    return [value for value in values if 0 <= value < 2**31]


def _matching(step: Step, search: str) -> list[NDArray[np.int64]]:
    """Groups with ``search`` in a completion or in their prompt's row, whatever the case."""
    if not search:
        return step.groups
    hit = np.zeros(step.table.num_rows, dtype=bool)
    for name in ("text", "row", "prompt_id"):
        if has(step.table, name):
            text = step.table.column(name).cast(pa.string())
            found = pc.fill_null(pc.match_substring(text, search, ignore_case=True), False)
            hit |= np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)
    return [rows for rows in step.groups if hit[rows].any()]


def _sorted(step: Step, sort: str, groups: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    name = sort.removeprefix("-")
    if name not in SORTS:
        raise Problem(
            422, f"sort is one of {', '.join(filter(None, SORTS))}, with a minus for the highest first."
        )
    if not name:
        return groups
    values = _values(step, name)
    keys = np.array([_key(values[rows], name) for rows in groups])
    missing = np.isnan(keys)
    order = np.argsort(np.where(missing, np.inf, -keys if sort.startswith("-") else keys), kind="stable")
    return [groups[place] for place in order]


def _values(step: Step, name: str) -> Numbers:
    if name in ("reward", "spread"):
        return step.total
    return {"length": step.length, "advantage": step.advantage, "kl": step.kl}[name]


def _key(values: NDArray[np.float64], name: str) -> float:
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan")
    return float(known.max() - known.min()) if name == "spread" else float(known.mean())
