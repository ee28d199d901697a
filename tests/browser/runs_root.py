"""Run folders for the studio: a real one, a world, and what goes wrong with folders; made in seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ridgeline.rollout.store import write_samples
from ridgeline.rollout.traces import Trace, write_traces
from ridgeline.schema.records import Sample
from tests.browser.installed import Installed
from tests.tiny import make_tiny_model, write_prompts
from tests.tiny_recipe import GOLD

RL = """
name = "tiny"
model = "model"
dtype = "float32"
[[stage]]
name = "policy"
type = "rl"
prompts = "prompts.jsonl"
heldout = "prompts.jsonl"
reward = ["GOLD:gold"]
monitor = ["random_coin"]
kl = { coefficient = 0.05 }
steps = 4
prompts_per_step = 8
updates_per_rollout = 2
evaluate_every = 2
sampling = { max_new_tokens = 12 }
optimiser = { learning_rate = 1e-3 }
"""
WRITTEN = """
name = "NAME"
model = "written-by-a-test"
[[stage]]
name = "policy"
type = "rl"
steps = STEPS
prompts = "p.jsonl"
reward = ["judge"]
"""
STAGE = "01-policy"
HOSTILE = [
    "<script>window.__hacked = 1</script><img src=x onerror='window.__hacked = 1'>",
    "<svg/onload=window.__hacked=1><iframe srcdoc='<script>parent.__hacked=1</script>'></iframe>",
    "[click](javascript:window.__hacked=1) ![x](http://192.0.2.1/track.png) </pre></div></body>",
    "control \x00\x07\x1b[31m\x08\x7f characters \ufeff\u200b\u2028 end",
    "\u202egnirts \u202c "
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea \u2066x\u2069",
    "Z\u0335\u0321" + "\u0334\u0315\u0301" * 200 + " \U0001f469\u200d\U0001f469\u200d\U0001f467 \ufffd",
    "word " * 10_000,
    "x" * 50_000,
]


def make_real_run(installed: Installed, work: Path, out: Path) -> None:
    """Four steps of ``rl`` on the tiny model with two updates each, and the map of it."""
    make_tiny_model(work / "model")
    write_prompts(work / "prompts.jsonl")
    gold = work / "gold.py"
    gold.write_text(GOLD, encoding="utf-8")
    recipe = work / "recipe.toml"
    recipe.write_text(RL.replace("GOLD", str(gold)), encoding="utf-8")
    installed.run("run", recipe, "--out", out)
    installed.run("landscape", "map", out, "--stage", "policy")


def make_world_run(installed: Installed, out: Path) -> None:
    """A few PPO updates in the ravine, recorded."""
    arguments = ["--algorithm", "ppo", "--terrain", "ravine", "--iterations", "6", "--out", str(out)]
    installed.run("landscape", "train", *arguments)


def write_run(folder: Path, steps: int = 0, planned: int | None = None, finished: bool = True) -> Path:
    """A run folder with one stage, its events and ``steps`` lines of metrics; the folder of the stage."""
    stage = folder / "stages" / STAGE
    stage.mkdir(parents=True)
    text = WRITTEN.replace("NAME", folder.name).replace("STEPS", str(planned or max(steps, 1)))
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    events = [{"time": 1_790_000_000.0, "kind": "stage started", "stage": "policy"}]
    if finished:
        events.append({"time": 1_790_000_060.0, "kind": "stage finished", "stage": "policy", "seconds": 60.0})
        events.append({"time": 1_790_000_060.0, "kind": "run finished"})
        (stage / "result.json").write_text("{}", encoding="utf-8")
    write_lines(folder / "events.jsonl", events)
    append_metrics(stage, range(steps))
    return stage


def write_lines(path: Path, rows: Sequence[object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def metrics_line(step: int, phase: float = 0.0) -> str:
    """A line as ``rl`` writes it: sums and counts. The mean reward of step s is s / 1000 + phase."""
    reward = step / 1000 + phase
    metrics = {
        "reward": [64 * reward, 64],
        "reward/judge": [64 * reward, 64],
        "kl_k1": [0.64 * (step**0.5), 64],
        "entropy": [64 * 2.0 / (1 + step / 5000), 64],
        "length": [64 * (20 + step % 7), 64],
        "gradient_norm": [1.0 + 0.5 * ((step * 37) % 11) / 11, 1],
    }
    return json.dumps({"step": step, "metrics": metrics}) + "\n"


def append_metrics(stage: Path, steps: Sequence[int], phase: float = 0.0) -> None:
    with (stage / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(metrics_line(step, phase) for step in steps)


def sample(prompt: int, index: int, text: str, reward: float) -> Sample:
    """A completion of one token per 4 characters, up to 8; ids and log-probs are made up."""
    tokens = max(1, min(8, len(text) // 4))
    return Sample(
        prompt_id=f"p{prompt}",
        index=index,
        prompt_ids=[1, 2, 3],
        completion_ids=list(range(tokens)),
        logprobs=[-0.5] * tokens,
        generated=[True] * tokens,
        stop_reason="stop",
        text=text,
        row={"prompt": f"Prompt number {prompt}"},
        rewards={"judge": reward, "total": reward},
    )


def make_hostile_run(folder: Path) -> None:
    """Completions, prompts and names that attack a page; tokens of the first are hostile too."""
    stage = write_run(folder, steps=2)
    samples = [sample(0, index, text, index / 10) for index, text in enumerate(HOSTILE)]
    evil = "<b onmouseover=alert(1)>prompt</b><script>window.__hacked = 1</script>"
    samples = [s if s.index else sample(0, 0, HOSTILE[0], 0.0) for s in samples]
    for each in samples:
        each.row["prompt"] = evil
    write_samples(stage / "samples" / "step-000000.parquet", samples)
    traces = [
        Trace(s.prompt_id, s.index, _pieces(s.text, len(s.completion_ids)), discarded="<i>dead</i> group")
        for s in samples
    ]
    write_traces(stage / "traces" / "step-000000.parquet", traces)


def _pieces(text: str, count: int) -> list[str]:
    cut = max(1, len(text) // count)
    return [text[cut * n : cut * (n + 1) if n < count - 1 else None] for n in range(count)]


def make_damaged_run(folder: Path) -> None:
    """Half a line in the middle, no TOML, an unreadable Parquet file, a manifest that is no JSON."""
    stage = write_run(folder, steps=5)
    with (stage / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 5, "metrics": {"rew\n[1, 2]\n\0\0\0\n')
    append_metrics(stage, [6, 7])
    (folder / "recipe.toml").write_text("name = 'broken\n", encoding="utf-8")
    (stage / "samples").mkdir()
    (stage / "samples" / "step-000000.parquet").write_bytes(b"PAR1 and then nothing")
    (stage / "landscape").mkdir()
    (stage / "landscape" / "manifest.json").write_text("{", encoding="utf-8")


def make_half_written_run(folder: Path) -> None:
    """A run that is being written: planned for 50 steps, at its third, in the middle of a line."""
    stage = write_run(folder, steps=3, planned=50, finished=False)
    with (stage / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(metrics_line(3)[:40])


def make_many_runs(root: Path, runs: int = 50, steps: int = 10_000) -> None:
    """``runs`` finished runs of ``steps`` lines each; those of run r lie r / 100 higher."""
    first = write_run(root / "run-00", steps)
    lines = (first / "metrics.jsonl").read_text(encoding="utf-8")
    for number in range(1, runs):
        stage = write_run(root / f"run-{number:02d}", planned=steps)
        (stage / "metrics.jsonl").write_text(lines, encoding="utf-8")


def make_crowded_run(folder: Path, steps: int = 100, prompts: int = 125, group: int = 8) -> None:
    """steps x prompts x group short completions; each text names its step, prompt and index."""
    stage = write_run(folder, steps)
    pairs = [(prompt, index) for prompt in range(prompts) for index in range(group)]
    path = stage / "samples" / "step-000000.parquet"
    write_samples(path, [sample(prompt, index, "-", index / group) for prompt, index in pairs])
    table = pq.read_table(path)
    place = table.column_names.index("text")
    for step in range(steps):
        texts = pa.array([f"step {step} prompt {prompt} sample {index}" for prompt, index in pairs])
        named = table.set_column(place, "text", texts)
        pq.write_table(named, path.with_name(f"step-{step:06d}.parquet"), compression="zstd")


def copy_real_run(source: Path, out: Path) -> None:
    """A second run to compare with."""
    shutil.copytree(source, out)
