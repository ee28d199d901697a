from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.studio.alerts import Alert, Curves, alerts
from ridgeline.studio.lines import HIGH, LOW
from ridgeline.studio.series import bucketed
from ridgeline.studio.stage_reader import StageReader
from ridgeline.studio.tables import COLUMNS, Table
from ridgeline.studio.tail import Tail
from tests.studio.folders import append, metric


def test_a_tail_reads_each_byte_once_and_only_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(tmp_path, path)
    assert tail.read() == ([], False)
    path.write_bytes(b'{"step": 0}\nnonsense\n{"st')
    assert tail.read() == ([{"step": 0}], False)
    assert tail.damaged == 1
    with open(path, "ab") as file:
        file.write(b'ep": 1}\n[1]\n')
    assert tail.read() == ([{"step": 1}], False)
    assert tail.damaged == 2
    assert tail.read() == ([], False)
    # The half line of the first look is the only thing that was read twice.
    assert tail.bytes_read == path.stat().st_size + len(b'{"st')


def test_a_tail_starts_anew_where_the_file_was_cut_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append(path, [{"step": step} for step in range(5)])
    tail = Tail(tmp_path, path)
    assert len(tail.read()[0]) == 5
    aside = tmp_path / "aside"
    append(aside, [{"step": step} for step in range(9)])
    aside.rename(path)
    rows, anew = tail.read()
    assert anew and len(rows) == 9
    path.write_text('{"step": 0}\n')
    assert tail.read() == ([{"step": 0}], True)


def test_history_is_read_when_asked_for_and_never_again(tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    stage.mkdir()
    lines = [metric(step, reward=step, kl_k1=1.0) for step in range(10_000)]
    append(stage / "metrics.jsonl", lines)
    size = (stage / "metrics.jsonl").stat().st_size
    reader = StageReader(tmp_path, stage, "01-a", "a", "rl", {})
    assert reader.steps_done == 10_000
    seen = reader.bytes_read
    assert seen < size / 2  # only the end was looked at
    assert reader.tables()["metrics"].rows == 10_000
    assert reader.bytes_read == seen + size
    for step in range(10_000, 10_050):
        append(stage / "metrics.jsonl", [metric(step, reward=step)])
        points, anew = reader.refresh()
        assert points == [{"step": step, "reward": float(step)}] and not anew
    grown = (stage / "metrics.jsonl").stat().st_size - size
    assert reader.tables()["metrics"].rows == 10_050
    assert reader.bytes_read == seen + size + grown


def test_fifty_runs_of_ten_thousand_points_stay_small(tmp_path: Path) -> None:
    table = Table()
    for step in range(10_000):
        table.append(step, {f"m{k}": 1.0 for k in range(20)})
    assert 50 * table.bytes < 200 * 2**20
    curve = bucketed(*table.known("m3"), 800)
    assert len(curve.step) <= 800


def test_a_table_has_an_end() -> None:
    table = Table()
    table.append(0, {f"m{k}": 1.0 for k in range(2 * COLUMNS)})
    assert len(table.names()) == COLUMNS and table.left_out == COLUMNS


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=300), st.integers(2, 40))
def test_buckets_keep_extremes_and_mean(values: list[float], points: int) -> None:
    steps, array = np.arange(len(values)), np.array(values)
    curve = bucketed(steps, array, points)
    assert len(curve.step) <= points and curve.step[-1] == len(values) - 1
    assert curve.low.min() == array.min() and curve.high.max() == array.max()
    assert np.all(curve.low <= curve.mean + 1e-9) and np.all(curve.mean <= curve.high + 1e-9)
    counts = np.diff(np.concatenate([[-1], curve.step]))
    assert (curve.mean * counts).sum() == pytest.approx(array.sum(), abs=1e-6)


def test_buckets_do_not_move_while_the_curve_grows() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    short, long = (bucketed(np.arange(n), values[:n], 300) for n in (900, 1000))
    assert np.array_equal(short.mean[:-1], long.mean[: len(short.mean) - 1])


def table_of(**columns: np.ndarray) -> Table:
    table = Table()
    names = list(columns)
    for step in range(len(columns[names[0]])):
        table.append(step, {name.replace("__", "/"): float(columns[name][step]) for name in names})
    return table


def only(curves: Curves, kind: str) -> Alert | None:
    return next((alert for alert in alerts(curves) if alert.kind == kind), None)


NOISE = np.random.default_rng(1).normal(size=60)
UP = np.linspace(0, 3, 60)


