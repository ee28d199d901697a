"""Synthetic states with a known structure: topics, a reward direction, a drift. And run folders of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ridgeline.landscape.maps.axes import Evidence
from ridgeline.landscape.maps.centring import Reference
from ridgeline.rollout.features import write_features
from ridgeline.rollout.store import write_samples
from ridgeline.schema.records import Sample

WIDTH = 24


@dataclass
class Made:
    """N samples: reference (frame 0) and one policy (frame 1) on the same prompts."""

    states_NH: np.ndarray
    reward_N: np.ndarray
    prompt_N: np.ndarray
    frame_N: np.ndarray

    @property
    def reference(self) -> Reference:
        return Reference.of(self.prompt_N, self.frame_N == 0)

    def evidence(self) -> Evidence:
        reference = self.reference
        return Evidence(
            states_NH=reference.centre(self.states_NH, stretch=True),
            raw_NH=self.states_NH,
            reward_N=reference.centre(self.reward_N, stretch=True),
            reference=reference,
            frame_N=self.frame_N,
            fitting_N=self.prompt_N % 2 == 0,
            fitting="half of the prompts",
        )


def made(
    prompts: int = 40, each: int = 12, *, topics: float = 5.0, shift: float = 0.0, seed: int = 0
) -> Made:
    """Reward is coordinate 9, whose spread (1) is far below that of coordinates 0 to 2 (4, 3.5, 3).

    The policy is moved along coordinate 9 by ``shift``. ``topics`` is how far prompts lie apart.
    """
    generator = np.random.default_rng(seed)
    count = prompts * each * 2
    spread = np.full(WIDTH, 0.5)
    spread[[0, 1, 2, 9]] = 4.0, 3.5, 3.0, 1.0
    prompt_N = np.tile(np.repeat(np.arange(prompts), each), 2)
    frame_N = np.repeat([0, 1], prompts * each)
    within = generator.normal(size=(count, WIDTH)) * spread
    within[:, 9] += shift * frame_N
    reward = within[:, 9] + 0.3 * generator.normal(size=count)
    centre = topics * generator.normal(size=(prompts, WIDTH))
    level = topics * generator.normal(size=prompts)
    return Made(within + centre[prompt_N], reward + level[prompt_N], prompt_N, frame_N)


def write_run(folder: Path, data: Made, *, kl: float) -> Path:
    """A run folder of one rl stage whose samples have these states and rewards, with features saved."""
    stage = folder / "stages" / "01-policy"
    config = {
        "type": "rl",
        "name": "policy",
        "model": "base",
        "prompts": "p.jsonl",
        "reward": [{"function": "proxy_reward", "weight": 1.0}],
        "monitor": [{"function": "truth", "weight": 1.0}],
    }
    stage.mkdir(parents=True)
    recipe = {"name": "made", "model": str(folder / "no-model"), "stage": [config]}
    (folder / ".recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    lines = []
    for frame, nats in ((0, 0.0), (1, kl)):
        places = np.flatnonzero(data.frame_N == frame)
        samples = [_sample(data, place, number) for number, place in enumerate(places.tolist())]
        name = f"evaluation-{frame:06d}"
        write_samples(stage / "samples" / f"{name}.parquet", samples)
        states = [np.repeat(data.states_NH[place][None], 4, axis=0) for place in places]
        keys = [(sample.prompt_id, sample.index) for sample in samples]
        write_features(stage / "features" / f"{name}.npz", keys, states)
        lines.append({"step": frame, "rollout": frame, "kl_k1": {"value": nats, "low": 0, "high": nats}})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (stage / "evaluations.jsonl").write_text(text, encoding="utf-8")
    return folder


def _sample(data: Made, place: int, number: int) -> Sample:
    reward = float(data.reward_N[place])
    return Sample(
        prompt_id=f"p{data.prompt_N[place]}",
        index=number,
        prompt_ids=[1, 2],
        completion_ids=[3, 4, 5, 6],
        logprobs=[-1.0] * 4,
        generated=[True] * 4,
        stop_reason="stop",
        text="made",
        weight_version=int(data.frame_N[place]),
        rewards={"proxy_reward": reward, "truth": -reward, "total": reward},
    )
