"""Which sampler a stage used is on disk, and the user is told once when it is the slower one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ridgeline.schema.run_folder import read_lines
from ridgeline.stages import pipeline
from ridgeline.training.observer import Silent
from tests.stages.recipes import evaluate, make_world, recipe, sft


class Listening(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def run(folder: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """What ``environment.json`` says of samplers, and what the user was told of them."""
    world, observer = make_world(folder), Listening()
    stages = [sft(), evaluate(world, "base", "sft")]
    pipeline.run_recipe(recipe(world, *stages), world / "run", resume=False, observer=observer)
    samplers = json.loads((world / "run/environment.json").read_text())["samplers"]
    told = [note for note in observer.notes if "sampler" in note]
    warnings = [event for event in read_lines(world / "run/events.jsonl") if event["kind"] == "warning"]
    assert [event["text"] for event in warnings if "sampler" in event["text"]] == told
    return samplers, told


def test_the_native_sampler_is_recorded_without_a_word(tmp_path: Path) -> None:
    samplers, notes = run(tmp_path)
    assert set(samplers) >= {"compare"}
    assert {which for roles in samplers.values() for which in roles.values()} == {"native"}
    assert notes == []


def test_the_plain_sampler_is_recorded_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ridgeline.models.architecture.FAMILIES", ("gemma3_text",))
    samplers, notes = run(tmp_path)
    reason = "plain (models of type 'llama' are not among gemma3_text)"
    assert {which for roles in samplers.values() for which in roles.values()} == {reason}
    assert len(notes) == len(samplers) and all(reason in note for note in notes)  # once a stage
