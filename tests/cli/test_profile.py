"""``--profile`` from the command line, and the warning of too little memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.call import assert_one_sentence, call
from tests.tiny_recipe import write_tiny_recipe

from ridgeline.workbench import plan
from ridgeline.workbench.progress import PlainProgress


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RIDGELINE_CONTENT_CACHE", "off")  # the user's cache gets no timings of tests
    return str(write_tiny_recipe(tmp_path))


def test_a_table_of_phases_and_operators(recipe: str, tmp_path: Path) -> None:
    called = call("run", recipe, "--out", "runs/a", "--profile-stage", "sft")
    assert called.code == 0, called.err
    for word in ("Step 1 of sft", "learning (policy)", "optimizer step (policy)", "aten::mm", "trace.json"):
        assert word in called.out
    assert (tmp_path / "runs/a/stages/01-sft/profile/trace.json").is_file()


def test_the_command_of_a_stage_has_it_too(recipe: str, tmp_path: Path) -> None:
    asked = ("--json", "sft", "--model", "model", "--data", "demonstrations.jsonl", "--out", "runs/b")
    called = call(*asked, "--profile", "--set", "rows_per_step=4")
    found = json.loads(called.out)["profile"]
    assert found["stage"] == "sft" and found["step"] == 1
    assert found == json.loads((tmp_path / "runs/b/stages/01-sft/profile/phases.json").read_text())
    plain = call(*asked[:-1], "runs/c", "--set", "rows_per_step=4")
    assert "profile" not in json.loads(plain.out) and not list((tmp_path / "runs/c").rglob("profile"))


def test_a_stage_that_is_not_there(recipe: str) -> None:
    called = call("run", recipe, "--profile-stage", "stf")
    assert_one_sentence(called, 2, "no stage 'stf'", "did you mean 'sft'?")


def test_ctrl_c_before_the_profiled_step_ends_is_said(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(self: PlainProgress, text: str) -> None:
        if self.watch.done == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(PlainProgress, "phase", impatient)
    called = call("run", recipe, "--out", "runs/e", "--profile")
    assert called.code == 130
    assert called.err.count("nothing was profiled: no such stage ended its second step\n") == 1


def test_too_little_memory_is_said_before_the_start(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "available_memory", lambda device: 1000)
    called = call("run", recipe, "--out", "runs/d")
    assert called.code == 0
    assert "warning: stage 'sft' needs about" in called.err
    assert called.err.index("warning:") < called.err.index("1/1 sft")
    shown = call("plan", recipe, "--summary")
    assert "Too little memory: stage 'sft'" in shown.out and "most of it" in shown.out
