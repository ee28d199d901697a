"""A whole pipeline on the tiny model: every stage type, a few steps each."""

from __future__ import annotations

from pathlib import Path

from tests.tiny import make_tiny_model, write_demonstrations, write_preferences, write_prompts

SFT = """
name = "tiny"
model = "model"
dtype = "float32"
[[stage]]
name = "sft"
type = "sft"
data = "demonstrations.jsonl"
rows_per_step = 4
"""
REST = """
[[stage]]
name = "pairs"
type = "collect"
model = "sft"
prompts = "prompts.jsonl"
pairs = 20
samples_per_prompt = 3
annotator = { gold = "random_coin" }
sampling = { max_new_tokens = 8 }
[[stage]]
name = "judge"
type = "reward_model"
model = "sft"
data = "pairs"
pairs_per_step = 4
heldout = 0.3
[[stage]]
name = "policy"
type = "rl"
model = "sft"
prompts = "prompts.jsonl"
heldout = "prompts.jsonl"
reward = ["judge"]
monitor = ["random_coin"]
kl = { coefficient = 0.05 }
steps = 2
prompts_per_step = 4
sampling = { max_new_tokens = 8 }
[[stage]]
name = "compare"
type = "evaluate"
models = ["base", "sft", "policy"]
prompts = "prompts.jsonl"
rewards = ["random_coin", "judge"]
sampling = { max_new_tokens = 8 }
"""


def write_tiny_recipe(folder: Path, *, whole: bool = False) -> Path:
    """``recipe.toml`` in ``folder`` with its model and data: SFT alone, or all five kinds of stage."""
    make_tiny_model(folder / "model")
    write_demonstrations(folder / "demonstrations.jsonl")
    write_prompts(folder / "prompts.jsonl")
    write_preferences(folder / "pairs.jsonl")
    path = folder / "recipe.toml"
    path.write_text(SFT + (REST if whole else ""), encoding="utf-8")
    return path
