"""Whether the claim of a lesson holds for the numbers of one seed. The tolerances are those of the tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ridgeline.landscape.lessons.numbers.group import PATHS, SIZES
from ridgeline.landscape.lessons.numbers.judging import COUNTS

Numbers = Mapping[str, float]


def holds(number: int, numbers: Numbers) -> bool:
    """True where the numbers bear out the claim of lesson 1 to 12."""
    return _CLAIMS[number](numbers)


def _path(n: Numbers) -> bool:
    return abs(n["mean"] - n["exact"]) <= 3 * n["error"]


def _value(n: Numbers) -> bool:
    paid_less, worth_more = n["ravine_reward"] < n["hill_reward"] - 0.5, n["ravine_value"] > n["hill_value"]
    before = max(n["ravine_value_reference"], n["hill_value_reference"])
    return (
        paid_less
        and worth_more
        and n["ravine_value"] > n["ravine_reward"] + 10
        and before < n["hill_value"] / 2
    )


def _sea_level(n: Numbers) -> bool:
    drowned = n["cosine_0"] > 0.9 and n["cosine_1"] < 0.6 and abs(n["cosine_5"]) < 0.3
    return drowned and all(n[f"cosine_baseline_{level}"] > n["cosine_0"] - 0.05 for level in (0, 1, 5))


def _credit(n: Numbers) -> bool:
    return n["cosine_exact"] > n["cosine_time"] + 0.03 and n["cosine_exact_0"] > n["cosine_exact_1"]


def _clip(n: Numbers) -> bool:
    grown = n["kl_20"] > 2 * n["kl_1"] and n["kl_5"] > n["kl_20"]
    return grown and n["clip_1"] == 0 < n["clip_20"] and n["kl_open"] > 10 * n["kl_20"]


def _trust_region(n: Numbers) -> bool:
    better = n["gain_natural"] > 1.1 * n["gain_plain"] > 0
    return better and 0 < n["kl_step"] <= n["budget"] and n["promised"] > 1.1 * n["kept"]


def _group(n: Numbers) -> bool:
    shares = [n[f"dead_{size}"] for size in SIZES]
    # Two standard errors, and 0.03 because p is not the same at every start.
    near = all(
        abs(n[f"dead_{size}"] - n[f"expected_{size}"]) < 0.03 + 2 * (0.25 * size / PATHS) ** 0.5
        for size in SIZES
    )
    return near and shares == sorted(shares, reverse=True) and shares[0] > shares[-1] + 0.2


def _leash(n: Numbers) -> bool:
    longer = n["return"] > n["return_short"] and n["kl"] > n["kl_short"]
    return longer and n["objective"] <= n["optimum"] and n["objective_short"] <= n["optimum_short"]


def _hacking(n: Numbers) -> bool:
    rose, fell = n["gold_peak"] > n["gold_start"] + 5, n["gold_end"] < n["gold_start"] - 5
    return rose and fell and n["proxy_end"] > n["proxy_start"] + 20 and n["late_end"] < 0 < n["early_end"]


def _entropy(n: Numbers) -> bool:
    near = all(abs(n[name] - 13) < 1 for name in ("narrow", "bonus"))
    return near and n["wide"] > 20 and n["entropy_narrow"] < n["entropy_bonus"] < n["entropy_start"]


def _judging(n: Numbers) -> bool:
    few, many = COUNTS[0], COUNTS[-1]
    return n[f"gold_end_{many}"] > n[f"gold_end_{few}"] and n[f"agreement_{many}"] > n[f"agreement_{few}"]


def _ruler(n: Numbers) -> bool:
    steps = [n["kl_random"], n["kl_training"], n["kl_spread"]]
    return max(steps) > 5 * min(steps) > 0 and n["variance_walk"] > 0.6


_CLAIMS: Mapping[int, Callable[[Numbers], bool]] = MappingProxyType(
    {
        1: _path,
        2: _value,
        3: _sea_level,
        4: _credit,
        5: _clip,
        6: _trust_region,
        7: _group,
        8: _leash,
        9: _hacking,
        10: _entropy,
        11: _judging,
        12: _ruler,
    }
)
