"""Small run folders as training leaves them, for the tests of the studio."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w

from ridgeline.rollout.store import write_samples
from ridgeline.schema.records import Sample

RL: dict[str, Any] = {
    "name": "policy",
    "type": "rl",
    "model": "base",
    "prompts": "p.jsonl",
    "reward": [{"function": "judge"}],
    "monitor": [{"function": "gold"}],
    "objective": {"preset": "grpo"},
    "steps": 20,
}
PROMPTS = ("a", "b", "c", "d")


def write_run(path: Path, stages: Sequence[Mapping[str, Any]] = (RL,), *, finished: bool = True) -> Path:
    """A run folder with its recipe and events; stages have their folders."""
    path.mkdir(parents=True)
    recipe = {"name": path.name, "model": "tiny", "seed": 3, "stage": [dict(stage) for stage in stages]}
    (path / "recipe.toml").write_text(tomli_w.dumps(recipe))
    events = [{"time": 1000.0, "kind": "stage started", "stage": stages[0]["name"]}]
    if finished:
        events.append({"time": 1100.0, "kind": "run finished"})
    append(path / "events.jsonl", events)
    for number, stage in enumerate(stages):
        (path / "stages" / f"{number + 1:02d}-{stage['name']}").mkdir(parents=True)
    return path


def append(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    with open(path, "a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def metric(step: int, **values: float) -> dict[str, Any]:
    return {"step": step, "metrics": {name: [2 * value, 2] for name, value in values.items()}}


def evaluation(step: int, **values: float) -> dict[str, Any]:
    estimates = {
        name.replace("__", "/"): {"value": value, "low": value - 0.1, "high": value + 0.1, "count": 4}
        for name, value in values.items()
    }
    return {"step": step, "rollout": step, **estimates}


def sample(prompt: str, index: int, text: str = "yes", gold: float = 0.0, judge: float = 0.0) -> Sample:
    return Sample(
        prompt_id=prompt,
        index=index,
        prompt_ids=[1, 2],
        completion_ids=[3, 4, 5],
        logprobs=[-1.0, -2.0, -0.5],
        generated=[True, True, True],
        stop_reason="stop",
        text=text,
        row={"prompt": f"question {prompt}"},
        rewards={"gold": gold, "judge": judge, "total": judge},
    )


def write_step(stage: Path, kind: str, step: int, samples: Sequence[Sample]) -> Path:
    path = stage / "samples" / f"{kind}-{step:06d}.parquet"
    write_samples(path, samples)
    return path


def write_trace(stage: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    path = stage / "traces" / f"{name}.parquet"
    path.parent.mkdir(exist_ok=True)
    numbers = pa.list_(pa.float32())
    schema = pa.schema(
        [("prompt_id", pa.string()), ("index", pa.int32()), ("piece", pa.list_(pa.string()))]
        + [(name, numbers) for name in ("ref_logp", "old_logp", "advantage", "value", "entropy")]
        + [("kept", pa.bool_()), ("discarded", pa.string())]
    )
    columns = {name: [row.get(name) for row in rows] for name in schema.names}
    pq.write_table(pa.Table.from_pydict(columns, schema=schema), path)


def world(path: Path, name: str = "world") -> Path:
    """A run of the exact world: a manifest of kind exact, and metrics with plain numbers."""
    folder = path / name
    (folder / "landscape" / "frames").mkdir(parents=True)
    (folder / "landscape" / "manifest.json").write_text('{"kind": "exact", "frames": []}')
    (folder / "landscape" / "terrain.bin").write_bytes(b"RDG1" + bytes(12))
    append(folder / "metrics.jsonl", [{"step": 0, "kl": 0.5}, {"step": 1, "kl": 0.75}])
    return folder


def full_run(root: Path) -> Path:
    """Everything at once: metrics, timings, evaluations, samples with a trace, a result."""
    run = write_run(root / "full")
    stage = run / "stages" / "01-policy"
    append(stage / "metrics.jsonl", [metric(step, reward=step / 10, kl_k1=step) for step in range(20)])
    append(stage / "timings.jsonl", [{"step": step, "seconds": {"learn": 1.5}} for step in range(20)])
    rows = [(0, 0.0, 0.0, 0.0), (10, 1.0, 1.0, 1.0), (20, 4.0, 0.2, 2.0)]
    append(
        stage / "evaluations.jsonl",
        [evaluation(s, kl_k1=kl, reward__gold=g, reward__judge=j) for s, kl, g, j in rows],
    )
    for step, _, gold, judge in rows:
        group = [sample(p, i, f"{p} says {step}", gold + i / 50, judge) for p in PROMPTS for i in range(2)]
        write_step(stage, "evaluation", step, group)
    write_step(stage, "step", 0, [sample(p, i, judge=i) for p in PROMPTS for i in range(2)])
    traced = {"piece": ["y", "e", "s"], "ref_logp": [-1.5, -2.5, -0.5], "old_logp": [-1.0, -2.0, 0.0]}
    write_trace(stage, "step-000000", [{"prompt_id": "a", "index": 0, **traced, "advantage": [0.5] * 3}])
    (stage / "result.json").write_text('{"objective": "grpo"}')
    return run
