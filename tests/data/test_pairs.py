from __future__ import annotations

import pytest

from ridgeline.data.formats import preferences, prompt_id
from ridgeline.data.pairs import IDENTICAL, build_pairs
from ridgeline.data.supervised import TOO_LONG
from ridgeline.schema.errors import DataError

ROWS = [
    {"prompt": "One?", "chosen": "Yes.", "rejected": "The cat sat on the mat.", "prompt_id": "own"},
    {"prompt": "One?", "chosen": "Yes.", "rejected": "Yes."},
    {"prompt": "Two?", "chosen": "The river is wide. " * 5, "rejected": "No."},
]


def test_units_hold_chosen_first_and_share_the_prompt(chatml):
    data = build_pairs(preferences(ROWS[:1], "f"), chatml)
    chosen, rejected = data.units[0]
    assert (chosen.values, rejected.values) == ({"label": 1.0}, {"label": 0.0})
    assert chosen.prefix == rejected.prefix > 0
    assert (chosen.ids[: chosen.prefix] == rejected.ids[: chosen.prefix]).all()
    assert (
        chatml.decode(chosen.ids[: chosen.prefix])
        == "<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n"
    )
    for row, text in ((chosen, "Yes."), (rejected, "The cat sat on the mat.")):
        assert chatml.decode(row.ids[row.targets]) == text + "<|im_end|>"
        assert row.targets.tolist() == list(range(row.prefix, len(row)))


def test_prefix_is_shared_though_tokens_would_merge_with_one_side(merging):
    rows = [{"prompt": "One?", "chosen": "\n\nYes.", "rejected": "No."}]
    chosen, rejected = build_pairs(preferences(rows, "f"), merging).units[0]
    assert chosen.prefix == rejected.prefix
    assert (chosen.ids[: chosen.prefix] == rejected.ids[: chosen.prefix]).all()
    assert merging.decode(chosen.ids[chosen.targets]) == "\n\nYes.<|im_end|>"


def test_prompt_ids_for_the_split(chatml):
    items = preferences([ROWS[0], ROWS[2]], "f")
    assert build_pairs(items, chatml).prompt_ids == ["own", prompt_id(items[1].prompt)]


def test_identical_and_overlong_pairs_are_counted(chatml):
    items = preferences(ROWS, "f")
    limit = max(len(row) for row in build_pairs(items[:1], chatml).units[0])
    data = build_pairs(items, chatml, max_length=limit)
    assert len(data.units) == 1 and data.source == [0]
    assert data.dropped == {IDENTICAL: 1, TOO_LONG: 1} and data.left_out == {1: IDENTICAL, 2: TOO_LONG}
    with pytest.raises(DataError, match=r"f, row 3: \d+ tokens, but max_length is"):
        build_pairs(items, chatml, max_length=limit, overlong="error", where="f")


def test_an_unfinished_side_differs_from_a_finished_one(chatml):
    rows = [{"prompt": "q", "chosen": "Yes", "rejected": "Yes", "rejected_stopped": False}]
    chosen, rejected = build_pairs(preferences(rows, "f"), chatml).units[0]
    assert chosen.ids[-1] == chatml.eos_token_id
    assert chosen.ids[:-1].tolist() == rejected.ids.tolist()


def test_no_pair_left_is_an_error(chatml):
    with pytest.raises(DataError, match=r"f: no pair is left .*1 chosen and rejected are the same tokens"):
        build_pairs(preferences(ROWS[1:2], "f"), chatml, where="f")
