"""Small stages of every type that aligns, distils, selects or merges, over the tiny world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.stages import recipes
from tests.stages.recipes import FAST, SAMPLING, Table

SPREAD = "spread"


def preference(**changes: Any) -> Table:
    """4 steps on 12 pairs."""
    base = {"name": "dpo", "type": "preference", "data": "pairs.jsonl", "heldout": 0.25, "pairs_per_step": 3}
    return {**base, "optimiser": FAST, "evaluate_every": 2, "checkpoint_every": 100, **changes}


def online(world: Path, **changes: Any) -> Table:
    """3 rollouts of 4 prompts with 3 samples each; options of the table ``online`` by their own names."""
    own = {key: changes.pop(key) for key in ("name", "objective", "adapter", "refresh") if key in changes}
    table = {"prompts": "prompts.jsonl", "heldout": "heldout.jsonl", "steps": 3, "prompts_per_step": 4}
    table |= {"samples_per_prompt": 3, "sampling": SAMPLING, "evaluation_samples": 2}
    if changes.get("method") != "d2po":
        table["reward"] = [recipes.reward(world, SPREAD)]
    base = {"name": "online", "type": "preference", "optimiser": FAST, "evaluate_every": 1}
    return {**base, "checkpoint_every": 100, **own, "online": {**table, **changes}}


def unpaired(**changes: Any) -> Table:
    """3 steps on 12 completions."""
    base = {"name": "kto", "type": "unpaired", "data": "labelled.jsonl", "heldout": 0.25, "rows_per_step": 4}
    return {**base, "optimiser": FAST, "evaluate_every": 1, "checkpoint_every": 100, **changes}


def distill(**changes: Any) -> Table:
    """3 batches of 4 demonstrations."""
    base = {"name": "imitate", "type": "distill", "mode": "offline", "teacher": "dpo", "steps": 3}
    data = {"data": "demonstrations.jsonl", "heldout": 0.25, "rows_per_step": 4}
    return {**base, **data, "optimiser": FAST, "evaluate_every": 1, "checkpoint_every": 100, **changes}


def reject(world: Path, **changes: Any) -> Table:
    """The best of 3 completions of 6 prompts, with a control."""
    base = {"name": "best", "type": "reject", "prompts": "prompts.jsonl", "heldout": "heldout.jsonl"}
    given = {"reward": [recipes.reward(world, SPREAD)], "monitor": ["length"], "sampling": SAMPLING}
    size = {"samples_per_prompt": 3, "rows_per_step": 3, "evaluation_samples": 2, "allow_truncated": True}
    return {**base, **given, **size, "optimiser": FAST, "checkpoint_every": 100, **changes}


def merge(world: Path, **changes: Any) -> Table:
    """Half of one model and half of another, compared with the first."""
    base = {"name": "soup", "type": "merge", "models": ["dpo", "kto"], "heldout": "heldout.jsonl"}
    given = {"rewards": [recipes.reward(world, SPREAD)], "sampling": SAMPLING, "samples_per_prompt": 2}
    return {**base, **given, **changes}


def every_stage(world: Path) -> list[Table]:
    """All of them in one recipe, with a judge, and a coin as the control of the stage ``online``."""
    spread = recipes.reward(world, SPREAD)
    discriminator = {"start": "judge", "gold": spread, "every": 1, "pairs": 4, "updates": 2}
    own = {"mode": "on_policy", "data": "prompts.jsonl", "sampling": SAMPLING, "teacher": "online"}
    return [
        preference(),
        preference(name="simpo", objective="simpo", adapter={"rank": 2}),
        unpaired(),
        recipes.reward_model(evaluate_every=0),
        online(world),
        online(world, name="coin", reward=["random_coin"], monitor=[spread]),
        online(world, name="taught", method="d2po", discriminator=discriminator, monitor=[spread]),
        online(world, name="nash", method="nash_md", samples_per_prompt=2),
        distill(),
        distill(name="own", **own),
        reject(world, preferences="best_worst", repeat=2),
        merge(world),
    ]
