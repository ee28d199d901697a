from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.data.pieces import token_texts


@settings(max_examples=60, deadline=None, derandomize=True)
@given(text=st.text("abThe é🙂\n", max_size=30))
def test_pieces_join_to_the_text(chatml, text):
    ids = chatml(text, add_special_tokens=False)["input_ids"]
    pieces = token_texts(chatml, ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == chatml.decode(ids)


def test_a_character_of_several_tokens_belongs_to_the_last(chatml):
    ids = chatml("🙂!", add_special_tokens=False)["input_ids"]
    assert token_texts(chatml, ids) == [*[""] * (len(ids) - 2), "🙂", "!"]


def test_special_tokens_are_shown_and_a_cut_character_is_not_lost(chatml):
    ids = chatml("Yes.<|im_end|>", add_special_tokens=False)["input_ids"]
    assert token_texts(chatml, ids)[-1] == "<|im_end|>"
    cut = chatml("a🙂", add_special_tokens=False)["input_ids"][:-1]
    assert "".join(token_texts(chatml, cut)) == chatml.decode(cut)
    assert token_texts(chatml, []) == []
