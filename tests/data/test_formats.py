from __future__ import annotations

import pytest

from ridgeline.data.formats import detect, instructions, preferences, prompt_id, prompts, unpaired
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Message, Preference

USER = {"role": "user", "content": "q"}
ASSISTANT = {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}
TALK = [Message("user", "q"), Message("assistant", "a")]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, ASSISTANT]},
        {"messages": [USER, ASSISTANT], "prompt": None},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"conversations": [USER, ASSISTANT]},
        {"prompt": "q", "completion": "a"},
        {"prompt": [USER], "completion": [ASSISTANT]},
        {"prompt": [USER], "completion": "a"},
        {"prompt": "q", "response": "a"},
        {"instruction": "q", "output": "a"},
        {"instruction": "q", "input": "", "response": "a"},
    ],
)
def test_every_form_of_an_instruction(row):
    assert instructions([row], "f")[0].messages == TALK
    assert detect([row]) == "instruction"


def test_instruction_with_input_and_with_system_message():
    first, second = instructions(
        [{"instruction": "Add.", "input": "1 2", "output": "3"}, {"messages": [SYSTEM, USER, ASSISTANT]}], "f"
    )
    assert first.messages == [Message("user", "Add.\n\n1 2"), Message("assistant", "3")]
    assert second.messages == [Message("system", "s"), *TALK]
    assert (first.where, second.where) == ("f, row 1", "f, row 2")


def test_content_keeps_its_white_space():
    assert instructions([{"prompt": " q\n", "completion": "\n a "}], "f")[0].messages[1].content == "\n a "


GOOD = {"prompt": "q", "completion": "a"}


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"prompt": "q", "completon": "a"}, "column 'completion' is missing: did you mean 'completon'"),
        ({"mesages": [USER, ASSISTANT]}, "column 'messages' is missing: did you mean 'mesages'"),
        (
            {"text": "q"},
            "is missing: its columns are text; A row needs messages; or conversations; or prompt and",
        ),
        ({"prompt": "q", "completion": None}, "column 'completion' is missing"),
        ({"prompt": "q", "completion": ""}, "row 2, completion: it is empty"),
        ({"prompt": " ", "completion": "a"}, "row 2, prompt: it is empty"),
        ({"prompt": "q", "completion": 3}, "row 2, completion: expected a list of messages"),
        ({"prompt": "q", "completion": "\ud800"}, "row 2, completion: .*surrogate"),
        ({"messages": "hello"}, "row 2, messages: expected a list of messages"),
        ({"messages": []}, "row 2, messages: expected a list of messages"),
        ({"messages": [USER, "a"]}, "row 2, messages, message 2: expected an object"),
        ({"messages": [USER, {"role": "assistant"}]}, "message 2: 'content' is missing; its keys are role"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, "message 2, content: it is empty"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "message 2, content: expected text"),
        (
            {"messages": [USER, {"role": "asistant", "content": "a"}]},
            "unknown role 'asistant'; .*'assistant'",
        ),
        ({"messages": [USER, {**ASSISTANT, "tool_calls": [1]}]}, "message 2: tool_calls are not supported"),
        (
            {"messages": [USER, USER, ASSISTANT]},
            "message 2: expected a turn of the assistant, got one of the user",
        ),
        ({"messages": [ASSISTANT]}, "message 1: expected a turn of the user, got one of the assistant"),
        ({"messages": [USER, SYSTEM, ASSISTANT]}, "message 2: expected a turn of the assistant"),
        ({"messages": [USER]}, "it ends with a turn of the user, but has to end with one of the assistant"),
        (
            {"prompt": [USER, ASSISTANT], "completion": "a"},
            "row 2, prompt: it ends with a turn of the assistant",
        ),
        ({"prompt": [USER], "completion": [USER]}, "row 2, prompt and completion, message 2"),
        ({"instruction": "q", "input": 3, "output": "a"}, "row 2, input: expected text"),
    ],
)
def test_bad_instructions_name_row_and_field(row, match):
    with pytest.raises(DataError, match=match) as caught:
        instructions([GOOD, row], "demo.jsonl")
    assert str(caught.value).startswith("demo.jsonl, row 2") and "\n" not in str(caught.value)


def test_prompts_keep_the_other_columns():
    rows = [
        {"prompt": "q", "topic": "cats", "answer": 4},
        {"messages": [SYSTEM, USER], "id": 7},
        {"instruction": "q", "input": "x", "topic": "dogs"},
    ]
    first, second, third = prompts(rows, "f")
    assert (first.messages, first.row) == ([Message("user", "q")], {"topic": "cats", "answer": 4})
    assert (second.messages, second.id, second.row) == (
        [Message("system", "s"), Message("user", "q")],
        "7",
        {},
    )
    assert (third.messages, third.row) == ([Message("user", "q\n\nx")], {"topic": "dogs"})
    assert [detect([row]) for row in rows] == ["prompt"] * 3


