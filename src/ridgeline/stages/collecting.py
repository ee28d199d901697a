"""Sampling many prompts in parts that survive an interruption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ridgeline.rollout.request import PromptRequest
from ridgeline.rollout.store import read_samples, write_samples
from ridgeline.schema.errors import Interrupted
from ridgeline.schema.records import Sample
from ridgeline.schema.stages.common import Sampling
from ridgeline.stages.context import StageContext
from ridgeline.training.local import LocalEngine

COMPLETIONS_PER_PART = 256


def sample_in_parts(
    context: StageContext,
    engine: LocalEngine,
    role: str,
    requests: Sequence[PromptRequest],
    sampling: Sampling,
    folder: Path,
    score: Callable[[list[Sample]], None],
) -> list[Sample]:
    """All samples of ``requests``, scored; finished parts are read back instead of sampled again.

    Parts are the same whether interrupted or not, so the samples are too.
    """
    per_part = max(1, COMPLETIONS_PER_PART // max(request.samples for request in requests))
    starts = range(0, len(requests), per_part)
    samples: list[Sample] = []
    for number, start in enumerate(starts):
        path = folder / f"part-{number:04d}.parquet"
        if path.is_file():
            samples += read_samples(path)
            continue
        if context.stop.asked:
            context.run.event("interrupted", stage=context.folder.name, part=number)
            raise Interrupted(
                f"stopped in stage '{context.folder.name}' after part {number} of {len(starts)}, all saved. "
                f"Go on with: ridgeline resume {context.run.path}"
            )
        context.observer.phase(f"sampling {role}, part {number + 1} of {len(starts)}")
        part = engine.sample(role, requests[start : start + per_part], sampling, seed=context.seed, step=0)
        score(part)
        write_samples(path, part)
        samples += part
    return samples
