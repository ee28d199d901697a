from __future__ import annotations

import pytest

from ridgeline.data.formats import prompt_id
from ridgeline.data.outcomes import build_outcomes, outcomes
from ridgeline.data.supervised import TOO_LONG
from ridgeline.schema.errors import DataError

ROW = {"prompt": "One?", "completion": "Yes.", "label": True}


def test_every_completion_token_is_a_target_and_no_prompt_token(chatml):
    data = build_outcomes(outcomes([ROW, {**ROW, "label": 0, "stopped": False}], "f"), chatml)
    (right,), (cut,) = data.units
    assert chatml.decode(right.ids[right.targets]) == "Yes.<|im_end|>"
    assert right.targets.tolist() == list(range(right.prefix, len(right)))
    assert chatml.decode(cut.ids[cut.targets]) == "Yes."
    assert (right.values, cut.values) == ({"label": 1.0}, {"label": 0.0})


@pytest.mark.parametrize(
    ("label", "read"),
    [(True, 1.0), (False, 0.0), (1, 1.0), ("0", 0.0), ("true", 1.0), (0.25, 0.25), ("0.5", 0.5), (1.0, 1.0)],
)
def test_labels_as_people_store_them(label, read):
    assert outcomes([{**ROW, "label": label}], "f")[0].label == read


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"label": "good"}, "row 1, label: expected a number, got 'good'"),
        ({"label": -1}, r"row 1, label: -1 lies outside 0 \(wrong\) to 1 \(right\)"),
        ({"label": float("inf")}, "row 1, label: inf is not a finite number"),
        ({"label": None}, "column 'label' is missing"),
        ({"completion": ""}, "row 1, completion: it is empty"),
        ({"stopped": "perhaps"}, "row 1, stopped: expected true or false"),
    ],
)
def test_bad_rows_name_the_field(change, match):
    with pytest.raises(DataError, match=match):
        outcomes([{**ROW, **change}], "f")


def test_prompt_ids_and_overlong_rows(chatml):
    rows = [{**ROW, "prompt_id": "own"}, {**ROW, "completion": "The river is wide. " * 9}, ROW]
    items = outcomes(rows, "f")
    data = build_outcomes(items, chatml, max_length=40)
    assert data.prompt_ids == ["own", prompt_id(items[2].prompt)] and data.source == [0, 2]
    assert data.left_out == {1: TOO_LONG}
    with pytest.raises(DataError, match=r"f, row 2: \d+ tokens, but max_length is 40"):
        build_outcomes(items, chatml, max_length=40, overlong="error")
    with pytest.raises(DataError, match="f: no completion is left"):
        build_outcomes(items[1:2], chatml, max_length=40, where="f")
