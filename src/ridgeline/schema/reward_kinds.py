"""Kinds of reward models, by name: what they learn from, and how their scores become one number."""

from __future__ import annotations

from typing import Literal

RewardLoss = Literal[
    "bradley_terry", "grouped", "plackett_luce", "outcome", "pooled_outcome", "process", "process_3class"
]
RANKING_LOSSES = ("bradley_terry", "grouped", "plackett_luce")
"""Compare completions of one prompt; one score per completion."""
OUTCOME_LOSSES = ("outcome", "pooled_outcome")
"""Is the solution right? A probability after every token."""
PROCESS_LOSSES = ("process", "process_3class")
"""Is this step right? A probability at the end of every step."""

Combine = Literal["mean", "min", "mean_minus_spread"]
"""How several heads become one score."""
ScoreAggregate = Literal["last", "mean", "min", "product", "mean_last_m", "late", "pooled"]
"""How the probabilities of tokens or steps become one."""
