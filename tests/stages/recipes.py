"""A tiny world on disk (model, data, reward functions) and recipes over it that take seconds."""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ridgeline.schema.errors import Interrupted
from ridgeline.schema.recipe import Recipe, resolve_recipe
from ridgeline.schema.run_folder import Metrics
from ridgeline.stages import pipeline
from ridgeline.training.interrupts import StopRequest
from ridgeline.training.observer import Silent
from tests.tiny import (
    make_tiny_model,
    write_demonstrations,
    write_labelled,
    write_preferences,
    write_prompts,
)

Table = dict[str, Any]

REWARDS = '''
"""Rewards of the tests: each reads what was sampled."""

def spread(samples):
    """Differs between any two texts: every group carries signal."""
    return [(sum(map(ord, s.text)) % 17) / 16.0 for s in samples]

def short(samples):
    """Fewer tokens are better."""
    return [-len(s.completion_ids) / 8.0 for s in samples]

def constant(samples):
    return [1.0 for _ in samples]
'''

SAMPLING = {"max_new_tokens": 6}
FAST = {"learning_rate": 1e-3, "warmup": 0}


def make_world(folder: Path) -> Path:
    """Model, data files and ``rewards.py`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    make_tiny_model(folder / "model")
    write_demonstrations(folder / "demonstrations.jsonl", 16)
    write_prompts(folder / "prompts.jsonl", 6)
    write_prompts(folder / "heldout.jsonl", 3)
    write_preferences(folder / "pairs.jsonl", 16)
    write_labelled(folder / "labelled.jsonl", 16)
    (folder / "rewards.py").write_text(REWARDS)
    return folder


def reward(world: Path, name: str) -> str:
    """``file.py:function`` of a reward of this world."""
    return f"{world / 'rewards.py'}:{name}"


def recipe(world: Path, *stages: Table, **changes: Any) -> Recipe:
    """A float32 recipe on the CPU; paths are relative to the world."""
    values = {"name": "tiny", "model": "model", "seed": 1, "device": "cpu", "dtype": "float32", **changes}
    return resolve_recipe({**values, "stage": copy.deepcopy(list(stages))}, folder=world)


def sft(**changes: Any) -> Table:
    """4 steps."""
    base = {"name": "sft", "type": "sft", "data": "demonstrations.jsonl", "heldout": 0.25, "rows_per_step": 3}
    return {**base, "optimiser": FAST, "checkpoint_every": 1, "evaluate_every": 2, **changes}


def collect(world: Path, **changes: Any) -> Table:
    """36 samples, 12 pairs."""
    base = {"name": "pairs", "type": "collect", "prompts": "prompts.jsonl", "samples_per_prompt": 6}
    annotator = {"gold": reward(world, "spread"), "temperature": 0.2}
    return {**base, "pairs": 24, "annotator": annotator, "sampling": SAMPLING, **changes}


def reward_model(**changes: Any) -> Table:
    """4 steps."""
    base = {"name": "judge", "type": "reward_model", "data": "pairs.jsonl", "heldout": 0.25}
    steps = {"pairs_per_step": 3, "checkpoint_every": 1, "evaluate_every": 2}
    return {**base, **steps, "optimiser": FAST, **changes}


def rl(world: Path, **changes: Any) -> Table:
    """4 rollouts of 3 prompts with 4 samples each."""
    base = {"name": "policy", "type": "rl", "prompts": "prompts.jsonl", "heldout": "heldout.jsonl"}
    size = {"prompts_per_step": 3, "samples_per_prompt": 4, "steps": 4, "sampling": SAMPLING}
    saving = {"checkpoint_every": 1, "evaluate_every": 2, "evaluation_samples": 2}
    given = {"reward": [reward(world, "spread")], "optimiser": FAST}
    return {**base, **size, **saving, **given, **changes}


def evaluate(world: Path, *models: str, **changes: Any) -> Table:
    """Samples of every model."""
    base = {"name": "compare", "type": "evaluate", "models": list(models), "prompts": "heldout.jsonl"}
    given = {"rewards": [reward(world, "spread")], "sampling": SAMPLING, "samples_per_prompt": 2}
    return {**base, **given, **changes}


def everything(world: Path) -> list[Table]:
    """Every stage type and both kinds of reward model, three algorithms, one after the other."""
    critic = {"optimiser": FAST, "warmup": 1}
    return [
        sft(checkpoint_every=2),
        collect(world, model="sft"),
        reward_model(name="frozen", model="sft", data="pairs", pooling="mean+last", layer=1, penalty=0.1),
        reward_model(name="full", backbone="full", centering=0.01),
        rl(
            world,
            name="grpo",
            model="sft",
            reward=["frozen", {"function": reward(world, "short"), "weight": 0.5}],
            monitor=["length"],
            kl={"coefficient": 0.1, "target": 0.05},
            updates_per_rollout=2,
            epochs_per_rollout=2,
            checkpoint_every=3,
            steps=3,
        ),
        rl(world, name="ppo", objective="ppo", critic={**critic, "initialise_from": "full"}, steps=3),
        evaluate(world, "base", "sft", "grpo", "ppo"),
    ]


def stage_folder(run: Path, number: int = 1) -> Path:
    """Folder of the stage at ``number`` (from 1)."""
    return next((run / "stages").glob(f"{number:02d}-*"))


VARYING = ("timings.jsonl", "events.jsonl", "environment.json", ".lock", "report.html")
"""What depends on the clock or is derived."""


def contents(run: Path) -> dict[str, str]:
    """Digest of every file of a run that has to be a pure function of recipe and seed."""
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in VARYING
    }


def differing(first: Path, second: Path) -> list[str]:
    """Files that only one of two runs has, or that differ."""
    a, b = contents(first), contents(second)
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def weights(run: Path, number: int = 1) -> bytes:
    """The saved model of a stage."""
    return (stage_folder(run, number) / "model" / "model.safetensors").read_bytes()


class Recorder(Silent):
    """Remembers what it was told, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.current = ""

    def told(self, kind: str, text: str) -> None:
        self.calls.append((kind, text))

    def stage(self, name: str, kind: str, number: int, total: int) -> None:
        self.current = name
        self.told("stage", name)

    def phase(self, text: str) -> None:
        self.told("phase", text)

    def step(self, step: int, total: int, metrics: Metrics) -> None:
        self.told("step", str(step))

    def note(self, text: str) -> None:
        self.told("note", text)

    def finished(self, name: str, result: dict[str, object]) -> None:
        self.told("finished", name)


