"""The completions of one file as arrays, with what their trace knows: what is grouped and sorted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ridgeline.studio.safe import Problem, finite, parse, sendable
from ridgeline.studio.sample_files import TEXT_COLUMNS, SampleFile, Tables, column
from ridgeline.studio.stage_reader import StageReader

Numbers = NDArray[np.float64]
Rows = NDArray[np.int64]
TRACE_COLUMNS = ("prompt_id", "index", "old_logp", "ref_logp", "advantage", "discarded")


@dataclass
class Step:
    """One file of samples, an entry a completion; ``groups``: the rows of each prompt, in file order."""

    file: SampleFile
    table: pa.Table
    groups: list[Rows]
    length: Numbers
    kl: Numbers
    """k1 summed over the completion, nats; nan where it is not known."""
    advantage: Numbers
    """Mean over the tokens of the completion; nan where it is not known."""
    discarded: list[str | None]

    def prompt_id(self, row: int) -> str:
        """The prompt of one completion."""
        return str(sendable(str(self.table.column("prompt_id")[row].as_py())))

    def rewards(self, row: int) -> dict[str, float | None]:
        """The named rewards of one completion."""
        return rewards_of(self.table.column("rewards")[row].as_py() if has(self.table, "rewards") else None)

    @cached_property
    def total(self) -> Numbers:
        """The total reward of every completion, else its first one; nan where it has none."""
        totals = [_total(rewards_of(text)) for text in column(self.table, "rewards")]
        return np.array([np.nan if total is None else total for total in totals], dtype=np.float64)


def read_step(tables: Tables, stage: StageReader, file: SampleFile) -> Step:
    """Raises Problem 422 where the file is damaged."""
    table = tables.read(stage.root, file.path, TEXT_COLUMNS)
    if not {"prompt_id", "index", "text"} <= set(table.column_names):
        raise Problem(422, f"{file.path.name} holds no completions.")
    try:
        groups = _groups(table)
        length = _lengths(tables, stage, file, table.num_rows)
        traced = _traced(tables, stage, file, table)
    except (pa.ArrowException, TypeError, ValueError, UnicodeDecodeError):
        raise Problem(422, f"{file.path.name} holds columns of other kinds than samples have.") from None
    return Step(file, table, groups, length, *traced)


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


def has(table: pa.Table, name: str) -> bool:
    """Whether the file has a column of that name."""
    return name in table.column_names


def _lengths(tables: Tables, stage: StageReader, file: SampleFile, rows: int) -> Numbers:
    table = tables.read(stage.root, file.path, ("completion_ids",))
    if not has(table, "completion_ids"):
        return np.zeros(rows)
    lengths = pc.fill_null(pc.list_value_length(table.column("completion_ids")), 0)
    return np.asarray(lengths.to_numpy(), dtype=np.float64)


def _traced(
    tables: Tables, stage: StageReader, file: SampleFile, table: pa.Table
) -> tuple[Numbers, Numbers, list[str | None]]:
    """KL, advantage and reason for discarding of every completion."""
    rows = table.num_rows
    kl, advantage = np.full(rows, np.nan), np.full(rows, np.nan)
    discarded: list[str | None] = [None] * rows
    try:
        trace = tables.read(stage.root, file.trace, TRACE_COLUMNS)
    except Problem:
        return kl, advantage, discarded
    of_trace, of_sample = _matched(trace, table)
    sampler = tables.read(stage.root, file.path, ("logprobs",))
    sampled, sampled_count = _sums(sampler, "logprobs", rows)
    old, old_count = _sums(trace, "old_logp", trace.num_rows)
    reference, count = _sums(trace, "ref_logp", trace.num_rows)
    credit, credit_count = _sums(trace, "advantage", trace.num_rows)
    # Without log-probs of its own before the update, the learner is the sampler.
    scored = old_count[of_trace] > 0
    learner = np.where(scored, old[of_trace], sampled[of_sample])
    learner_count = np.where(scored, old_count[of_trace], sampled_count[of_sample])
    known = (count[of_trace] > 0) & (learner_count == count[of_trace])
    kl[of_sample[known]] = (learner - reference[of_trace])[known]
    with np.errstate(invalid="ignore", divide="ignore"):
        advantage[of_sample] = (credit / credit_count)[of_trace]
    if has(trace, "discarded"):
        reasons = trace.column("discarded")
        given = np.asarray(reasons.is_valid().to_numpy(zero_copy_only=False), dtype=bool)[of_trace]
        for place, at in zip(of_trace[given].tolist(), of_sample[given].tolist(), strict=True):
            discarded[at] = str(sendable(str(reasons[place].as_py())))
    return kl, advantage, discarded


def _matched(trace: pa.Table, table: pa.Table) -> tuple[Rows, Rows]:
    """Rows of the trace, and of the samples that they belong to (by prompt and index)."""
    types = {"prompt_id": pa.string(), "index": pa.int64()}
    columns = [
        {name: each.column(name).cast(kind) for name, kind in types.items()} for each in (trace, table)
    ]
    if all(columns[0][name].equals(columns[1][name]) for name in types):  # as both are written
        return (np.arange(table.num_rows),) * 2
    keys = [list(zip(*(each[name].to_pylist() for name in types), strict=True)) for each in columns]
    place = {key: row for row, key in enumerate(keys[1])}
    found = [(row, place[key]) for row, key in enumerate(keys[0]) if key in place]
    pairs = np.array(found, dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _sums(table: pa.Table, name: str, rows: int) -> tuple[Numbers, Rows]:
    """Sum and length of every list of a column; length 0 for null and where there is no such column."""
    if not has(table, name) or not pa.types.is_list(table.schema.field(name).type):
        return np.zeros(rows), np.zeros(rows, dtype=np.int64)
    lists = table.column(name).combine_chunks()
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0), dtype=np.int64)
    values = np.asarray(lists.flatten().to_numpy(zero_copy_only=False), dtype=np.float64)
    # Differences of one running sum would lose digits over many completions.
    sums = np.zeros(rows)
    some = lengths > 0
    if some.any():
        starts = np.cumsum(lengths) - lengths
        sums[some] = np.add.reduceat(values, starts[some])
    return sums, lengths


def _groups(table: pa.Table) -> list[Rows]:
    """The rows of each prompt, prompts by their first appearance."""
    encoded = table.column("prompt_id").cast(pa.string()).combine_chunks().dictionary_encode("encode")
    codes = np.asarray(encoded.indices.to_numpy(), dtype=np.int64)
    ends = np.cumsum(np.bincount(codes))[:-1]
    return np.split(np.argsort(codes, kind="stable"), ends) if len(codes) else []


def _total(rewards: dict[str, float | None]) -> float | None:
    return rewards.get("total", next(iter(rewards.values()), None))
