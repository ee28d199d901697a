"""Numbers and headlines as a page shows them, and folders that tell no story of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ridgeline.studio.figures import figure, polished
from ridgeline.studio.runs_index import RunsIndex
from tests.studio.folders import write_run


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("reward/total -0.012 -> 2.583", "reward −0.012 → 2.58"),
        ("reward 0.172  KL -0.029  length 14.094", "reward 0.172, KL −0.029, length 14.1"),
        ("heldout_nll 3.196 -> 3.194", "held-out NLL 3.2 → 3.19"),
        ("reward 0.1  /tmp/a/data/gold.py:gold 0.25", "reward 0.1, gold.py:gold 0.25"),
        ("dpo-v1.25 accuracy 0.5", "dpo-v1.25 accuracy 0.5"),
    ],
)
def test_headlines(line: str, shown: str) -> None:
    assert polished(line) == shown


def test_figures_have_three_digits_and_a_true_minus() -> None:
    assert [figure(value) for value in (-0.03124, 12.345, 0.0)] == ["−0.0312", "12.3", "0"]


def test_a_folder_of_evaluations_is_finished(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "events.jsonl").unlink()
    (run / "stages/01-policy/result.json").write_text('{"reward": 1.0}')
    summary = RunsIndex(tmp_path).run("run").summary()
    assert (summary["state"], summary["problem"]) == ("finished", None)
    (run / "stages/01-policy/result.json").unlink()
    for path in (run, *run.rglob("*")):
        os.utime(path, (1, 1))
    summary = RunsIndex(tmp_path).run("run").summary()
    assert summary["state"] == "damaged" and "events.jsonl" in summary["problem"]
