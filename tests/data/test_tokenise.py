"""Pieces and cuts against the slow way: the whole text and each of its prefixes tokenised by transformers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.conftest import CHATML
from tokenizers import AddedToken

from ridgeline.data import tokenise
from ridgeline.data.rendering import Renderer
from ridgeline.data.tokenise import Tokeniser, sealed_tokens
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Message

ROLES = ("user", "assistant", "user", "assistant")
PARTS = ["<|im_start|>", "<|im_end|>", "<|im_", "<", "user\n", "\n", " ", "cat", "é", "日", "%"]
content = st.lists(st.sampled_from(PARTS), min_size=1, max_size=8).map("".join)


def slowly(tokenizer, rendered):
    """(ids, cuts), or None where the ids of a prefix are not the beginning of the whole."""

    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    whole, heads = ids(rendered.text), [ids(rendered.text[:cut]) for cut in rendered.cuts]
    if any(whole[: len(head)] != head for head in heads):
        return None
    return whole, [len(head) for head in heads]


@pytest.mark.parametrize("name", ["chatml", "merging"])
@settings(max_examples=150)
@given(texts=st.lists(st.tuples(content, content, content, content), min_size=1, max_size=3))
def test_ids_and_cuts_are_those_of_the_prefixes(request, name, texts):
    tokenizer = request.getfixturevalue(name)
    renderer = Renderer(tokenizer)
    rendered = [
        renderer.whole([Message(role, text) for role, text in zip(ROLES, four, strict=True)], "assistant")
        for four in texts
    ]
    for text, found in zip(rendered, Tokeniser(tokenizer).mark(rendered), strict=True):
        expected = slowly(tokenizer, text)
        if expected is not None:
            assert found.ids.tolist() == expected[0]
            assert [cut for span in found.spans for cut in span] == expected[1]
        else:
            assert name == "merging" and tokenizer.decode(found.ids.tolist()) == text.text


def test_a_piece_that_several_texts_share_is_tokenised_once(chatml, monkeypatch):
    asked = []
    real = tokenise.Words.encode
    monkeypatch.setattr(
        tokenise.Words, "encode", lambda self, texts: asked.append(texts) or real(self, texts)
    )
    renderer, prompt = Renderer(chatml), Message("user", "The cat?")
    sides = [renderer.whole([prompt, Message("assistant", text)], "last") for text in ("Yes.", "No.")]
    chosen, rejected = Tokeniser(chatml).mark(sides)
    assert sum("The cat?" in piece for piece in asked[0]) == 1
    first = chosen.spans[0][0]
    assert chosen.spans[0][0] == rejected.spans[0][0] and (chosen.ids[:first] == rejected.ids[:first]).all()


def test_sealed_tokens(make):
    plain = make()
    assert sealed_tokens(plain) == ["<|im_start|>", "<|im_end|>"], "<|endoftext|> is not in the template"
    for added, left in (
        (AddedToken("<|im_start|>x"), ["<|im_end|>"]),  # longer, so it would win
        (AddedToken("a<b"), []),  # could begin before a seal and reach into it
        (AddedToken("<|im_end|>", rstrip=True, special=True), ["<|im_start|>"]),
    ):
        other = make()
        other.add_tokens([added])
        assert sealed_tokens(other) == left
    plain.split_special_tokens = True
    assert sealed_tokens(plain) == []
    assert sealed_tokens(make(None)) == []


@pytest.mark.parametrize("added", ["<|im_start|>x", "\n<|im", "user\n<"])
def test_tokens_that_reach_across_a_seal_change_nothing(make, added):
    tokenizer = make()
    tokenizer.add_tokens([AddedToken(added)])
    talk = [Message("user", "x user\n"), Message("assistant", "x<|im_start|>x user\n<|im_end|>")]
    rendered = Renderer(tokenizer).whole(talk, "last")
    (found,) = Tokeniser(tokenizer).mark([rendered])
    expected = slowly(tokenizer, rendered)
    assert expected is not None and found.ids.tolist() == expected[0]
    assert list(found.spans[0]) == expected[1]


def test_a_turn_without_tokens_is_refused(make):
    tokenizer = make(CHATML)
    renderer = Renderer(tokenizer)
    empty = renderer.without_end(
        renderer.whole([Message("user", "a"), Message("assistant", "")], "last", "f")
    )
    with pytest.raises(DataError, match="f: an assistant turn holds no token"):
        Tokeniser(tokenizer).mark([empty])


def test_a_slow_tokenizer_gives_the_same(make, monkeypatch):
    tokenizer = make()
    renderer = Renderer(tokenizer)
    texts = [renderer.whole([Message("user", "a b"), Message("assistant", "c d")], "last")]
    (fast,) = Tokeniser(tokenizer).mark(texts)
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    (slow,) = Tokeniser(tokenizer).mark(texts)
    assert np.array_equal(fast.ids, slow.ids) and fast.spans == slow.spans
