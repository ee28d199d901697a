"""An outline filled with contents is what the template renders."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.conftest import CHATML
from tests.data.test_plain_template import ATTRIBUTES, SMOLLM

from ridgeline.data import rendering
from ridgeline.data.rendering import MARK, Renderer
from ridgeline.data.template import render
from ridgeline.schema.errors import DataError, UsageError
from ridgeline.schema.records import Message

TALK = [Message("user", "One?"), Message("assistant", "First.")]
content = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
    st.sampled_from(["%", "%s", "{}", "{{ x }}", "\\1", MARK.format(0), "<|im_end|>\n", " \n"]),
)


@st.composite
def conversations(draw):
    messages = [Message("system", draw(content))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages += [Message("user", draw(content)), Message("assistant", draw(content))]
    return messages


@pytest.mark.parametrize("template", [CHATML, SMOLLM], ids=["chatml", "smollm"])
@settings(max_examples=60)
@given(messages=conversations())
def test_outlines_equal_rendering_each_conversation(chatml, template, messages):
    before, chatml.chat_template = chatml.chat_template, template
    try:
        renderer = Renderer(chatml)
        assert renderer.plain
        for train_on in ("assistant", "last"):
            expected = renderer._render(messages, train_on, "here")
            assert renderer.whole(messages, train_on, "here") == expected
        asked = messages[:-1]
        assert renderer.with_header(asked) == render(chatml, asked, header=True)
    finally:
        chatml.chat_template = before


def test_a_plain_template_is_rendered_once_per_sequence_of_roles(chatml, monkeypatch):
    calls = []
    monkeypatch.setattr(rendering, "render", lambda *a, **k: calls.append(a) or render(*a, **k))
    renderer = Renderer(chatml)
    renderer.whole(TALK, "last")
    once = len(calls)
    for number in range(5):
        text = renderer.whole([Message("user", str(number)), Message("assistant", "a")], "last").text
        assert f"user\n{number}<" in text
    assert len(calls) == once


def test_another_template_is_rendered_each_time_and_a_shared_prompt_once(make, monkeypatch):
    tokenizer = make(CHATML.replace("m['content']", "m['content'] | trim"))
    calls = []
    monkeypatch.setattr(rendering, "render", lambda *a, **k: calls.append(a) or render(*a, **k))
    renderer = Renderer(tokenizer)
    assert not renderer.plain
    chosen = renderer.whole(TALK, "last")
    rejected = renderer.whole([TALK[0], Message("assistant", " Second. ")], "last")
    assert chosen.text.endswith("First.<|im_end|>") and rejected.text.endswith("\nSecond.<|im_end|>")
    assert len(calls) == 3, "each conversation, and their prompt"


def test_a_template_that_refuses_names_the_row(make):
    refusing = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML
    renderer = Renderer(make(refusing))
    assert renderer.plain
    with pytest.raises(DataError, match="f, row 7: the chat template refuses it: no"):
        renderer.whole(TALK, "last", "f, row 7")


def test_a_plain_template_that_renders_another_prompt_is_refused(make):
    tokenizer = make(ATTRIBUTES.replace("bos_token", "'<|im_start|>'"))
    renderer = Renderer(tokenizer)
    assert renderer.plain and renderer.whole(TALK, "last").text == "[One?]<|im_start|>First.<|im_end|>"
    odd = CHATML.replace("assistant\\n' }}{% endif", "robot\\n' }}{% endif")
    with pytest.raises(UsageError, match=r"f, row 2: .*message 2 differently"):
        Renderer(make(odd)).whole(TALK, "last", "f, row 2")
