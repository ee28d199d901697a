"""Samples for tests of rewards and preferences."""

from __future__ import annotations

from typing import Any

from ridgeline.schema.records import Sample, StopReason


def make(
    text: str = "A cat.",
    prompt_id: str = "p0",
    index: int = 0,
    *,
    stop: StopReason = "stop",
    tokens: int = 5,
    **row: Any,
) -> Sample:
    return Sample(
        prompt_id=prompt_id,
        index=index,
        prompt_ids=[1, 2],
        completion_ids=list(range(tokens)),
        logprobs=[-0.5] * tokens,
        generated=[True] * tokens,
        stop_reason=stop,
        text=text,
        row=row,
    )


def batch(prompts: int = 2, per_prompt: int = 2) -> list[Sample]:
    """Prompt-major; texts are "p0/0", "p0/1", ..."""
    return [make(f"p{p}/{i}", f"p{p}", i) for p in range(prompts) for i in range(per_prompt)]
