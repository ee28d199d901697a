"""Words looked up give the ids that the tokenizer gives the whole text."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.data.conftest import CORPUS, wrap
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from ridgeline.data import words
from ridgeline.data.words import PATTERNS, Words, encode, has_words, unpacked

BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
KINDS = {
    "gpt2": GPT2,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2]),
    **{
        f"pattern {number}": pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(pattern), "isolated"), BYTES]
        )
        for number, pattern in enumerate(sorted(PATTERNS))
    },
}
MERGING = [" a b", "it's  we'll", ".\n\n I", "the cat , sat", "x\t y", "é à e\u0301 a", "12 345 6", "日本 語"]
tricky = st.text(st.sampled_from(" \n\t\r\u00a0\u3000'.,!/aBé語s12\u0301\x0b\x1c<|>"), max_size=24)
plain = st.lists(st.sampled_from([*MERGING, "the", " cat", "  ", "\n", "."]), max_size=8).map(" ".join)


def trained(kind, normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = kind
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*CORPUS, *MERGING * 4], trainer)
    return wrap(tokenizer, None)


@pytest.fixture(scope="module", params=[*KINDS, "NFC"])
def tokenizer(request):
    if request.param == "NFC":
        return trained(GPT2, normalizers.NFC())
    return trained(KINDS[request.param])


@settings(max_examples=150)
@given(texts=st.lists(st.one_of(tricky, plain), max_size=4))
@example(texts=["", " ", "a \u0301b", "a  b", "a\n b", "a \n b", "<|im_start|>user\na b<|im_end|>"])
def test_words_give_the_ids_of_the_whole_text(tokenizer, texts):
    assert has_words(tokenizer)
    expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert [unpacked(ids) for ids in Words(tokenizer).encode(texts)] == expected


def test_each_word_is_tokenised_once_and_long_ones_are_forgotten(tokenizer, monkeypatch):
    asked = []
    monkeypatch.setattr(words, "encode", lambda t, texts: asked.extend(texts) or encode(t, texts))
    lookup = Words(tokenizer)
    long = "x" * 100
    first = lookup.encode([f"the cat {long} the cat", "a cat"])
    assert sorted(asked) == sorted({"the", " cat", f" {long}", " the", "a"})
    asked.clear()
    assert lookup.encode([f"the cat {long} the cat", "a cat"]) == first
    assert asked == [f" {long}"]
    monkeypatch.setattr(words, "KEPT", 2)
    lookup.encode(["b"])
    assert lookup.known == {}


def test_tokenizers_whose_words_are_not_known_are_asked_for_whole_texts(merging):
    assert not has_words(merging)
    assert not has_words(trained(pre_tokenizers.ByteLevel(add_prefix_space=True)))
    assert not has_words(trained(pre_tokenizers.Metaspace()))
    assert not has_words(trained(pre_tokenizers.Sequence([pre_tokenizers.Split(" a", "isolated"), BYTES])))
    assert not has_words(trained(GPT2, normalizers.Strip()))
    chance = trained(GPT2)
    chance.backend_tokenizer.model.dropout = 0.1
    assert not has_words(chance)
    for odd in (AddedToken("<x>", lstrip=True), AddedToken("<x>", rstrip=True), AddedToken("the cat")):
        other = trained(GPT2)
        other.add_tokens([odd])
        assert not has_words(other)
    text = "user\nOne two  three"
    assert unpacked(Words(merging).encode([text])[0]) == merging(text, add_special_tokens=False)["input_ids"]
