"""Loss aggregation as the three papers print it, over lists of rows with only their valid tokens."""

from __future__ import annotations


def per_sequence(rows: list[list[float]]) -> float:
    """GRPO, Shao et al. 2024, equation 3: (1/G) sum_i (1/|o_i|) sum_t."""
    kept = [row for row in rows if row]
    return sum(sum(row) / len(row) for row in kept) / len(kept) if kept else 0.0


def per_token(rows: list[list[float]]) -> float:
    """DAPO, Yu et al. 2025, equation 8: 1/sum_i |o_i| sum_i sum_t."""
    tokens = [value for row in rows for value in row]
    return sum(tokens) / len(tokens) if tokens else 0.0


def fixed_length(rows: list[list[float]], length: int) -> float:
    """Dr. GRPO, Liu et al. 2025, listing 1: masked sum over tokens / max tokens, mean over sequences."""
    kept = [row for row in rows if row]
    return sum(sum(row) / length for row in kept) / len(kept) if kept else 0.0
