from __future__ import annotations

import pytest

from ridgeline.data.formats import Instruction, instructions
from ridgeline.data.supervised import NOTHING_LEFT, TOO_LONG, build
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Message

SHORT = {"prompt": "One?", "completion": "Yes."}
LONG = {"prompt": "Two?", "completion": "The cat sat on the mat. " * 4}
ASKS_MUCH = {"prompt": "The cat sat on the mat. " * 4, "completion": "Yes."}
ROWS = [SHORT, LONG, ASKS_MUCH]


def spelled(tokenizer, row) -> str:
    return tokenizer.decode(row.ids[row.targets])


def lengths(tokenizer):
    return [len(row) for row in build(instructions(ROWS, "f"), tokenizer).rows]


def test_rows_and_targets(chatml):
    data = build(instructions(ROWS, "f"), chatml)
    assert [spelled(chatml, row) for row in data.rows] == [row["completion"] + "<|im_end|>" for row in ROWS]
    assert data.source == [0, 1, 2] and data.dropped == {} and data.truncated == 0
    assert data.trained_tokens == sum(len(row.targets) for row in data.rows)
    assert all(row.prefix == 0 and row.ids.dtype == row.targets.dtype == "int64" for row in data.rows)


def test_train_on_last(chatml):
    talk = [Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d")]
    for train_on, expected in (("last", "d<|im_end|>"), ("assistant", "b<|im_end|>d<|im_end|>")):
        data = build([Instruction(talk)], chatml, train_on=train_on)
        assert spelled(chatml, data.rows[0]) == expected


def test_overlong_error_names_the_row_and_both_lengths(chatml):
    length = lengths(chatml)[1]
    with pytest.raises(
        DataError, match=rf"f, row 2: {length} tokens, but max_length is {length - 1}; .*truncate"
    ):
        build(instructions(ROWS, "f"), chatml, max_length=length - 1)
    assert len(build(instructions(ROWS[:2], "f"), chatml, max_length=length).rows) == 2


def test_overlong_drop_is_counted(chatml):
    limit = lengths(chatml)[0]
    data = build(instructions(ROWS, "f"), chatml, max_length=limit, overlong="drop")
    assert [len(row) for row in data.rows] == [limit]
    assert data.dropped == {TOO_LONG: 2} and data.left_out == {1: TOO_LONG, 2: TOO_LONG}


def test_truncation_is_counted_and_a_row_without_trained_token_dropped(chatml):
    limit = lengths(chatml)[0] + 2
    data = build(instructions(ROWS, "f"), chatml, max_length=limit, overlong="truncate")
    assert [len(row) for row in data.rows] == [limit - 2, limit] and data.source == [0, 1]
    assert data.truncated == 1 and data.dropped == {NOTHING_LEFT: 1}
    assert LONG["completion"].startswith(spelled(chatml, data.rows[1])) and len(data.rows[1].targets) > 0
    assert data.rows[1].targets.max() < limit


def test_nothing_left_is_an_error(chatml):
    with pytest.raises(DataError, match=r"no row is left .*3 longer than max_length"):
        build(instructions(ROWS, "f"), chatml, max_length=2, overlong="drop")
    with pytest.raises(DataError, match="there was none"):
        build([], chatml)


def test_position_zero_is_never_a_target(make):
    bare = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% endif %}"
        "{% endfor %}"
    )
    tokenizer = make(bare)
    row = build(instructions([{"prompt": "q", "completion": "cat"}], "f"), tokenizer).rows[0]
    assert row.targets.tolist() == list(range(1, len(row)))