def test_prompt_ids_are_stable_and_repeated_prompts_are_counted():
    rows = [{"prompt": "q"}, {"prompt": "r"}, {"prompt": "q"}, {"prompt": "q"}]
    ids = [item.id for item in prompts(rows, "f")]
    base = prompt_id([Message("user", "q")])
    assert ids[0] == base and ids[2:] == [f"{base}-2", f"{base}-3"]
    assert ids[1] == prompts([{"prompt": "r", "topic": "other"}], "g")[0].id
    assert base == "de7670a453dc17de", "ids are written to disk: they must not change between versions"


def test_bad_prompts():
    with pytest.raises(DataError, match="row 2, id: '1' is taken"):
        prompts([{"prompt": "q", "id": 1}, {"prompt": "r", "id": "1"}], "f")
    with pytest.raises(DataError, match="row 1, messages: it ends with a turn of the assistant"):
        prompts([{"messages": [USER, ASSISTANT]}], "f")
    with pytest.raises(DataError, match="column 'prompt' is missing: did you mean 'promt'"):
        prompts([{"promt": "q"}], "f")


PAIR = ([Message("user", "q")], "a", "b")
OTHER = {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [OTHER]},
        {"prompt": "q", "chosen": [ASSISTANT], "rejected": "b"},
        {"prompt": "q", "chosen": [USER, ASSISTANT], "rejected": [USER, OTHER]},
        {"chosen": [USER, ASSISTANT], "rejected": [USER, OTHER]},
    ],
)
def test_every_form_of_a_preference(row):
    pair = preferences([row], "f")[0]
    assert (pair.prompt, pair.chosen, pair.rejected) == PAIR
    assert detect([row]) == "preference"


def test_implicit_prompt_keeps_its_history():
    history = [SYSTEM, USER, ASSISTANT, USER]
    for extra in ({}, {"prompt": "q"}):
        pair = preferences([{"chosen": [*history, ASSISTANT], "rejected": [*history, OTHER], **extra}], "f")[
            0
        ]
        assert [message.role for message in pair.prompt] == ["system", "user", "assistant", "user"]
        assert (pair.chosen, pair.rejected) == ("a", "b")


def test_stored_preferences_come_back_unchanged():
    pair = Preference(
        [Message("user", "q")],
        "a",
        "b",
        "simulated",
        "rejected",
        "p1",
        {"chosen": 1.0, "rejected": -0.5},
        True,
        False,
    )
    plain = pair.as_dict()
    assert preferences([plain], "f") == [pair]
    assert preferences([{**plain, "scores": {"chosen": 1, "rejected": -0.5, "other": None}}], "f") == [pair]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"prompt": "q", "chosen": "a"}, "column 'rejected' is missing"),
        ({"prompt": "q", "chosen": "a", "reject": "b"}, "'rejected' is missing: did you mean 'reject'"),
        ({"chosen": "a", "rejected": "b"}, "row 1, chosen: it is text, so the row needs a column 'prompt'"),
        ({"prompt": "q", "chosen": "a", "rejected": " "}, "row 1, rejected: it is empty"),
        (
            {"chosen": [USER, ASSISTANT], "rejected": [SYSTEM, USER, OTHER]},
            "may differ in their last turn only",
        ),
        ({"prompt": "z", "chosen": [USER, ASSISTANT], "rejected": "b"}, "chosen: it answers another prompt"),
        (
            {"prompt": "q", "chosen": "a", "rejected": "b", "first_shown": "left"},
            "first_shown: expected 'chosen'",
        ),
        (
            {"prompt": "q", "chosen": "a", "rejected": "b", "scores": {"chosen": "x"}},
            "scores, chosen: .*number",
        ),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "scores": 3}, "scores: expected an object"),
        (
            {"prompt": "q", "chosen": "a", "rejected": "b", "chosen_stopped": "yes"},
            "chosen_stopped: .*true or false",
        ),
    ],
)
def test_bad_preferences(row, match):
    with pytest.raises(DataError, match=match):
        preferences([row], "f")


@pytest.mark.parametrize(
    ("label", "truth"),
    [(True, True), (False, False), (1, True), (0, False), ("true", True), ("False", False)],
)
def test_unpaired_labels(label, truth):
    row = {"prompt": "q", "completion": "a", "label": label}
    item = unpaired([row], "f")[0]
    assert (item.prompt, item.completion, item.label) == ([Message("user", "q")], "a", truth)
    assert detect([row]) == "unpaired"


def test_bad_unpaired():
    for row, match in (
        (
            {"prompt": "q", "completion": "a", "label": "good"},
            "row 1, label: expected true or false, got 'good'",
        ),
        ({"prompt": "q", "completion": "a", "label": 0.5}, "label: expected true or false"),
        ({"prompt": "q", "completion": "", "label": True}, "completion: it is empty"),
        ({"prompt": "q", "completion": [USER], "label": True}, "exactly one message of the assistant"),
        ({"prompt": "q", "completion": "a"}, "column 'label' is missing"),
    ):
        with pytest.raises(DataError, match=match):
            unpaired([row], "f")