def test_gold_falls_while_proxy_rises() -> None:
    gold = np.concatenate([np.linspace(0, 1, 31), np.linspace(1, 0, 30)[1:]])
    metrics = table_of(reward__gold=gold + 0.01 * NOISE, reward__judge=UP)
    found = only(Curves(metrics, Table(), "gold", "judge"), "over_optimisation")
    assert found is not None and found.severity == "critical" and 28 <= found.step <= 36
    # Both falling, or gold merely noisy, is something else.
    falling = table_of(reward__gold=gold, reward__judge=-UP)
    assert only(Curves(falling, Table(), "gold", "judge"), "over_optimisation") is None
    noisy = table_of(reward__gold=NOISE, reward__judge=UP)
    assert only(Curves(noisy, Table(), "gold", "judge"), "over_optimisation") is None


def test_evaluations_with_wide_intervals_raise_no_alarm() -> None:
    for half, alarmed in ((0.02, True), (0.6, False)):
        table = Table()
        for step, (gold, judge) in enumerate([(0.2, 0.0), (0.6, 1.0), (0.3, 2.5)]):
            row = {}
            for name, value in (("gold", gold), ("judge", judge)):
                key = f"evaluation/reward/{name}"
                row |= {key: value, key + LOW: value - half, key + HIGH: value + half}
            table.append(step, row)
        found = only(Curves(Table(), table, "gold", "judge"), "over_optimisation")
        assert (found is not None) == alarmed


def test_dead_groups() -> None:
    share = np.where(np.arange(40) < 20, 0.2, 0.75)
    found = only(Curves(table_of(dead_groups=share), Table()), "dead_groups")
    assert found is not None and found.severity == "warning" and 20 <= found.step <= 25
    assert "75 %" in found.text
    assert only(Curves(table_of(dead_groups=share[::-1]), Table()), "dead_groups") is None


def test_longer_at_equal_reward() -> None:
    length = np.linspace(20, 60, 60)
    equal = table_of(length=length, reward=1 + 0.01 * NOISE)
    found = only(Curves(equal, Table()), "length")
    assert found is not None and found.text.startswith("Length +")
    assert only(Curves(table_of(length=length, reward=UP), Table()), "length") is None
    assert only(Curves(table_of(length=0 * UP + 20, reward=0 * UP), Table()), "length") is None


def test_entropy_halved() -> None:
    fast = np.concatenate([np.full(30, 2.0), np.linspace(2, 0.5, 15), np.full(15, 0.5)])
    found = only(Curves(table_of(entropy=fast), Table()), "entropy")
    assert found is not None and 38 <= found.step <= 42
    slow = np.linspace(2, 0.8, 60)
    assert only(Curves(table_of(entropy=slow), Table()), "entropy") is None


def test_kl_jump() -> None:
    kl = np.concatenate([np.linspace(0, 2, 30), np.linspace(10, 11, 30)])
    found = only(Curves(table_of(kl_k1=kl), Table()), "kl_jump")
    assert found is not None and found.step == 30
    assert only(Curves(table_of(kl_k1=np.linspace(0, 20, 60)), Table()), "kl_jump") is None


def test_clip_share() -> None:
    found = only(Curves(table_of(clip_fraction=np.full(10, 0.5)), Table()), "clip")
    assert found is not None and "50 %" in found.text
    assert only(Curves(table_of(clip_fraction=np.full(10, 0.1)), Table()), "clip") is None


def test_quiet_curves_are_quiet() -> None:
    calm = table_of(
        reward=UP,
        length=0 * UP + 20,
        entropy=2 + 0.1 * NOISE,
        kl_k1=UP,
        clip_fraction=0 * UP,
        dead_groups=0 * UP,
    )
    assert alerts(Curves(calm, Table())) == []


def test_metrics_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    stage.mkdir()
    bad = {
        "a": [1, 0],
        "b": "x",
        "c": [1e400, 1],
        "d": 10**400,
        "e": None,
        "f": True,
        "\ud800": 1,
        "g": [3, 2],
    }
    (stage / "metrics.jsonl").write_text(json.dumps({"step": 1, "metrics": bad}) + '\n{"step": 1e9}\n')
    table = StageReader(tmp_path, stage, "01-a", "a", "rl", {}).tables()["metrics"]
    assert {name: table.known(name)[1].tolist() for name in table.names()} == {"?": [1.0], "g": [1.5]}
