"""Long files are read in blocks: the same numbers as line by line, and any odd line sends a block back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline.studio.bulk import read_block
from ridgeline.studio.lines import PARSERS
from ridgeline.studio.runs_index import RunsIndex
from ridgeline.studio.stage_reader import StageReader
from ridgeline.studio.tables import Table
from tests.studio.folders import append, write_run

PLAIN: list[dict[str, Any]] = [
    {"step": 0, "metrics": {"reward": [3.0, 4.0], "length": [40, 4]}},
    {"step": 1, "metrics": {"reward": [5, 4], "length": [44, 4], "kl_k1": [0.25, 4.0]}},
    {"step": 2, "metrics": {"reward": [float("nan"), 4.0], "length": None}},
    {"step": 3, "metrics": {"reward": [1.0, 0.0], "length": [1e308, 1e-10]}, "more": "text"},
]


def content(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def line_by_line(rows: list[dict[str, Any]], kind: str) -> Table:
    table = Table()
    for row in rows:
        parsed = PARSERS[kind](row)
        assert parsed is not None
        table.append(*parsed)
    return table


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("metrics", PLAIN),
        ("timings", [{"step": 2, "seconds": {"sample": 1.5}}, {"step": 4, "seconds": {"score": 2}}]),
    ],
)
def test_a_block_holds_the_numbers_of_its_lines(kind: str, rows: list[dict[str, Any]]) -> None:
    block = read_block(content(rows), kind)
    assert block is not None
    table, expected = Table(), line_by_line(rows, kind)
    table.extend(*block)
    assert table.steps().tolist() == expected.steps().tolist()
    for name in {*table.names(), *expected.names()}:
        values, wanted = table.known(name), expected.known(name)
        assert np.array_equal(values[0], wanted[0]) and np.array_equal(values[1], wanted[1]), name


@pytest.mark.parametrize(
    "odd",
    [
        b'{"step": 4, "met\n',
        b"\n",
        b'{"step": 4, "metrics": {"reward": [1.0, 2.0, 3.0]}}\n',
        b'{"step": 4, "metrics": {"reward": "high"}}\n',
        b'{"step": 4, "metrics": {"reward": [1.0, 2.0], "reward": [3.0, 2.0]}}\n',
        b'{"step": 4, "reward": 1.0}\n',
        b'{"step": 9007199254740993, "metrics": {"reward": [1.0, 2.0]}}\n',
        b'{"step": 4, "metrics": {"reward": [1.0, 2.0]}}{"step": 5, "metrics": {"reward": [1.0, 2.0]}}\n',
        b'{"step": 4.5, "metrics": {"reward": [1.0, 2.0]}}\n',
        b'["step"]\n',
    ],
)
def test_an_odd_line_is_left_to_the_reader_of_lines(odd: bytes) -> None:
    assert read_block(content(PLAIN) + odd, "metrics") is None


def test_tables_grow_by_blocks_and_rows_alike() -> None:
    table = Table()
    table.append(0, {"a": 1.0})
    table.extend(np.arange(1, 1000), {"a": np.full(999, 2.0), "b": np.arange(999.0)})
    table.append(1000, {"b": 7.0})
    assert table.rows == table.steps_seen == 1001
    assert table.known("a")[1].tolist() == [1.0, *[2.0] * 999]
    assert table.known("b")[0].tolist() == list(range(1, 1001)) and table.known("b")[1][-1] == 7.0


def test_the_history_of_a_stage_with_a_damaged_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", finished=False)
    path = run / "stages/01-policy/metrics.jsonl"
    path.write_bytes(content(PLAIN) + b"half a li\n" + content([{"step": 6, "metrics": {"reward": [1, 1]}}]))
    index = RunsIndex(tmp_path)
    stage: StageReader = index.run("run").stages["01-policy"]
    table = stage.tables()["metrics"]
    assert table.known("reward")[1].tolist() == [0.75, 1.25, 1.0] and table.steps_seen == 7
    assert stage.sources["metrics"].tail.damaged == 1
    append(path, [{"step": 7, "metrics": {"reward": [2.0, 1.0]}}])
    points, anew = stage.refresh()
    assert points == [{"step": 7, "reward": 2.0}] and not anew
    assert stage.tables()["metrics"].known("reward")[1].tolist()[-1] == 2.0
