"""The numbers behind the lessons: measured for a seed (`compute`), or read off a live world (`live`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ridgeline.landscape.lessons.numbers import (
    clip,
    credit,
    entropy,
    group,
    hacking,
    judging,
    leash,
    path,
    ruler,
    sea_level,
    trust_region,
    value,
)
from ridgeline.landscape.lessons.numbers.lines import lines
from ridgeline.landscape.world.live import World

__all__ = ["compute", "lines", "live"]

Numbers = dict[str, float]

_COMPUTE: Mapping[int, Callable[[int], Numbers]] = MappingProxyType(
    {
        1: path.compute,
        2: value.compute,
        3: sea_level.compute,
        4: credit.compute,
        5: clip.compute,
        6: trust_region.compute,
        7: group.compute,
        8: leash.compute,
        9: hacking.compute,
        10: entropy.compute,
        11: judging.compute,
        12: ruler.compute,
    }
)
_LIVE: Mapping[int, Callable[[World], Numbers]] = MappingProxyType(
    {
        1: path.live,
        2: value.live,
        3: sea_level.live,
        4: credit.live,
        5: clip.live,
        6: trust_region.live,
        7: group.live,
        8: leash.live,
        9: hacking.live,
        10: entropy.live,
        11: judging.live,
        12: ruler.live,
    }
)


def compute(number: int, seed: int) -> Numbers:
    """Every number that the formula of a lesson names, and what its claim rests on, for one seed."""
    return _COMPUTE[number](seed)


def live(number: int, world: World) -> Numbers:
    """Those of the numbers that the world, as it is now, has to give; takes a few milliseconds."""
    return _LIVE[number](world)
