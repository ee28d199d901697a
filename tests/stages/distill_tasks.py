"""Teachers and students of known abilities, trained once for all tests of distillation."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from ridgeline.stages.pipeline import run_recipe
from tests.stages import learnable, recipes
from tests.tiny import write_jsonl

Table = dict[str, Any]
WORDS = learnable.WORDS
OPPOSITE = dict(zip(WORDS, ("no", "yes", "right", "left"), strict=True))
REWARDS = '''
def right(samples):
    """1 where the answer is the solution."""
    return [float(s.text.strip() == s.row["solution"]) for s in samples]

def never(samples):
    return [0.0 for _ in samples]
'''
HINT = "{prompt} hint {hint}"
FAST = {"learning_rate": 3e-3, "warmup": 3}


def make_world(folder: Path) -> Path:
    """Models in ``world/models``: ``copier`` copies a word, ``guesser`` knows only which words occur, and
    ``reader`` repeats a hint where it finds one and guesses where it does not."""
    world = learnable.make_tasks(recipes.make_world(folder), 1)
    _write_opposites(world)
    learn = {"name": "reader", "data": "reading.jsonl", "heldout": 0.1, "epochs": 8}
    stages = [
        {**learnable.copy_stage(), "name": "copier"},
        {**learnable.copy_stage("shuffled"), "name": "guesser"},
        {**learnable.copy_stage(), **learn},
    ]
    run_recipe(recipes.recipe(world, *stages), world / "models", resume=False)
    return world


def _write_opposites(world: Path) -> None:
    """Questions whose answer is the opposite of their word; rows that teach to read hints, not opposites."""
    draw = random.Random(1)
    rows: list[Table] = []
    for number in range(96):
        word, answer = draw.choice(WORDS), draw.choice(WORDS)
        rows.append({"prompt": f"{word} {number} hint {answer}", "completion": answer})
        rows.append({"prompt": f"{word} {number}", "completion": draw.choice(WORDS)})
    write_jsonl(world / "reading.jsonl", rows)
    asked = [
        {"id": f"t{number}", "prompt": f"{word} {number}", "solution": OPPOSITE[word]}
        for number, word in enumerate(draw.choices(WORDS, k=96))
    ]
    write_jsonl(world / "opposites.jsonl", asked[:72])
    answered = [{**row, "completion": row["solution"]} for row in asked[72:]]
    write_jsonl(world / "opposites_heldout.jsonl", answered)
    (world / "judge.py").write_text(REWARDS)


def model(world: Path, name: str) -> str:
    """Folder of a model of this world."""
    return str(next((world / "models" / "stages").glob(f"*-{name}")) / "model")


def distill(mode: str, **changes: Any) -> Table:
    """27 batches of 16 rows of the copying task."""
    base: Table = {"name": "student", "type": "distill", "mode": mode, "data": "copy.jsonl"}
    size: Table = {"heldout": "copy_heldout.jsonl", "rows_per_step": 16, "steps": 27, "optimiser": FAST}
    if mode != "offline":
        size |= {"sampling": {"max_new_tokens": 6}, "samples_per_prompt": 2}
    return {**base, **size, "checkpoint_every": 1000, **changes}


def reading(**privileged: Any) -> Table:
    """Self-distillation on opposites."""
    rewarded = {"samples_per_prompt": 8, "rows_per_step": 8} if "reward" in privileged else {}
    shown = {"text": HINT, **privileged}
    data = {"data": "opposites.jsonl", "heldout": "opposites_heldout.jsonl", "steps": 25}
    return distill("self", privileged=shown, **data, **rewarded)


def result_of(world: Path, run: str, stage: Table, *, student: str = "guesser") -> Table:
    """The result of one stage that starts from a model of this world."""
    start = student if student == "model" else model(world, student)
    summary = run_recipe(recipes.recipe(world, stage, model=start), world / run, resume=False)
    result: Table = summary["stages"][stage["name"]]
    return result


def copies(result: Table, nll: str = "nll") -> bool:
    """As ``learnable.copied``: held-out loss per row (24 rows) below half of ln 4 nats, and not before."""
    rows = [result[when]["tokens"] / 24 * result[when][nll] for when in ("before", "after")]
    return bool(rows[1] < 0.69 < rows[0])


def closer(result: Table, name: str = "divergence") -> float:
    """What is left of a divergence, as a share of what it was."""
    return float(result["after"][name] / result["before"][name])
