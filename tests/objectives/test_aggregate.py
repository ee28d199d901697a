from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import aggregate as oracle

from ridgeline.objectives.aggregate import aggregate, denominator
from ridgeline.objectives.axes import Aggregation

HOWS: list[tuple[Aggregation, int | None]] = [("token", None), ("sequence", None), ("fixed", 10)]
BOOK_ROWS = [[1.0, 1.0, 1.0, 1.0, 10.0], [1.0] * 9 + [10.0]]


def padded(rows: list[list[float]], fill: float = math.nan) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(1, max(len(row) for row in rows))
    values = torch.full((len(rows), width), fill, dtype=torch.float64)
    mask = torch.zeros(len(rows), width)
    for i, row in enumerate(rows):
        values[i, : len(row)] = torch.tensor(row, dtype=torch.float64)
        mask[i, : len(row)] = 1
    return values.requires_grad_(), mask


@pytest.mark.parametrize(
    ("how", "length", "value", "per_token"),
    [
        ("sequence", None, 2.35, (0.1, 0.05)),
        ("token", None, 2.20, (1 / 15, 1 / 15)),
        ("fixed", 10, 1.65, (0.05, 0.05)),
    ],
)
def test_the_worked_example(
    how: Aggregation, length: int | None, value: float, per_token: tuple[float, float]
) -> None:
    values, mask = padded(BOOK_ROWS)
    result = aggregate(values, mask, how, length)
    result.backward()
    assert result.item() == pytest.approx(value, abs=1e-12)
    assert values.grad is not None
    assert values.grad[0, :5].tolist() == pytest.approx([per_token[0]] * 5)
    assert values.grad[1].tolist() == pytest.approx([per_token[1]] * 10)
    assert values.grad[0, 5:].tolist() == [0.0] * 5


ROWS = st.lists(st.lists(st.floats(-50, 50), max_size=5), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows=ROWS)
def test_agrees_with_the_papers(rows: list[list[float]]) -> None:
    values, mask = padded(rows)
    assert aggregate(values, mask, "sequence").item() == pytest.approx(oracle.per_sequence(rows), abs=1e-12)
    assert aggregate(values, mask, "token").item() == pytest.approx(oracle.per_token(rows), abs=1e-12)
    fixed = aggregate(values, mask, "fixed", 7).item()
    assert fixed == pytest.approx(oracle.fixed_length(rows, 7), abs=1e-12)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows=ROWS, cut=st.integers(0, 5), choice=st.sampled_from(HOWS))
def test_micro_batches_add_up_to_the_whole(
    rows: list[list[float]], cut: int, choice: tuple[Aggregation, int | None]
) -> None:
    how, length = choice
    values, mask = padded(rows)
    whole = aggregate(values, mask, how, length)
    (whole_gradient,) = torch.autograd.grad(whole, values)
    parts = [(values[:cut], mask[:cut]), (values[cut:], mask[cut:])]
    count = sum(denominator(part_mask, how) for _, part_mask in parts)
    total = sum(
        (aggregate(part, part_mask, how, length, count) for part, part_mask in parts),
        torch.zeros((), dtype=torch.float64),
    )
    (total_gradient,) = torch.autograd.grad(total, values)
    assert total.item() == pytest.approx(whole.item(), abs=1e-9)
    torch.testing.assert_close(total_gradient, whole_gradient, rtol=0, atol=1e-12)
    as_tensor = aggregate(values, mask, how, length, torch.tensor(count))
    assert as_tensor.item() == pytest.approx(whole.item(), abs=1e-12)


@pytest.mark.parametrize(("how", "length"), HOWS)
@pytest.mark.parametrize("fill", [0.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("count", [None, 0, torch.tensor(0), 3])
def test_nothing_valid_is_a_finite_zero(
    how: Aggregation, length: int | None, fill: float, count: int | None
) -> None:
    values = torch.full((2, 3), fill, requires_grad=True)
    result = aggregate(values, torch.zeros(2, 3), how, length, count)
    result.backward()
    assert result.item() == 0
    assert values.grad is not None
    assert values.grad.tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize(("how", "length"), HOWS)
def test_a_fully_masked_row_changes_neither_value_nor_count(how: Aggregation, length: int | None) -> None:
    values, mask = padded(BOOK_ROWS)
    more, more_mask = padded([*BOOK_ROWS, []])
    assert aggregate(more, more_mask, how, length).item() == aggregate(values, mask, how, length).item()
    assert denominator(more_mask, how) == denominator(mask, how) == (15 if how == "token" else 2)


@pytest.mark.parametrize(("how", "length"), HOWS)
def test_boolean_and_numeric_masks_are_the_same(how: Aggregation, length: int | None) -> None:
    values, mask = padded(BOOK_ROWS)
    results = {aggregate(values, m, how, length).item() for m in (mask, mask.bool(), mask.long())}
    assert len(results) == 1


def test_losses_per_pair_reduce_as_tokens() -> None:
    assert aggregate(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([1, 1, 0])).item() == 1.5


@pytest.mark.parametrize(
    ("how", "length", "message"),
    [
        ("mean", None, "unknown aggregation 'mean'"),
        ("fixed", None, "needs a length"),
        ("fixed", 0, "needs a length"),
        ("token", 4, "does nothing"),
    ],
)
def test_refuses_what_cannot_work(how: Aggregation, length: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        aggregate(torch.zeros(1, 2), torch.ones(1, 2), how, length)


def test_refuses_shapes_that_would_broadcast() -> None:
    with pytest.raises(ValueError, match="same shape"):
        aggregate(torch.zeros(2, 3), torch.ones(2, 1))
    with pytest.raises(ValueError, match="batch, length"):
        aggregate(torch.zeros(3), torch.ones(3), "sequence")
