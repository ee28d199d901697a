"""Seconds of one rollout and one training step of the quickstart's RL stage, in tokens per second.

    python benchmarks/step_time.py [--repeats 3]

Each setting runs in a process of its own, alternating, on the same prompts and the same completions (forced
for the training step), so the work is equal; the median over repeats is printed. Absolute numbers belong to
the machine they were taken on: compare the rows of one run only, and run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SETTINGS = {
    "packed, allocator tuned": {"packed": True, "allocator": "tuned"},
    "packed, stock allocator": {"packed": True, "allocator": "stock"},
    "padded, allocator tuned": {"packed": False, "allocator": "tuned"},
}
PROMPTS, SAMPLES, NEW_TOKENS = 16, 4, 40


def measure(packed: bool, allocator: str) -> dict[str, float]:
    """One warm-up and one timed pass of each part."""
    os.environ["RIDGELINE_ALLOCATOR"] = allocator
    import numpy as np
    import torch

    from ridgeline.models.batch import MicroBatch, completion_row, split
    from ridgeline.models.embedded import EMBEDDED_NAME
    from ridgeline.models.forward import token_scores
    from ridgeline.models.hardware import resolve_dtype
    from ridgeline.models.load import load_model
    from ridgeline.rollout.plain import PlainSampler
    from ridgeline.rollout.request import PromptRequest
    from ridgeline.schema.stages.common import Sampling
    from ridgeline.training.allocator import tune_allocator

    tune_allocator()
    dtype = resolve_dtype("auto", torch.device("cpu"))
    model = load_model(EMBEDDED_NAME, dtype=dtype)
    generator = np.random.default_rng(0)
    prompts = [generator.integers(3, 49000, 15).tolist() for _ in range(PROMPTS)]
    sampler = PlainSampler(model.module, model.tokenizer, stop_ids=[])
    requests = [PromptRequest(str(number), ids, SAMPLES) for number, ids in enumerate(prompts)]
    lengths = generator.integers(15, NEW_TOKENS + 1, (PROMPTS, SAMPLES))
    units = [
        [completion_row(ids, generator.integers(3, 49000, int(length)).tolist()) for length in row]
        for ids, row in zip(prompts, lengths, strict=True)
    ]

    def rollout() -> int:
        samples = sampler(requests, Sampling(max_new_tokens=NEW_TOKENS), seed=0, step=0)
        return sum(len(sample.completion_ids) for sample in samples)

    def learn() -> int:
        for indices in split(units, 2048):
            batch = MicroBatch.of([units[index] for index in indices])
            token_scores(model.module, batch, packed=packed, entropy=True)["logp"].sum().backward()
        return int(lengths.sum())

    result = {}
    for name, work in (("rollout", rollout), ("learn", learn)):
        work()
        start = time.perf_counter()
        tokens = work()
        result[name] = tokens / (time.perf_counter() - start)
    return result


def main() -> None:
    """Run every setting in turn, ``--repeats`` times, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(**SETTINGS[arguments.one])))
        return
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"warning: the machine is busy (load {load:.1f}); the figures below are too low.")
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    for _ in range(arguments.repeats):
        for name in SETTINGS:
            command = [sys.executable, __file__, "--one", name]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            figures[name].append(json.loads(output.splitlines()[-1]))
    print(f"{'tokens per second (median of ' + str(arguments.repeats) + ')':<44}{'rollout':>9}{'learn':>9}")
    for name, runs in figures.items():
        parts = [statistics.median(run[part] for run in runs) for part in ("rollout", "learn")]
        print(f"{name:<44}{parts[0]:>9.0f}{parts[1]:>9.0f}")


if __name__ == "__main__":
    main()
