from __future__ import annotations

import numpy as np
import pytest

from ridgeline.statistics.inputs import group, number_labels, numbers


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([], "values is empty"),
        ([1.0, float("nan")], r"values\[1\] is not a finite number"),
        ([None, 1.0], r"values\[0\] is not a finite number"),
        ([[1.0, 2.0], [1.0]], "rows of equal length"),
        ([[[1.0]]], r"its shape is \(1, 1, 1\)"),
        (["good"], "plain numbers"),
    ],
)
def test_bad_values_are_refused_with_a_sentence(values: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        group(values, None)  # type: ignore[arg-type]


def test_labels_of_any_kind_are_numbered_in_order_of_appearance() -> None:
    codes, labels = number_labels(["b", 7, "b", ("a", 1)], 4)
    assert codes.tolist() == [0, 1, 0, 2]
    assert labels == ("b", 7, ("a", 1))


def test_flat_and_rectangular_layouts_are_the_same_groups() -> None:
    values_PG = np.arange(6.0).reshape(2, 3)
    flat = group(values_PG.ravel()[::-1], [1, 1, 1, 0, 0, 0])
    assert group(values_PG, None).means_P.tolist() == [1.0, 4.0]
    assert flat.means_P.tolist() == [4.0, 1.0]
    assert [part.tolist() for part in flat.members()] == [[0, 1, 2], [3, 4, 5]]


def test_uneven_and_interleaved_groups() -> None:
    grouped = group([1.0, 10.0, 3.0, 5.0], ["x", "y", "x", "x"])
    assert grouped.means_P.tolist() == [3.0, 10.0]
    assert [part.tolist() for part in grouped.members()] == [[0, 2, 3], [1]]


def test_labels_must_match_and_stay_out_of_a_table() -> None:
    with pytest.raises(ValueError, match="2 entries and clusters has 1"):
        group([1.0, 2.0], ["x"])
    with pytest.raises(ValueError, match="already"):
        group([[1.0, 2.0]], ["x"])


def test_numbers_keeps_booleans_and_integers_as_float64() -> None:
    assert numbers([True, False], "values").dtype == np.float64
