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
annotator = { gold = "GOLD:gold" }
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
# A gold reward without ties, so that every pair has a better side.
GOLD = """
def gold(samples):
    return [sum(i * (n + 1) for n, i in enumerate(sample.completion_ids)) % 97 / 97 for sample in samples]
"""


def write_tiny_recipe(folder: Path, *, whole: bool = False) -> Path:
    """``recipe.toml`` in ``folder`` with its model and data: SFT alone, or all five kinds of stage."""
    make_tiny_model(folder / "model")
    write_demonstrations(folder / "demonstrations.jsonl")
    write_prompts(folder / "prompts.jsonl")
    write_preferences(folder / "pairs.jsonl")
    path = folder / "recipe.toml"
    gold = folder / "gold.py"
    gold.write_text(GOLD, encoding="utf-8")
    rest = REST.replace("GOLD", str(gold.resolve())) if whole else ""
    path.write_text(SFT + rest, encoding="utf-8")
    return path
