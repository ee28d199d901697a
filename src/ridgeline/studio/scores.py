"""Rewards of stored samples, per prompt."""

from __future__ import annotations

import numpy as np

from ridgeline.studio.safe import Problem
from ridgeline.studio.sample_files import SampleFile, column
from ridgeline.studio.sample_step import rewards_of
from ridgeline.studio.samples import Samples
from ridgeline.studio.stage_reader import StageReader


def prompt_rewards(samples: Samples, stage: StageReader, file: SampleFile) -> dict[str, dict[str, float]]:
    """Reward name -> prompt -> mean over the prompt's samples; empty where the file cannot be read."""
    try:
        table = samples.tables.read(stage.root, file.path, ("prompt_id", "rewards"))
    except Problem:
        return {}
    values: dict[str, dict[str, list[float]]] = {}
    pairs = zip(column(table, "prompt_id"), column(table, "rewards"), strict=True)
    for prompt, stored in pairs:
        for name, value in rewards_of(stored).items():
            if value is not None:
                values.setdefault(name, {}).setdefault(str(prompt), []).append(value)
    return {
        name: {prompt: float(np.mean(each)) for prompt, each in prompts.items()}
        for name, prompts in values.items()
    }


def prompt_means(samples: Samples, stage: StageReader, file: SampleFile, reward: str) -> dict[str, float]:
    """Prompt -> mean of one reward."""
    return prompt_rewards(samples, stage, file).get(reward, {})
