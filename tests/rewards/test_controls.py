from __future__ import annotations

import math
import random

from ridgeline.rewards.controls import COIN_SHARE, length, random_coin
from tests.rewards.samples import batch, make


def test_length_counts_completion_tokens() -> None:
    assert length([make(tokens=0), make(tokens=7)]) == [0.0, 7.0]


def test_coin_has_its_share_and_is_independent_of_order() -> None:
    samples = batch(500, 8)
    coins = random_coin(samples)
    share = sum(coin or 0.0 for coin in coins) / len(coins)
    assert abs(share - COIN_SHARE) < 4 * math.sqrt(COIN_SHARE * (1 - COIN_SHARE) / len(coins))
    order = random.Random(0).sample(range(len(samples)), len(samples))
    assert random_coin([samples[i] for i in order]) == [coins[i] for i in order]


def test_coin_depends_on_prompt_index_text_and_version() -> None:
    def tosses(**changes: object) -> list[float | None]:
        samples = [make(f"t{i}") for i in range(40)]
        for sample in samples:
            for key, value in changes.items():
                setattr(sample, key, value)
        return random_coin(samples)

    variants = [
        tosses(),
        tosses(prompt_id="q"),
        tosses(index=1),
        tosses(weight_version=1),
        random_coin([make(f"u{i}") for i in range(40)]),
    ]
    assert tosses() == variants[0]
    assert len({tuple(variant) for variant in variants}) == len(variants)
