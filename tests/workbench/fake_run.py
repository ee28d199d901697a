"""A synthetic run folder with the shape and the numbers of a real one, written through the real writers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.preferences.store import summary, write_preferences
from ridgeline.rollout.store import write_samples
from ridgeline.schema.recipe import Recipe, resolve_recipe
from ridgeline.schema.records import Message, Preference, Sample
from ridgeline.schema.run_folder import RunFolder, StageFolder, append_line, write_atomic
from ridgeline.statistics.agreement import pairwise_accuracy_interval
from ridgeline.statistics.intervals import clustered_mean_interval
from ridgeline.statistics.paired import paired_difference, win_rate

GOLD, JUDGE = "sentiment_sentence", "judge"
HOSTILE = "Cats & dogs <script>alert('x')</script> <img src=x onerror=alert(1)> are \"friends\"."
TOPICS = (
    "referees",
    "batteries",
    "hail",
    "cats",
    "the sea",
    "taxes",
    "photographs",
    "deserts",
    "turtles",
    "ink",
)
TEXTS = {
    0: "The {t} is all grown up, ready to explore the daily entertainment of",
    1: "{t} are known for their steady habits and their long history.",
    2: "{t} are amazing creatures with a complex and fascinating life that continues to captivate us.",
    3: "Innovating and creative solutions inspire a vibrant, awe-inspiring community of imagination.",
}
Held = tuple[float, float, float, float, float]
"""KL (nats), gold, judge, length, share stopped."""
FREE: dict[int, Held] = {
    0: (0.04, 0.70, -0.09, 30.5, 0.74),
    3: (1.1, 0.92, 0.31, 26.0, 0.83),
    6: (3.2, 1.17, 0.77, 22.6, 0.93),
    9: (7.2, 1.30, 1.14, 23.4, 0.96),
    12: (12.7, 1.42, 1.50, 24.8, 0.97),
    15: (22.0, 1.49, 1.98, 27.1, 0.96),
    18: (36.0, 1.36, 2.39, 29.4, 0.95),
    21: (40.3, 1.09, 2.60, 22.7, 0.97),
}
LEASHED: dict[int, Held] = {
    0: (0.04, 0.70, -0.09, 30.5, 0.74),
    3: (0.6, 0.84, 0.20, 27.6, 0.81),
    6: (1.9, 1.06, 0.55, 24.6, 0.90),
    9: (4.4, 1.25, 0.93, 24.9, 0.95),
    12: (7.5, 1.40, 1.30, 25.1, 0.96),
    15: (9.1, 1.42, 1.52, 26.0, 0.97),
    18: (9.9, 1.41, 1.60, 26.4, 0.97),
    21: (10.4, 1.43, 1.66, 26.2, 0.98),
}
SUMS: dict[int, Held] = {
    0: (0.0, 0.09, 0.0, 13.8, 0.36),
    3: (1.2, 0.24, 0.0, 11.9, 0.55),
    6: (4.5, 0.68, 0.0, 8.4, 0.9),
    10: (6.4, 0.93, 0.0, 7.2, 0.99),
}
COIN: dict[int, Held] = {
    0: (0.0, 0.09, 0.25, 13.8, 0.36),
    3: (0.3, 0.10, 0.25, 13.7, 0.33),
    6: (0.8, 0.05, 0.24, 14.3, 0.24),
    10: (1.6, 0.03, 0.26, 15.0, 0.12),
}


def fake_recipe(folder: Path) -> Recipe:
    """The recipe of the quickstart with its control and a leash beside it."""
    policy: dict[str, Any] = {
        "type": "rl",
        "model": "sft",
        "prompts": "prompts_train.jsonl",
        "heldout": "prompts_heldout.jsonl",
        "reward": [JUDGE],
        "monitor": [GOLD],
        "prompts_per_step": 16,
        "steps": 21,
        "evaluate_every": 3,
        "sampling": {"max_new_tokens": 40},
        "optimiser": {"learning_rate": 6e-5},
    }
    sums: dict[str, Any] = {
        "type": "rl",
        "prompts": "sums.jsonl",
        "heldout": "sums_heldout.jsonl",
        "steps": 10,
        "samples_per_prompt": 8,
        "evaluate_every": 3,
        "kl": {"coefficient": 0.0},
    }
    annotator = {"gold": GOLD, "temperature": 0.3}
    stages: list[dict[str, Any]] = [
        {"name": "sums", **sums, "reward": ["addition"]},
        {"name": "sums-control", **sums, "reward": ["random_coin"], "monitor": ["addition"]},
        {"name": "sft", "type": "sft", "data": "demonstrations.jsonl"},
        {
            "name": "pairs",
            "type": "collect",
            "model": "sft",
            "prompts": "prompts_train.jsonl",
            "annotator": annotator,
        },
        {"name": JUDGE, "type": "reward_model", "model": "sft", "data": "pairs", "layer": 10},
        {"name": "policy", **policy, "kl": {"coefficient": 0.1}},
        {"name": "unleashed", **policy, "kl": {"coefficient": 0.0}},
        {
            "name": "compare",
            "type": "evaluate",
            "models": ["sft", "base", "policy", "unleashed"],
            "prompts": "prompts_heldout.jsonl",
            "rewards": [GOLD, JUDGE],
        },
    ]
    values = {"name": "quickstart", "model": "smollm2-135m-instruct", "seed": 1, "stage": stages}
    return resolve_recipe(values, folder)


def write_fake_run(path: Path, *, prompts: int = 40) -> Path:
    """A finished run below ``path``."""
    recipe = fake_recipe(path)
    run = RunFolder(path)
    run.open_for_writing()
    run.write_recipe(recipe)
    environment = {
        "device": "cpu",
        "device_verified": True,
        "dtype": "bfloat16",
        "cpu": "x86_64",
        "cpu_capability": "AVX512",
        "threads": 2,
        "python": "3.11.9",
        "platform": "Linux-6.1-x86_64",
        "versions": {"ridgeline": "0.1.0", "torch": "2.13.0", "transformers": "5.9.0", "numpy": "2.3.1"},
        "kernels": "compiled",
        "engine": "local",
    }
    write_atomic(path / "environment.json", json.dumps(environment))
    generator = np.random.default_rng(7)
    folders = {stage.name: run.stage(number, stage.name) for number, stage in enumerate(recipe.stage)}
    for folder in folders.values():
        folder.create()
    for name, held, rewards in (
        ("sums", SUMS, ("addition",)),
        ("sums-control", COIN, ("addition", "random_coin")),
    ):
        _rl(folders[name], held, rewards, 20, generator, kl=0.0, binary=True)
    _sft(folders["sft"], generator)
    _collect(folders["pairs"], generator, prompts)
    _judge(folders[JUDGE], generator)
    for name, held, kl in (("policy", LEASHED, 0.1), ("unleashed", FREE, 0.0)):
        _rl(folders[name], held, (GOLD, JUDGE), prompts, generator, kl=kl)
    _evaluate(folders["compare"], generator, prompts)
    _events(path, folders)
    run.close()
    return path


def _events(path: Path, folders: dict[str, StageFolder]) -> None:
    clock = 1795000000.0
    seconds = (68, 34, 41, 33, 14, 171, 184, 52)
    for name, spent in zip(folders, seconds, strict=True):
        append_line(path / "events.jsonl", {"time": clock, "kind": "stage started", "stage": name})
        if name == "sft":
            text = "3 rows dropped: longer than 1024 tokens"
            append_line(
                path / "events.jsonl", {"time": clock, "kind": "warning", "stage": name, "text": text}
            )
        clock += spent
        append_line(
            path / "events.jsonl", {"time": clock, "kind": "stage finished", "stage": name, "seconds": spent}
        )
    append_line(path / "events.jsonl", {"time": clock, "kind": "run finished"})


def _sft(folder: StageFolder, generator: np.random.Generator) -> None:
    for step in range(54):
        loss = 2.32 + 0.35 * math.exp(-step / 9) + generator.normal(0, 0.06)
        metrics = {"loss/nll": (loss * 400, 400.0), "gradient_norm": (1.1, 1.0), "learning_rate": (2e-5, 1.0)}
        append_line(folder.metrics, {"step": step, "metrics": metrics})
        append_line(folder.timings, {"step": step, "seconds": {"collect": 0.0, "learn": 0.7}})
    for step, nll in ((0, 2.534), (27, 2.412), (54, 2.391)):
        append_line(folder.evaluations, {"step": step, "nll": nll, "tokens": 1480})
    folder.finish(
        {
            "rows": 418,
            "trained_tokens": 9120,
            "heldout_rows": 60,
            "dropped": {"longer than 1024 tokens": 3},
            "truncated": 0,
            "heldout_nll_before": 2.534,
            "heldout_nll_after": 2.391,
        }
    )


def _text(level: float, topic: str) -> str:
    return TEXTS[min(3, max(0, round(level)))].format(t=topic.capitalize())


def _collect(folder: StageFolder, generator: np.random.Generator, prompts: int) -> None:
    pairs = []
    for number in range(600):
        topic = TOPICS[number % prompts % len(TOPICS)]
        a, b = generator.normal(0.74, 0.6, 2)
        first = generator.random() < 1 / (1 + math.exp(-(a - b) / 0.3))
        chosen, rejected = (a, b) if first else (b, a)
        pairs.append(
            Preference(
                prompt=[Message("user", f"Write one sentence about {topic}.")],
                chosen=HOSTILE if number == 0 else _text(chosen + 1, topic),
                rejected=_text(rejected, topic),
                annotator="simulated",
                first_shown="chosen" if generator.random() < 0.5 else "rejected",
                prompt_id=f"topic-{number % prompts}",
                scores={"chosen": float(chosen), "rejected": float(rejected)},
            )
        )
    write_preferences(folder.path / "preferences.jsonl", pairs)
    folder.finish({"samples": 1092, "stopped": 0.78, "length": 28.8, **summary(pairs, temperature=0.3)})


def _judge(folder: StageFolder, generator: np.random.Generator) -> None:
    for step in range(48):
        loss = 0.60 + 0.09 * math.exp(-step / 8) + generator.normal(0, 0.015)
        metrics = {"reward/loss/bradley_terry": (loss * 32, 32.0), "reward/gradient_norm": (0.4, 1.0)}
        append_line(folder.metrics, {"step": step, "metrics": metrics})
        append_line(folder.timings, {"step": step, "seconds": {"collect": 0.0, "learn": 0.05}})
    report: dict[str, Any] = {}
    prompts = [f"topic-{k % 30}" for k in range(240)]
    for step, skill in ((0, 0.0), (16, 0.5), (32, 0.62), (48, 0.7)):
        gap = generator.normal(0, 1, 240) + skill
        labels = pairwise_accuracy_interval(gap, np.zeros(240), prompts)
        gold = pairwise_accuracy_interval(gap + 0.25 * skill, np.zeros(240), prompts)
        bins = [
            {
                "low": k / 5,
                "high": (k + 1) / 5,
                "mean_predicted": k / 5 + 0.1,
                "observed_share": o,
                "count": 48,
            }
            for k, o in enumerate((0.22, 0.36, 0.51, 0.63, 0.81))
        ]
        report = {
            "accuracy": labels.as_dict(),
            "nll": 0.6931 - 0.1 * skill,
            "calibration_error": 0.05,
            "accuracy_against_gold": gold.as_dict(),
            "correlation_with_gold": 0.47 if skill else 0.0,
            "reliability": bins,
        }
        append_line(folder.evaluations, {"step": step, **report})
    ceiling = {"accuracy": 0.826, "nll": 0.39}
    folder.finish(
        {"pairs": 850, "heldout_pairs": 240, "dropped": {}, "before": {}, "after": report, "ceiling": ceiling}
    )


def _rl(
    folder: StageFolder,
    held: dict[int, Held],
    rewards: tuple[str, ...],
    prompts: int,
    generator: np.random.Generator,
    *,
    kl: float,
    binary: bool = False,
) -> None:
    rollouts = max(held)
    spread = generator.normal(0, 0.35, prompts)
    for rollout, measured in held.items():
        samples = _heldout_samples(measured, rewards, prompts, spread, generator, binary)
        write_samples(folder.samples / f"evaluation-{rollout:06d}.parquet", samples)
        append_line(folder.evaluations, {"step": rollout, **_report(rollout, samples, measured, generator)})
    for step in range(rollouts):
        append_line(folder.metrics, {"step": step, "metrics": _metrics(step, held, rewards, kl, generator)})
        seconds = {"collect": round(3.4 + generator.random(), 4), "learn": round(4.2 + generator.random(), 4)}
        append_line(folder.timings, {"step": step, "seconds": seconds})
    lines = [json.loads(line) for line in folder.evaluations.read_text().splitlines()]
    ends = [{key: value for key, value in line.items() if key != "step"} for line in (lines[0], lines[-1])]
    leash = {"coefficient": kl, "estimator": "k3", "placement": "loss"}
    folder.finish(
        {"objective": "grpo", "kl": leash, "rollouts": rollouts, "before": ends[0], "after": ends[1]}
    )


def _heldout_samples(
    measured: Held,
    rewards: tuple[str, ...],
    prompts: int,
    spread: np.ndarray[Any, np.dtype[np.float64]],
    generator: np.random.Generator,
    binary: bool,
) -> list[Sample]:
    _, gold, judge, length, stopped = measured
    samples = []
    for prompt in range(prompts):
        for index in range(4):
            levels = (gold, judge)
            values: dict[str, float | None] = {
                name: float(generator.random() < level)
                if binary
                else float(level + spread[prompt] + generator.normal(0, 0.4))
                for name, level in zip(rewards, levels, strict=False)
            }
            values["total"] = values[rewards[-1]]
            topic = TOPICS[prompt % len(TOPICS)]
            text = HOSTILE if prompt == index == 0 else _text(judge + 0.6, topic)
            samples.append(
                _sample(
                    f"held-{prompt}", index, topic, text, values, int(length), generator.random() < stopped
                )
            )
    return samples


def _sample(
    prompt: str,
    index: int,
    topic: str,
    text: str,
    rewards: dict[str, float | None],
    length: int,
    stopped: bool,
) -> Sample:
    return Sample(
        prompt_id=prompt,
        index=index,
        prompt_ids=[1, 2, 3],
        completion_ids=list(range(length)),
        logprobs=[-1.0] * length,
        generated=[True] * length,
        stop_reason="stop" if stopped else "length",
        text=text,
        row={"prompt": f"Write one sentence about {topic}.", "topic": topic},
        rewards=rewards,
    )


def _report(
    rollout: int, samples: list[Sample], measured: Held, generator: np.random.Generator
) -> dict[str, Any]:
    clusters = [sample.prompt_id for sample in samples]
    kl = measured[0] + generator.normal(0, 0.1 + measured[0] / 4, len(samples))
    values: dict[str, Any] = {
        "kl_k1": kl.tolist(),
        "kl_k3": (kl * 0.9).tolist(),
        "length": [float(len(s.completion_ids)) for s in samples],
        "stopped": [float(not s.truncated) for s in samples],
    }
    for name in samples[0].rewards:
        values[f"reward/{name}"] = [s.rewards[name] for s in samples]
    report: dict[str, Any] = {"rollout": rollout, "samples": len(samples)}
    return report | {name: clustered_mean_interval(v, clusters).as_dict() for name, v in values.items()}


def _metrics(
    step: int, held: dict[int, Held], rewards: tuple[str, ...], kl: float, generator: np.random.Generator
) -> dict[str, tuple[float, float]]:
    at = sorted(held)
    now = [float(np.interp(step, at, [held[k][part] for k in at])) for part in range(5)]
    noisy = [value + generator.normal(0, 0.08) for value in now[1:3]]
    if rewards[0] == "addition":
        noisy = [min(1.0, max(0.0, value)) for value in noisy]
    values = {
        "reward": noisy[len(rewards) - 1],
        "reward_spread": 0.4,
        "dead_groups": 0.05 + 0.1 * generator.random(),
        "length": now[3] + generator.normal(0, 1),
        "stopped": min(1.0, now[4] + generator.normal(0, 0.02)),
        "kl_k1": now[0] + generator.normal(0, 0.3),
        "kl_k3_per_token": max(0.0, now[0]) / now[3],
        "clip_fraction": 0.0,
        "entropy": 2.75 * math.exp(-now[0] / 40) + generator.normal(0, 0.1),
        "gradient_norm": 1.5 + 2 * generator.random(),
        "kl_coefficient": kl,
        "loss/policy": 0.01 * generator.normal(),
    }
    values |= {f"reward/{name}": value for name, value in zip(rewards, noisy, strict=False)}
    return {name: (64 * float(value), 64.0) for name, value in values.items()}


def _evaluate(folder: StageFolder, generator: np.random.Generator, prompts: int) -> None:
    ends = {
        "sft": FREE[0],
        "base": (0.9, 0.55, -0.3, 32.9, 0.55),
        "policy": LEASHED[21],
        "unleashed": FREE[21],
    }
    spread = generator.normal(0, 0.35, prompts)
    samples = {
        name: _heldout_samples(end, (GOLD, JUDGE), prompts, spread, generator, False)
        for name, end in ends.items()
    }
    models = {}
    for name, rows in samples.items():
        write_samples(folder.samples / name / "part-0000.parquet", rows)
        report = _report(0, rows, ends[name], generator)
        models[name] = {key: value for key, value in report.items() if isinstance(value, dict)}
    flat = {name: [s.rewards[GOLD] for s in rows] for name, rows in samples.items()}
    clusters = [s.prompt_id for s in samples["sft"]]
    against = {
        name: {
            "win_rate": win_rate(flat["sft"], flat[name], clusters).as_dict(),
            "difference": paired_difference(flat["sft"], flat[name], clusters).as_dict(),
        }
        for name in ("base", "policy", "unleashed")
    }
    folder.finish(
        {
            "baseline": "sft",
            "reference": "sft",
            "deciding_reward": GOLD,
            "prompts": prompts,
            "models": models,
            "against_baseline": against,
        }
    )
