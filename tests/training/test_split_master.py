from __future__ import annotations

import struct

import pytest
import torch

from ridgeline.training import split_master as module_of_split
from ridgeline.training.split_master import chunks, join_master, split_master

LARGEST = torch.finfo(torch.float32).max
EDGES = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    LARGEST,
    -LARGEST,
    float("inf"),
    float("-inf"),
    1e-45,
    -1e-45,
    1.17e-38,
    3.39e38,
]


def split(master: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    working = torch.empty_like(master, dtype=torch.bfloat16)
    rest = torch.empty_like(master, dtype=torch.int16)
    split_master(master, working, rest)
    return working, rest


def patterns() -> torch.Tensor:
    """Numbers of every kind: random bits, denormal ones, both sides of ties, the ends of the range."""
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (200_000,), generator=generator, dtype=torch.int64)
    high = torch.randint(0, 2**16, (20_000,), generator=generator, dtype=torch.int64) << 16
    near = torch.cat([high + low for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)])
    small = torch.randint(0, 2**23, (20_000,), generator=generator, dtype=torch.int64)
    numbers = torch.cat([bits, near, small, small - 2**31]).to(torch.int32).view(torch.float32)
    return torch.cat([numbers[numbers.isfinite()], torch.tensor(EDGES)])


def test_joining_is_the_inverse_bit_for_bit() -> None:
    master = patterns()
    assert len(master) > 300_000 and bool((master.abs() < 1.17e-38).any())
    joined = join_master(*split(master))
    assert torch.equal(joined.view(torch.int32), master.view(torch.int32))


def test_the_working_weight_is_the_nearest_and_of_two_the_larger() -> None:
    """torch rounds to the nearest too, and of two to the even one."""
    master = patterns()
    working, _ = split(master)
    tie = (master.view(torch.int32) & 0xFFFF) == 0x8000
    assert torch.equal(working[~tie], master[~tie].bfloat16())
    ties, found = master[tie & (master.abs() < 3.3e38)], working[tie & (master.abs() < 3.3e38)]
    assert len(ties) > 10_000
    below = (ties.view(torch.int32) & -65536).view(torch.float32)
    assert torch.equal(found.double().abs(), 2 * ties.double().abs() - below.double().abs())


def test_by_hand() -> None:
    for number, working, rest in [
        (0x3F800000, 0x3F80, 0),
        (0x3F807FFF, 0x3F80, 0x7FFF),
        (0x3F808000, 0x3F81, -0x8000),
        (0x3F80FFFF, 0x3F81, -1),
        (0x80000000, 0x8000, 0),
        (0x7F7FFFFF, 0x7F80, -1),  # the largest of all is nearer to infinity than to any bfloat16
        (0x7F7F7FFF, 0x7F7F, 0x7FFF),
    ]:
        (value,) = struct.unpack("<f", struct.pack("<I", number))
        found = split(torch.tensor([value]))
        assert int(found[0].view(torch.int16)) & 0xFFFF == working
        assert int(found[1]) == rest


@pytest.mark.parametrize("bits", [0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0xFF800001, 0xFFFF8000, 0xFFFFFFFF])
def test_what_is_not_a_number_stays_so(bits: int) -> None:
    """Also those whose bits would become a zero when they are rounded up."""
    master = torch.tensor([bits - 2**32 if bits >= 2**31 else bits], dtype=torch.int32).view(torch.float32)
    working, rest = split(master)
    assert bool(working.isnan()) and bool(join_master(working, rest).isnan())


@pytest.mark.parametrize("shape", [(), (1,), (7,), (5, 3), (0, 4), (2, 3, 4)])
@pytest.mark.parametrize("size", [1, 4, 1000])
def test_chunks_are_views_that_cover_everything_once(
    shape: tuple[int, ...], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_of_split, "_CHUNK", size)
    first, second = torch.zeros(shape), torch.zeros(shape, dtype=torch.int16)
    for one, other in chunks(first, second):
        assert one.shape == other.shape
        assert one.numel() <= max(size, first.numel() // max(1, len(first) if first.ndim else 1))
        one.add_(1)
        other.add_(1)
    assert bool((first == 1).all()) and bool((second == 1).all())


def test_matrices_that_lie_across_are_split_as_well() -> None:
    master = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).T
    working, rest = split(master)
    assert not working.is_contiguous()
    assert torch.equal(join_master(working, rest), master)
