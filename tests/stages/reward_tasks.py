"""Reward-model tasks with a known answer, each with a control whose labels are shuffled."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tests.stages import recipes
from tests.tiny import write_jsonl

TOPICS = ("the sea", "bread", "rain", "music", "winter", "a train")
WORDS = ("good", "kind", "sad", "bad")
"""Best first."""
STEPS = ("good", "kind", "terrible", "sad")
"""The first two are right, the others wrong."""
PROMPTS = 40


def make_tasks(world: Path, seed: int) -> Path:
    """``NAME.jsonl`` and its control ``NAME-coin.jsonl`` for rankings, outcomes, steps and classes."""
    for name, make in (
        ("rankings", _ranking),
        ("outcomes", _outcomes),
        ("steps", _steps),
        ("classes", _classes),
        ("annotated", _annotated),
    ):
        for suffix, shuffled in (("", False), ("-coin", True)):
            draw = random.Random(f"{seed} {name}")
            rows = [row for number in range(PROMPTS) for row in make(number, draw, shuffled)]
            write_jsonl(world / f"{name}{suffix}.jsonl", rows)
    return world


def _prompt(number: int, draw: random.Random) -> dict[str, Any]:
    topic = draw.choice(TOPICS)
    return {"prompt": f"Write about {topic} {number}", "prompt_id": f"p{number}"}


def _ranking(number: int, draw: random.Random, shuffled: bool) -> list[dict[str, Any]]:
    row = _prompt(number, draw)
    ranked = draw.sample(list(enumerate(WORDS)), 3 + number % 2)
    ranks = [rank for rank, _ in ranked]
    if shuffled:
        draw.shuffle(ranks)
    return [{**row, "completions": [f"It is {word}." for _, word in ranked], "ranks": ranks}]


def _outcomes(number: int, draw: random.Random, shuffled: bool) -> list[dict[str, Any]]:
    row = _prompt(number, draw)
    labels = [True, True, False, False]
    if shuffled:
        draw.shuffle(labels)
    return [
        {**row, "completion": f"{word} and kind.", "label": label}
        for word, label in zip(WORDS, labels, strict=True)
    ]


def _steps(number: int, draw: random.Random, shuffled: bool) -> list[dict[str, Any]]:
    rows = []
    for _ in range(4):
        steps = [draw.randrange(4) for _ in range(draw.randint(1, 4))]
        labels = [draw.random() < 0.5 if shuffled else step < 2 for step in steps]
        rows.append({**_prompt(number, draw), "steps": [STEPS[step] for step in steps], "labels": labels})
    return rows


def _classes(number: int, draw: random.Random, shuffled: bool) -> list[dict[str, Any]]:
    rows = _steps(number, draw, False)
    for row in rows:
        worth = {STEPS[0]: 1, STEPS[1]: 0, STEPS[2]: -1, STEPS[3]: -1}
        row["labels"] = [draw.choice((-1, 0, 1)) if shuffled else worth[step] for step in row["steps"]]
    return rows


def _annotated(number: int, draw: random.Random, shuffled: bool) -> list[dict[str, Any]]:
    """Ann likes the good answer, Bob the sad one; the control forgets who said it."""
    row = _prompt(number, draw)
    pairs = []
    for annotator, order in (("ann", (0, 2)), ("bob", (2, 0))):
        better, worse = (f"It is {WORDS[place]}." for place in order)
        name = draw.choice(("ann", "bob")) if shuffled else annotator
        pairs.append({**row, "chosen": better, "rejected": worse, "annotator": name})
    return pairs


def stage(data: str, loss: str, **changes: Any) -> dict[str, Any]:
    """A few seconds of learning."""
    rate = 2e-3 if changes.get("backbone") == "full" else 3e-2
    base = {
        "data": f"{data}.jsonl",
        "loss": loss,
        "heldout": 0.3,
        "pairs_per_step": 16,
        "epochs": 30,
        "optimiser": {"learning_rate": rate, "warmup": 0},
        "checkpoint_every": 1000,
        "evaluate_every": 0,
    }
    return recipes.reward_model(**{**base, **changes})


KINDS = {
    "grouped": "rankings",
    "plackett_luce": "rankings",
    "outcome": "outcomes",
    "pooled_outcome": "outcomes",
    "process": "steps",
    "process_3class": "classes",
}
"""Data of each loss."""


def learned(result: dict[str, Any]) -> bool:
    """Nine in ten held-out answers, and a loss below half of what it was."""
    after, before = result["after"], result["before"]
    return bool(after["accuracy"]["value"] > 0.9 and after["nll"] < 0.6 * before["nll"])


def above_chance(result: dict[str, Any]) -> bool:
    """The whole interval above what always giving the more frequent answer would get, and a lower loss."""
    after, before = result["after"], result["before"]
    return bool(after["accuracy"]["low"] > after.get("majority", 0.5) and after["nll"] < 0.8 * before["nll"])
