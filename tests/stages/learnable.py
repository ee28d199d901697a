"""Tasks with a known optimum, and the criteria by which a stage counts as having learned them."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from ridgeline.schema.run_folder import read_lines
from ridgeline.stages.pipeline import run_recipe
from tests.stages import recipes
from tests.tiny import write_jsonl

REWARDS = '''
def even(samples):
    """Share of completion tokens with an even id: about 0.5 at the start, 1 at best."""
    return [sum(i % 2 == 0 for i in s.completion_ids) / len(s.completion_ids) for s in samples]
'''

WORDS = ("yes", "no", "left", "right")


def make_tasks(world: Path, seed: int) -> Path:
    """Copying, preferences with a rule, each with its shuffled control, and prompts with a reward."""
    random_ = random.Random(seed)
    (world / "tasks.py").write_text(REWARDS)
    words = [random_.choice(WORDS) for _ in range(96)]
    for name, answers in (("copy", words), ("shuffled", random_.sample(words, len(words)))):
        rows = [
            {"prompt": f"{w} {n}", "completion": a}
            for n, (w, a) in enumerate(zip(words, answers, strict=True))
        ]
        write_jsonl(world / f"{name}.jsonl", rows[:72])
        write_jsonl(world / f"{name}_heldout.jsonl", rows[72:])
    for name, shuffled in (("rule", False), ("coin", True)):
        write_jsonl(world / f"{name}.jsonl", [_pair(n, random_, shuffled) for n in range(160)])
    topics = ("the sea", "bread", "rain", "music")
    prompts = [
        {
            "id": f"q{n}",
            "prompt": f"{('up', 'down')[n % 2]} {topics[n // 2]}",
            "wants": ("even", "odd")[n % 2],
        }
        for n in range(8)
    ]
    write_jsonl(world / "questions.jsonl", prompts)
    return world


def _pair(number: int, random_: random.Random, shuffled: bool) -> dict[str, Any]:
    topic = random_.choice(("the sea", "bread", "rain", "music", "winter", "a train"))
    sides = [f"{topic} is good", f"{topic} is sad"]
    if shuffled:
        random_.shuffle(sides)
    return {"prompt": f"Write about {topic} {number}", "chosen": sides[0], "rejected": sides[1]}


def result_of(world: Path, run: str, *stages: dict[str, Any], seed: int = 1) -> dict[str, Any]:
    """The result of the last stage."""
    summary = run_recipe(recipes.recipe(world, *stages, seed=seed), world / run, resume=False)
    result: dict[str, Any] = summary["stages"][stages[-1]["name"]]
    return result


def copy_stage(data: str = "copy") -> dict[str, Any]:
    """Six epochs of copying a word."""
    return recipes.sft(
        data=f"{data}.jsonl",
        heldout=f"{data}_heldout.jsonl",
        rows_per_step=16,
        epochs=6,
        optimiser={"learning_rate": 1e-2, "warmup": 3, "schedule": "linear"},
        checkpoint_every=1000,
        evaluate_every=0,
    )


def copied(result: dict[str, Any]) -> bool:
    """Held-out loss per row below half of ln(4) nats: out of reach for who ignores the prompt."""
    per_row = result["trained_tokens"] / result["rows"]
    before, after = (per_row * result[f"heldout_nll_{when}"] for when in ("before", "after"))
    return bool(after < 0.5 * math.log(len(WORDS)) < before)


def ranking_stage(data: str = "rule", backbone: str = "frozen") -> dict[str, Any]:
    """Which of two answers is the good one."""
    rate = 3e-2 if backbone == "frozen" else 2e-3
    return recipes.reward_model(
        data=f"{data}.jsonl",
        heldout=0.3,
        backbone=backbone,
        pairs_per_step=16,
        epochs=2,
        optimiser={"learning_rate": rate, "warmup": 0},
        checkpoint_every=1000,
        evaluate_every=0,
    )


def ranked(result: dict[str, Any]) -> bool:
    """Nine in ten held-out pairs."""
    return bool(result["after"]["accuracy"]["value"] > 0.9)


def policy_stage(world: Path, reward: str = "even", **changes: Any) -> dict[str, Any]:
    """12 rollouts of 4 prompts with 8 samples each."""
    given = f"{world / 'tasks.py'}:{reward}" if reward == "even" else reward
    base: dict[str, Any] = {
        "prompts": "questions.jsonl",
        "heldout": "questions.jsonl",
        "reward": [given],
        "prompts_per_step": 4,
        "steps": 12,
        "samples_per_prompt": 8,
        "evaluation_samples": 8,
        "evaluate_every": 0,
        "checkpoint_every": 1000,
        "optimiser": {"learning_rate": 1e-2, "warmup": 0, "betas": [0.9, 0.95]},
    }
    return recipes.rl(world, **{**base, **changes})


def gain(result: dict[str, Any], reward: str) -> float:
    """Held-out reward after minus before."""
    before, after = (result[when][f"reward/{reward}"] for when in ("before", "after"))
    return float(after["value"] - before["value"])


def rose(result: dict[str, Any], reward: str) -> bool:
    """The interval over prompts after lies above the one before, and the gain is at least 0.2."""
    before, after = (result[when][f"reward/{reward}"] for when in ("before", "after"))
    return bool(after["low"] > before["high"] and gain(result, reward) > 0.2)


def step_metrics(run: Path, number: int = 1) -> list[dict[str, list[float]]]:
    """The metrics of every step of a stage."""
    return [line["metrics"] for line in read_lines(recipes.stage_folder(run, number) / "metrics.jsonl")]
