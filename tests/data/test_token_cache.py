"""Tokens from the cache are those that would be made, or they are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.data.conftest import CHATML

from ridgeline.data import chat, token_cache
from ridgeline.data.chat import Conversation, marked
from ridgeline.data.formats import preferences
from ridgeline.data.pairs import build_pairs
from ridgeline.data.token_cache import default_folder, tokenizer_digest
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Message

TALKS = [
    Conversation([Message("user", "One?"), Message("assistant", "First.")], "assistant"),
    Conversation(
        [
            Message("system", "Be brief."),
            Message("user", "One?"),
            Message("assistant", "The cat."),
            Message("user", "Two?"),
            Message("assistant", "Second."),
        ],
        "assistant",
    ),
    Conversation.answered([Message("user", "Three?")], "cut", stopped=False),
]


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDGELINE_CACHE", str(tmp_path))
    monkeypatch.setattr(token_cache, "FEWEST", 2)


def entries() -> list[Path]:
    return sorted(default_folder().glob("*")) if default_folder().exists() else []


def never(*arguments):
    raise AssertionError("it was tokenised again")


def equal(first, second):
    return len(first) == len(second) and all(
        a.ids.dtype == b.ids.dtype and np.array_equal(a.ids, b.ids) and a.spans == b.spans
        for a, b in zip(first, second, strict=True)
    )


def test_a_hit_equals_a_miss(make, monkeypatch):
    made = list(marked(make(), TALKS))
    assert len(entries()) == 1
    monkeypatch.setattr(chat, "_mark", never)
    assert equal(list(marked(make(), TALKS)), made)
    with pytest.raises(AssertionError, match="again"):
        list(marked(make(), TALKS[:2]))


def test_pairs_read_from_the_cache_are_the_same(make, monkeypatch):
    rows = [{"prompt": f"q{n}", "chosen": "Yes.", "rejected": "No"} for n in range(3)]
    first = build_pairs(preferences(rows, "f"), make())
    monkeypatch.setattr(chat, "_mark", never)
    second = build_pairs(preferences(rows, "f"), make())
    for unit, other in zip(first.units, second.units, strict=True):
        for row, same in zip(unit, other, strict=True):
            assert np.array_equal(row.ids, same.ids) and row.ids.dtype == same.ids.dtype == np.int64
            assert np.array_equal(row.targets, same.targets) and row.prefix == same.prefix
            assert row.values == same.values and same.ids.flags.writeable


def changed(what, make):
    """(tokenizer, conversations) that differ in one thing from (make(), TALKS)."""
    tokenizer, talks = make(), list(TALKS)
    if what == "template":
        tokenizer.chat_template = CHATML.replace("'<|im_end|>\\n'", "'<|im_end|>'")
    elif what == "an added token":
        tokenizer.add_tokens(["First"])
    elif what == "merges":
        tokenizer = make(regex=False)
    elif what == "special tokens":
        tokenizer.pad_token = "<|endoftext|>"
    elif what == "a content":
        talks[0] = Conversation([Message("user", "One!"), talks[0].messages[1]], "assistant")
    elif what == "what is trained":
        talks[1] = Conversation(talks[1].messages, "last")
    elif what == "stopped":
        talks[2] = Conversation(talks[2].messages, "last")
    elif what == "the order":
        talks = talks[::-1]
    elif what == "a role":
        talks[1] = Conversation([Message("user", "Be brief."), *talks[1].messages[1:]], "assistant")
    return tokenizer, talks


@pytest.mark.parametrize(
    "what",
    [
        "template",
        "an added token",
        "merges",
        "special tokens",
        "a content",
        "what is trained",
        "stopped",
        "the order",
        "a role",
    ],
)
def test_whatever_tokens_depend_on_makes_another_entry(what, make, monkeypatch):
    list(marked(make(), TALKS))
    tokenizer, talks = changed(what, make)
    found = list(marked(tokenizer, talks))
    assert len(entries()) == 2
    monkeypatch.setenv("RIDGELINE_CONTENT_CACHE", "off")
    assert equal(found, list(marked(tokenizer, talks)))


def test_where_a_row_comes_from_and_earlier_use_of_the_tokenizer_do_not_matter(make):
    list(marked(make(), TALKS))
    used = make()
    used(["a", "b c d"], padding=True, truncation=True, max_length=4)
    moved = [Conversation(talk.messages, talk.train_on, talk.stopped, "g, row 9") for talk in TALKS]
    list(marked(used, moved))
    assert len(entries()) == 1
    assert tokenizer_digest(used) == tokenizer_digest(make())


@pytest.mark.parametrize("damage", [b"", b"rubbish" * 50, None])
def test_a_damaged_entry_is_made_anew(damage, make):
    made = list(marked(make(), TALKS))
    (entry,) = entries()
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert equal(list(marked(make(), TALKS)), made)
    assert entry.read_bytes() == whole


def test_blocks_have_entries_of_their_own(make, monkeypatch):
    monkeypatch.setattr(chat, "BLOCK", 2)
    many = TALKS * 2
    made = list(marked(make(), many))
    assert len(entries()) == 3
    grown = list(marked(make(), [*many, TALKS[0]]))
    assert len(entries()) == 3, "the last block is too small to be kept"
    assert equal(grown[:-1], made)


def test_small_data_a_clock_and_a_refused_row_leave_no_entry(make, monkeypatch):
    monkeypatch.setattr(token_cache, "FEWEST", 4)
    list(marked(make(), TALKS))
    monkeypatch.setattr(token_cache, "FEWEST", 2)
    list(marked(make("{% set today = strftime_now('%d %b %Y') %}" + CHATML), TALKS))
    with pytest.raises(DataError, match="no assistant turn"):
        list(marked(make(), [*TALKS, Conversation([Message("user", "x")])]))
    assert entries() == []
