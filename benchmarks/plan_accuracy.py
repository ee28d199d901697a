"""How well `ridgeline plan` predicts: seconds per step and peak memory of a few stages of the embedded model.

    python benchmarks/plan_accuracy.py [--only sft] [--margin 0.5] [--memory-only]

Each stage runs for a few steps in a process of its own; its steps but the first are compared with the plan
that `ridgeline plan` makes right after it, and its peak resident memory with the plan's. The mean length of
the completions of `rl` is given to the plan, which cannot know it. Leaves with 1 when a ratio of predicted to
measured is outside 1 - margin to 1 + margin. The goal is 30 %; the default margin is 50 %, since machines are
noisy. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "recipes" / "data"
STEPS = 5
TOP = {"model": "smollm2-135m-instruct", "chat_template": "chatml", "seed": 1}
PER_STEP = 16

Table = dict[str, Any]


def stages(pairs: Path) -> dict[str, Table]:
    """One stage of a kind each, of ``STEPS`` steps."""
    rl: Table = {
        "type": "rl",
        "prompts": str(DATA / "prompts_train.jsonl"),
        "reward": ["length"],
        "steps": STEPS,
    }
    rl |= {
        "sampling": {"max_new_tokens": 64},
        "prompts_per_step": 8,
        "samples_per_prompt": 8,
        "kl": {"coefficient": 0.04},
    }
    given: Table = {"data": str(pairs), "pairs_per_step": PER_STEP, "heldout": 0.0}
    sft: Table = {
        "type": "sft",
        "data": str(DATA / "demonstrations.jsonl"),
        "rows_per_step": PER_STEP,
        "heldout": 0.0,
    }
    return {
        "sft": {**sft, "epochs": STEPS * PER_STEP / 421},
        "sft-checkpointing": {**sft, "epochs": STEPS * PER_STEP / 421, "work": {"checkpointing": True}},
        "reward_model": {"type": "reward_model", "backbone": "full", **given},
        "preference": {"type": "preference", **given},
        "preference-lora": {"type": "preference", "adapter": {"rank": 16}, **given},
        "rl": rl,
    }


def write_pairs(path: Path) -> None:
    """Demonstrations, each against the answer to another question."""
    lines = (DATA / "demonstrations.jsonl").read_text().splitlines()
    said = [[message["content"] for message in json.loads(line)["messages"]] for line in lines]
    others = random.Random(0).sample(said, STEPS * PER_STEP)
    pairs = zip(said, others, strict=False)
    rows = [{"prompt": one[0], "chosen": one[-1], "rejected": other[-1]} for one, other in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_recipe(path: Path, name: str, table: Table) -> None:
    """A recipe of one stage."""
    import tomli_w

    path.write_text(tomli_w.dumps({"name": name, **TOP, "stage": [{"name": name, **table}]}))


def measure(recipe: Path, out: Path) -> dict[str, float]:
    """Median seconds of the steps after the first, peak bytes, mean length of completions (0: none)."""
    command = [sys.executable, "-m", "ridgeline", "run", str(recipe), "--out", str(out), "--quiet"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{recipe} failed")
    folder = next((out / "stages").iterdir())
    lines = [json.loads(line) for line in (folder / "timings.jsonl").read_text().splitlines()]
    steps = [sum(line["seconds"].values()) for line in lines if "learn" in line["seconds"]]
    metrics = [json.loads(line)["metrics"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lengths = [each["length"] for each in metrics if "length" in each]
    mean = sum(total for total, _ in lengths) / sum(count for _, count in lengths) if lengths else 0.0
    return {
        "seconds": statistics.median(steps[1:]),
        "bytes": usage.ru_maxrss * 1024.0,
        "length": mean,
    }


def predict(recipe: Path, mean_tokens: float) -> dict[str, Any]:
    """The plan, as the command prints it."""
    command = [sys.executable, "-m", "ridgeline", "plan", str(recipe), "--json"]
    if mean_tokens:
        command += ["--mean-tokens", str(mean_tokens)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


def main() -> None:
    """Every stage in turn, a table, and the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", help="a stage of the table; repeat for more")
    parser.add_argument("--margin", type=float, default=0.5)
    parser.add_argument("--memory-only", action="store_true", help="for a busy machine: times do not count")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"warning: the machine is busy (load {load:.1f}); times are not to be trusted.")
    print(f"{'stage':<20}{'seconds per step':>30}{'peak memory, GB':>30}")
    print(f"{'':<20}" + 2 * f"{'measured':>12}{'planned':>10}{'ratio':>8}")
    outside = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder / "pairs.jsonl")
        for stage, table in stages(folder / "pairs.jsonl").items():
            if arguments.only and stage not in arguments.only:
                continue
            recipe = folder / f"{stage}.toml"
            write_recipe(recipe, stage, table)
            measured = measure(recipe, folder / stage)
            plan = predict(recipe, measured["length"])
            planned = plan["stages"][0]["seconds_per_step"], plan["peak_bytes"]
            ratios = planned[0] / measured["seconds"], planned[1] / measured["bytes"]
            print(
                f"{stage:<20}{measured['seconds']:>12.2f}{planned[0]:>10.2f}{ratios[0]:>8.2f}"
                f"{measured['bytes'] / 1e9:>12.2f}{planned[1] / 1e9:>10.2f}{ratios[1]:>8.2f}",
                flush=True,
            )
            counted = ratios[1:] if arguments.memory_only else ratios
            outside += any(abs(ratio - 1) > arguments.margin for ratio in counted)
    raise SystemExit(1 if outside else 0)


if __name__ == "__main__":
    main()
