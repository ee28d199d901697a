from __future__ import annotations

import io
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.models.families import group, mixed_units

from ridgeline.models.batch import (
    MicroBatch,
    Row,
    completion_row,
    pack_units,
    split,
    unit_tokens,
    unpack_units,
)


def test_a_completion_row_scores_exactly_the_completion() -> None:
    row = completion_row([5, 6, 7], [8, 9])
    assert row.ids.tolist() == [5, 6, 7, 8, 9]
    assert row.targets.tolist() == [3, 4]
    assert row.prefix == 3


def test_fields_are_padded_on_the_right_with_zero() -> None:
    rows = [completion_row([1, 2], [3, 4, 5]), completion_row([1], [2])]
    rows[0].fields["advantage"] = np.array([0.1, 0.2, 0.3], dtype=np.float32)
    rows[1].fields["advantage"] = np.array([0.4], dtype=np.float32)
    rows[0].values["label"], rows[1].values["label"] = 1.0, 0.0
    batch = MicroBatch.of([rows])
    expected = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.0, 0.0]])
    assert torch.equal(batch.field("advantage"), expected)
    assert torch.equal(batch.mask_BN, expected != 0)
    assert torch.equal(batch.target_ids(), torch.tensor([[3, 4, 5], [2, 0, 0]]))
    assert batch.value("label").tolist() == [1.0, 0.0]
    assert batch.unit_sizes == [2]


def test_a_field_of_the_wrong_length_is_refused() -> None:
    row = completion_row([1, 2], [3, 4, 5])
    row.fields["advantage"] = np.zeros(2, dtype=np.float32)
    with pytest.raises(ValueError, match="broadcast"):
        MicroBatch.of([[row]]).field("advantage")


def test_features_keep_the_order_of_rows() -> None:
    rows = [Row(np.array([1, 2]), np.array([1]), features=np.full(3, i, dtype=np.float32)) for i in range(4)]
    features = MicroBatch.of([rows[:2], rows[2:]]).features()
    assert torch.equal(features[:, 0], torch.arange(4.0))


def test_a_units_cost_counts_its_prefix_once() -> None:
    assert unit_tokens(group(10, [2, 3, 4], 1)) == 10 + 9
    assert unit_tokens(group(10, [2], 1)) == 12


@given(
    sizes=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=20),
    budget=st.integers(1, 120),
)
def test_split_covers_every_unit_once_and_respects_the_budget(sizes: list[list[int]], budget: int) -> None:
    units = [group(2, completions, seed) for seed, completions in enumerate(sizes)]
    batches = split(units, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(units)))
    for batch in batches:
        rows = [row for index in batch for row in units[index]]
        padded = len(rows) * max(len(row) for row in rows)
        assert padded <= budget or len(batch) == 1


def test_split_fills_micro_batches() -> None:
    """Equal units: as many per micro-batch as the budget holds, not one fewer."""
    units = [group(2, [3], seed) for seed in range(10)]
    assert [len(batch) for batch in split(units, 15)] == [3, 3, 3, 1]
    assert split([], 15) == []


def test_packed_units_come_back_bit_for_bit_through_a_safe_file() -> None:
    units = mixed_units()
    units[0][0].fields["old_logp"] = np.random.default_rng(0).normal(size=3).astype(np.float32)
    units[1][0].values["label"] = 0.25
    units[2][0].features = np.arange(4, dtype=np.float32)
    file = io.BytesIO()
    torch.save(pack_units(units), file)
    file.seek(0)
    restored = unpack_units(torch.load(file, weights_only=True))
    assert [len(unit) for unit in restored] == [len(unit) for unit in units]
    for before, after in zip(chain(*units), chain(*restored), strict=True):
        assert before.ids.tobytes() == after.ids.tobytes()
        assert before.targets.tobytes() == after.targets.tobytes()
        assert (before.prefix, before.values) == (after.prefix, after.values)
        assert {k: v.tobytes() for k, v in before.fields.items()} == {
            k: v.tobytes() for k, v in after.fields.items()
        }
        assert (before.features is None) == (after.features is None)
    assert restored[2][0].features is not None
    assert restored[2][0].features.tolist() == [0, 1, 2, 3]
