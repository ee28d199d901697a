"""Every preset raises a reward that can be raised, and cannot raise a coin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ridgeline.objectives.presets import PRESETS
from tests.stages import learnable, recipes
from tests.stages.learnable import policy_stage, result_of

BINARY = '''

def mostly_even(samples):
    """1 where more than half of the tokens have an even id."""
    return [float(sum(i % 2 == 0 for i in s.completion_ids) > len(s.completion_ids) / 2) for s in samples]
'''
CRITIC = {"optimiser": {"learning_rate": 3e-3, "warmup": 0}}
CHANGES: dict[str, dict[str, Any]] = {
    "ppo": {"critic": CRITIC},
    # Completions are short here: the alpha of long ones would leave the first residual alone.
    "vapo": {"critic": CRITIC, "objective": {"preset": "vapo", "lam_length": 1.0}},
    "reinforce++": {"steps": 14},
    # Its baseline leaves more noise, and 0.05 a nat is dear where rewards lie between 0 and 1.
    "remax": {"kl": {"coefficient": 0.0}},
    "process_grpo": {"step_separator": "e"},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = learnable.make_tasks(recipes.make_world(tmp_path_factory.mktemp("world")), 1)
    with (folder / "tasks.py").open("a") as file:
        file.write(BINARY)
    return folder


def _stage(world: Path, preset: str, reward: str) -> dict[str, Any]:
    """Two passes over each rollout, so that ratios and what holds them have a part in it; one without."""
    passes = 1 if PRESETS[preset].ratio == "none" else 2
    size = {"steps": 20 // passes, "epochs_per_rollout": passes}
    changes = {"objective": preset, **size, **CHANGES.get(preset, {})}
    return policy_stage(world, f"{world / 'tasks.py'}:{reward}", **changes)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_raises_its_reward(world: Path, preset: str) -> None:
    reward = "mostly_even" if preset == "max_rl" else "even"
    result = result_of(world, f"up-{preset}", _stage(world, preset, reward))
    assert learnable.rose(result, f"{world / 'tasks.py'}:{reward}")


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_coin_teaches_no_preset_anything(world: Path, preset: str) -> None:
    """The negative control: the same updates, and the reward above is only watched."""
    even = f"{world / 'tasks.py'}:even"
    stage = {**_stage(world, preset, "even"), "reward": ["random_coin"], "monitor": [even]}
    result = result_of(world, f"coin-{preset}", stage)
    assert not learnable.rose(result, even)
