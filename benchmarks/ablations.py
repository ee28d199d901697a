"""What each optimisation of a training step and of the sampler is worth: all of them, and all but one.

    python benchmarks/ablations.py [--repeats 5] [--json]

One process, the embedded model, the same inputs for every variant, which take turns; the median of the
repeats counts. A variant switches one thing off by the seam at which the library itself would fall back. The
mean difference of log-probs from those of the full path shows that the work is the same up to rounding. The
allocator is set before anything else, so its variants are processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

PROMPTS, SAMPLES, PROMPT_TOKENS, NEW_TOKENS = 8, 8, 45, 64
MODULES = "ridgeline.models"


def patched(**places: Any) -> Callable[[], Any]:
    """A context in which ``module__name`` of ``ridgeline.models`` is something else."""

    @contextmanager
    def context() -> Iterator[None]:
        with ExitStack() as stack:
            for place, value in places.items():
                module, name = place.split("__", 1)
                stack.enter_context(mock.patch(f"{MODULES}.{module}.{name}", value))
            yield

    return context


def nothing(*_: Any, **__: Any) -> None:
    return None


TRAINING: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "all": (patched(), {}),
    "micro-batches of 1,024 tokens": (patched(), {"tokens": 1024}),
    "micro-batches of 4,608 tokens": (patched(), {"tokens": 4608}),
    "prompt repeated for each completion": (patched(), {"alone": True}),
    "head by torch": (patched(forward__plain_head=nothing), {}),
    "gradients added up by autograd": (
        patched(products__gradient_sum=nothing, scored_head__gradient_sum=nothing),
        {},
    ),
    "transformers' layers, text by text": (patched(forward__fused_body=nothing), {}),
    "transformers' layers under a mask": (patched(forward__allowed=lambda backbone: False), {}),
    "transformers' layers, padded": (patched(), {"packed": False}),
    "plain: padded, transformers' layers, head by torch": (
        patched(forward__plain_head=nothing),
        {"packed": False},
    ),
}


class Bench:
    """The model, one batch of RL, and one batch of demonstrations."""

    def __init__(self) -> None:
        import numpy as np
        import torch

        from ridgeline.models.batch import completion_row
        from ridgeline.models.embedded import EMBEDDED_NAME
        from ridgeline.models.hardware import resolve_dtype
        from ridgeline.models.load import load_model
        from ridgeline.schema.stages.common import Optimiser
        from ridgeline.training.allocator import tune_allocator
        from ridgeline.training.optimiser import MasterAdamW

        self.allocator = tune_allocator()
        self.model = load_model(EMBEDDED_NAME, dtype=resolve_dtype("auto", torch.device("cpu")))
        self.optimiser = MasterAdamW(self.model.module, Optimiser())
        draw = np.random.default_rng(0)
        self.prompts = [draw.integers(3, 49000, PROMPT_TOKENS).tolist() for _ in range(PROMPTS)]
        self.units = [
            [completion_row(prompt, draw.integers(3, 49000, NEW_TOKENS).tolist()) for _ in range(SAMPLES)]
            for prompt in self.prompts
        ]

    def train(self, *, tokens: int = 2048, packed: bool = True, alone: bool = False) -> Any:
        """Forward and backward passes over the batch, gradients in float32; log-probs of the first unit."""
        from ridgeline.models.batch import MicroBatch, split
        from ridgeline.models.forward import token_scores

        units = [[row] for unit in self.units for row in unit] if alone else self.units
        for indices in split(units, tokens, packed=packed):
            batch = MicroBatch.of([units[index] for index in indices])
            logp_BN = token_scores(self.model.module, batch, packed=packed)["logp"]
            logp_BN.sum().backward()
            self.optimiser.accumulate()
            if 0 in indices:
                start = sum(len(units[index]) for index in indices[: indices.index(0)])
                first = logp_BN.detach()[start]
        self.optimiser.forget_gradients()
        return first

    def sample(self, sampler: Any) -> int:
        """64 completions of 64 tokens; tokens made."""
        from ridgeline.rollout.request import PromptRequest
        from ridgeline.schema.stages.common import Sampling

        requests = [PromptRequest(str(n), prompt, SAMPLES) for n, prompt in enumerate(self.prompts)]
        samples = sampler(requests, Sampling(max_new_tokens=NEW_TOKENS), seed=0, step=0)
        return sum(len(sample.completion_ids) for sample in samples)

    def samplers(self) -> dict[str, tuple[Callable[[], Any], Any]]:
        """Each with the context it runs in; nothing stops early."""
        from ridgeline.rollout.native import decoder
        from ridgeline.rollout.native.decoder import NativeDecoder
        from ridgeline.rollout.native.sampler import NativeSampler
        from ridgeline.rollout.plain import PlainSampler

        plain = PlainSampler(self.model.module, self.model.tokenizer, stop_ids=[])
        native = NativeSampler(plain, NativeDecoder(self.model.module))
        narrow = NativeSampler(plain, NativeDecoder(self.model.module), slots=16)
        with mock.patch.object(decoder, "fits", lambda body, dtype: False):
            apart = NativeSampler(plain, NativeDecoder(self.model.module))
        return {
            "native sampler": (patched(), native),
            "native sampler, operation by operation": (patched(), apart),
            "native sampler, 16 slots": (patched(), narrow),
            "native sampler, kernels in torch": (patched(**{"kernels.ops__kernel": nothing}), apart),
            "plain sampler": (patched(), plain),
        }


def turns(variants: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each; the first turn warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in seconds.items()}


def measure(repeats: int, only_full: bool) -> dict[str, Any]:
    """Everything, or (for the allocator's sake) the full path alone."""
    bench = Bench()

    def training(name: str) -> Callable[[], Any]:
        context, options = TRAINING[name]

        def run() -> Any:
            with context():
                return bench.train(**options)

        return run

    names = ["all"] if only_full else list(TRAINING)
    seconds = turns({name: training(name) for name in names}, repeats)
    full = training("all")()
    gaps = {name: float((training(name)() - full).abs().mean()) for name in names}
    samplers = bench.samplers()

    def sampling(name: str) -> Callable[[], Any]:
        context, sampler = samplers[name]

        def run() -> Any:
            with context():
                return bench.sample(sampler)

        return run

    kinds = ["native sampler"] if only_full else list(samplers)
    sampled = turns({name: sampling(name) for name in kinds}, repeats)
    return {"allocator": bench.allocator, "training": seconds, "gaps": gaps, "sampling": sampled}


def main() -> None:
    """Print two tables: seconds, and how much longer than with everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", choices=["whole", "full"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.repeats, options.one == "full")))
        return
    found = child("whole", options.repeats)
    stock = child("full", options.repeats, RIDGELINE_ALLOCATOR="stock")
    found["training"]["allocator of glibc as it is"] = stock["training"]["all"]
    found["sampling"]["allocator of glibc as it is"] = stock["sampling"]["native sampler"]
    if options.json:
        print(json.dumps(found, indent=1))
        return
    for part in ("training", "sampling"):
        seconds = found[part]
        base = next(iter(seconds.values()))
        print(f"| {part} | seconds | times as long | mean difference of log-probs, nats |")
        print("| --- | --- | --- | --- |")
        for name, value in seconds.items():
            gap = found["gaps"].get(name) if part == "training" else None
            print(f"| {name} | {value:.2f} | {value / base:.2f} | {'' if gap is None else f'{gap:.3f}'} |")
        print()


def child(what: str, repeats: int, **environment: str) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--one", what, "--repeats", str(repeats)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