class Interrupting(Recorder):
    """At call number ``at`` either asks for a stop, as the first Ctrl-C does, or breaks in, as the second."""

    def __init__(self, at: int, stop: StopRequest | None) -> None:
        super().__init__()
        self.at, self.stop = at, stop

    def told(self, kind: str, text: str) -> None:
        super().told(kind, text)
        if len(self.calls) == self.at:
            if self.stop is None:
                raise KeyboardInterrupt
            self.stop.asked = True


@contextmanager
def stoppable() -> Iterator[StopRequest]:
    """The pipeline listens to this request instead of to signals."""
    request = StopRequest()

    @contextmanager
    def listen() -> Iterator[StopRequest]:
        yield request

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "listening", listen)
        yield request


def run_interrupted(made: Recipe, folder: Path, after: Callable[[int], int], *, gently: bool) -> int:
    """Run, interrupted after ``after(attempt)`` observer calls of each attempt, until done; interruptions."""
    shutil.rmtree(folder, ignore_errors=True)
    for attempt in range(200):
        with stoppable() as request:
            watcher = Interrupting(after(attempt), request if gently else None)
            resume = (folder / ".recipe.json").is_file()
            try:
                pipeline.run_recipe(made, folder, resume=resume, observer=watcher)
            except (Interrupted, KeyboardInterrupt):
                continue
            return attempt
    raise AssertionError("never finished")
