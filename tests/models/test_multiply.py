"""Products in halves are the products."""

from __future__ import annotations

import pytest
import torch

from ridgeline.models import multiply as module
from ridgeline.models.multiply import multiply


@pytest.mark.parametrize(
    "shape", [(400, 1100, 97), (400, 1100, 2), (383, 1100, 64), (400, 1023, 64), (5, 7, 3)]
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_product_is_the_same_in_halves(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    rows, depth, columns = shape
    left, right = torch.randn(rows, depth, dtype=dtype), torch.randn(columns, depth, dtype=dtype).t()
    expected = left.double() @ right.double()
    tolerance = 0.01 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(
        multiply(left, right).double(), expected, rtol=tolerance, atol=tolerance * depth**0.5
    )


def test_only_narrow_deep_products_of_some_rows_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = []
    plain = torch.mm

    def spy(left: torch.Tensor, right: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        halves.append(tuple(out.shape))
        return plain(left, right, out=out)

    monkeypatch.setattr(module.torch, "mm", spy)
    for rows, depth, columns in [
        (384, 1024, 768),
        (383, 1024, 8),
        (1536, 1024, 8),
        (384, 1023, 8),
        (384, 1024, 769),
    ]:
        multiply(torch.ones(rows, depth).bfloat16(), torch.ones(depth, columns).bfloat16())
    assert halves == [(384, 384), (384, 384)]
