from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny import make_tokenizer
from transformers import PreTrainedTokenizerFast

from ridgeline.data.pieces import token_texts
from ridgeline.rollout.traces import PER_TOKEN, Pieces, Trace, read_traces, write_traces
from ridgeline.schema.errors import DataError

TOKENIZER: PreTrainedTokenizerFast = make_tokenizer()
PIECES = Pieces(TOKENIZER)


def _numbers(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


TRACES = [
    Trace("p", 0, ["The", " é"], _numbers(-1 / 3, -2), None, _numbers(0.5, -0.5), _numbers(0.1, 0)),
    Trace("p", 1, [" \u2028\x00"], discarded="dead group"),
]


def test_traces_come_back_exactly(tmp_path: Path) -> None:
    write_traces(tmp_path / "traces" / "step-000000.parquet", TRACES)
    found = read_traces(tmp_path / "traces" / "step-000000.parquet")
    assert [(t.prompt_id, t.index, t.piece, t.discarded, t.kept) for t in found] == [
        ("p", 0, ["The", " é"], None, True),
        ("p", 1, [" \u2028\x00"], "dead group", False),
    ]
    for name in PER_TOKEN:
        for before, after in zip(TRACES, found, strict=True):
            expected, value = getattr(before, name), getattr(after, name)
            assert (value is None) == (expected is None)
            if value is not None:
                assert value.dtype == np.float32
                assert np.array_equal(value, expected)


def test_same_traces_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_traces(tmp_path / f"{name}.parquet", TRACES)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_files_without_any_number_have_the_same_columns(tmp_path: Path) -> None:
    write_traces(tmp_path / "a.parquet", TRACES[1:])
    write_traces(tmp_path / "b.parquet", [])
    (only,) = read_traces(tmp_path / "a.parquet")
    assert only.ref_logp is None and only.discarded == "dead group"
    assert read_traces(tmp_path / "b.parquet") == []


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_traces(tmp_path / "none.parquet")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read"):
        read_traces(tmp_path / "a.parquet")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(ids=st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=20))
def test_remembered_pieces_are_those_of_the_whole_sequence(ids: list[int]) -> None:
    """Whatever was remembered before: among all tokens are halves of characters and special ones."""
    pieces = PIECES(ids)
    assert pieces == token_texts(TOKENIZER, ids)
    assert "".join(pieces) == (TOKENIZER.decode(ids) if ids else "")


def test_words_are_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = Pieces(TOKENIZER)
    ids = TOKENIZER("I like music, it is good.", add_special_tokens=False)["input_ids"]
    first = pieces(ids)
    monkeypatch.setattr(pieces, "tokenizer", None)
    assert pieces(ids) == first
    assert "".join(first) == "I like music, it is good."
