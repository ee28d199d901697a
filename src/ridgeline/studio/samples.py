"""Completions of one step, by prompt: paged, searched and sorted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ridgeline.studio.prompts import Tokenizers, prompt_of
from ridgeline.studio.safe import Problem, finite, parse, sendable, whole
from ridgeline.studio.sample_files import TEXT_COLUMNS, SampleFile, Tables, column, sample_files
from ridgeline.studio.stage_reader import StageReader

SORTS = ("", "reward", "length", "advantage", "kl", "spread")
"""What groups are sorted by: their mean (``spread``: highest minus lowest total reward); with a minus
in front the highest comes first."""
GROUP_LIMIT = 512
"""Completions shown of one prompt."""
TRACE_COLUMNS = ("prompt_id", "index", "old_logp", "ref_logp", "advantage", "discarded")


@dataclass
class Step:
    """One file of samples, an entry a completion; ``groups``: the rows of each prompt, in file order."""

    file: SampleFile
    table: pa.Table
    prompt_ids: list[str]
    groups: list[NDArray[np.int64]]
    length: NDArray[np.float64]
    kl: NDArray[np.float64]
    """k1 summed over the completion, nats; nan where it is not known."""
    advantage: NDArray[np.float64]
    """Mean over the tokens of the completion; nan where it is not known."""
    discarded: list[str | None]

    def rewards(self, row: int) -> dict[str, float | None]:
        """The named rewards of one completion."""
        return rewards_of(self.table.column("rewards")[row].as_py() if _has(self.table, "rewards") else None)


class Samples:
    """All that the completion browser reads, with its caches."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.tokenizers = Tokenizers()

    def steps(self, stage: StageReader) -> list[dict[str, Any]]:
        """Every file of samples: what it is, how many completions, whether there is a trace."""
        listed = []
        for file in sample_files(stage):
            count = self.tables.count(stage.root, file.path)
            if count is not None:
                trace = file.trace.is_file()
                listed.append({"kind": file.kind, "step": file.step, "samples": count, "has_trace": trace})
        return listed

    def step(self, stage: StageReader, file: SampleFile) -> Step:
        """Raises Problem 422 where the file is damaged."""
        table = self.tables.read(stage.root, file.path, TEXT_COLUMNS)
        if not {"prompt_id", "index", "text"} <= set(table.column_names):
            raise Problem(422, f"{file.path.name} holds no completions.")
        try:
            prompts = [str(sendable(str(value))) for value in column(table, "prompt_id")]
            groups = _groups(prompts)
            length = self._lengths(stage, file, table.num_rows)
            kl, advantage, discarded = self._traced(stage, file, table, prompts)
        except (pa.ArrowException, TypeError, ValueError, UnicodeDecodeError):
            raise Problem(422, f"{file.path.name} holds columns of other kinds than samples have.") from None
        return Step(file, table, prompts, groups, length, kl, advantage, discarded)

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
        told = object_of(table.column("row")[row].as_py()) if _has(table, "row") else {}
        text = prompt_of(told, None, None)
        if text is not None:
            return text
        ids = self.tables.read(stage.root, file.path, ("prompt_ids",))
        given = ids.column("prompt_ids")[row].as_py() if _has(ids, "prompt_ids") else None
        return prompt_of({}, _ids(given), self.tokenizers.of(stage, model))

    def _group(
        self, stage: StageReader, step: Step, rows: NDArray[np.int64], model: str | None
    ) -> dict[str, Any]:
        first = int(rows[0])
        prompt = self.prompt(stage, step.file, first, model) or ""
        shown = [self._completion(step, int(row)) for row in rows[:GROUP_LIMIT]]
        return {"prompt_id": step.prompt_ids[first], "prompt": prompt, "completions": shown}

    def _completion(self, step: Step, row: int) -> dict[str, Any]:
        stop = step.table.column("stop_reason")[row].as_py() if _has(step.table, "stop_reason") else None
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

    def _lengths(self, stage: StageReader, file: SampleFile, rows: int) -> NDArray[np.float64]:
        table = self.tables.read(stage.root, file.path, ("completion_ids",))
        if not _has(table, "completion_ids"):
            return np.zeros(rows)
        lengths = pc.fill_null(pc.list_value_length(table.column("completion_ids")), 0)
        return np.asarray(lengths.to_numpy(), dtype=np.float64)

    def _traced(
        self, stage: StageReader, file: SampleFile, table: pa.Table, prompts: list[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str | None]]:
        kl, advantage = np.full(len(prompts), np.nan), np.full(len(prompts), np.nan)
        discarded: list[str | None] = [None] * len(prompts)
        try:
            trace = self.tables.read(stage.root, file.trace, TRACE_COLUMNS)
        except Problem:
            return kl, advantage, discarded
        place = {key: row for row, key in enumerate(zip(prompts, column(table, "index"), strict=True))}
        sampler = self.tables.read(stage.root, file.path, ("logprobs",))
        logps = column(sampler, "logprobs")
        columns = {name: column(trace, name) for name in TRACE_COLUMNS}
        for row in range(trace.num_rows):
            at = place.get((columns["prompt_id"][row], columns["index"][row]))
            if at is None:
                continue
            kl[at] = _summed(columns["old_logp"][row] or logps[at], columns["ref_logp"][row])
            credit = columns["advantage"][row]
            advantage[at] = np.mean(credit) if credit else np.nan
            reason = columns["discarded"][row]
            discarded[at] = None if reason is None else str(sendable(str(reason)))
        return kl, advantage, discarded


def rewards_of(text: Any) -> dict[str, float | None]:
    """The stored JSON of a completion's rewards; what is no number is None."""
    return {str(name): finite(value) for name, value in object_of(text).items()}


def object_of(text: Any) -> dict[str, Any]:
    """A JSON object stored as text; empty where it is none."""
    try:
        value = parse(text) if isinstance(text, str) else None
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}


def _ids(values: Any) -> list[int] | None:
    if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
        return None
    return [value for value in values if 0 <= value < 2**31]


def _has(table: pa.Table, name: str) -> bool:
    return name in table.column_names


def _groups(prompts: list[str]) -> list[NDArray[np.int64]]:
    rows: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(row)
    return [np.array(group, dtype=np.int64) for group in rows.values()]


def _summed(logps: list[float] | None, ref_logps: list[float] | None) -> float:
    if not logps or not ref_logps or len(logps) != len(ref_logps):
        return float("nan")
    return float(np.sum(np.asarray(logps, dtype=np.float64) - np.asarray(ref_logps, dtype=np.float64)))


def _matching(step: Step, search: str) -> list[NDArray[np.int64]]:
    """Groups with ``search`` in a completion or in their prompt's row, whatever the case."""
    if not search:
        return step.groups
    hit = np.zeros(step.table.num_rows, dtype=bool)
    for name in ("text", "row", "prompt_id"):
        if _has(step.table, name):
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


def _values(step: Step, name: str) -> NDArray[np.float64]:
    if name in ("reward", "spread"):
        totals = [_total(rewards_of(text)) for text in column(step.table, "rewards")]
        return np.array([np.nan if total is None else total for total in totals], dtype=np.float64)
    return {"length": step.length, "advantage": step.advantage, "kl": step.kl}[name]


def _total(rewards: dict[str, float | None]) -> float | None:
    return rewards.get("total", next(iter(rewards.values()), None))


def _key(values: NDArray[np.float64], name: str) -> float:
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan")
    return float(known.max() - known.min()) if name == "spread" else float(known.mean())
