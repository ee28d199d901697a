"""Products by our kernel are the products, and only those that it forms faster go there."""

from __future__ import annotations

import pytest
import torch

from ridgeline.models import multiply as module
from ridgeline.models.multiply import multiply


@pytest.mark.parametrize(
    "shape", [(400, 1100, 97), (400, 1100, 2), (383, 1100, 64), (400, 511, 64), (5, 7, 3)]
)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_product_is_the_same_whoever_forms_it(
    shape: tuple[int, int, int], dtype: torch.dtype, turned: bool
) -> None:
    rows, depth, columns = shape
    left, right = torch.randn(rows, depth, dtype=dtype), torch.randn(depth, columns, dtype=dtype)
    if turned:
        right = right.t().contiguous().t()
    expected = left.double() @ right.double()
    tolerance = 0.01 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(
        multiply(left, right).double(), expected, rtol=tolerance, atol=tolerance * depth**0.5
    )


def test_only_narrow_deep_products_of_some_rows_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = []

    def spy(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        ours.append((len(left), *right.shape))
        return left @ right

    monkeypatch.setattr(module, "broad_product", spy)
    monkeypatch.setattr(module, "has_products", lambda like: like.dtype == torch.bfloat16)
    for rows, depth, columns in [
        (384, 512, 768),
        (383, 512, 8),
        (1400, 512, 8),
        (384, 511, 8),
        (384, 512, 769),
    ]:
        multiply(torch.zeros(rows, depth).bfloat16(), torch.zeros(depth, columns).bfloat16())
    multiply(torch.zeros(384, 512), torch.zeros(512, 8))
    multiply(torch.zeros(512, 384).bfloat16().t(), torch.zeros(512, 8).bfloat16())
    multiply(torch.zeros(384, 512).bfloat16(), torch.zeros(1024, 16).bfloat16()[::2, ::2])
    assert ours == [(384, 512, 768)]
