"""The rewards that a recipe can name without a module."""

from __future__ import annotations

BUILTIN: dict[str, str] = {
    "sentiment_sentence": "ridgeline.rewards.sentences:sentiment_sentence",
    "sentiment": "ridgeline.rewards.sentences:sentiment",
    "well_formed": "ridgeline.rewards.sentences:well_formed",
    "addition": "ridgeline.rewards.answers:addition",
    "exact_match": "ridgeline.rewards.answers:exact_match",
    "length": "ridgeline.rewards.controls:length",
    "random_coin": "ridgeline.rewards.controls:random_coin",
}
