from __future__ import annotations

import pytest

from ridgeline.data.chat import check_stop_trained, encode_conversation
from ridgeline.data.template import apply_template, end_of_turn, render
from ridgeline.schema.errors import UsageError
from ridgeline.schema.records import Message

TALK = [Message("user", "Hi"), Message("assistant", "Hello.")]


def test_chatml_text_has_no_default_system_message(make):
    tokenizer = make(None)
    apply_template(tokenizer, "chatml")
    text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
    assert render(tokenizer, TALK) == text
    assert render(tokenizer, TALK[:1], header=True) == text.removesuffix("Hello.<|im_end|>\n")


def test_chatml_keeps_white_space_of_content(make):
    tokenizer = make(None)
    apply_template(tokenizer, "chatml")
    text = render(tokenizer, [Message("user", "  a\n\n"), Message("assistant", "\n b ")])
    assert "user\n  a\n\n<|im_end|>" in text and "assistant\n\n b <|im_end|>" in text


def test_chatml_on_a_base_model_ends_turns_with_its_eos(base):
    apply_template(base, "chatml")
    assert end_of_turn(base).token == "<|endoftext|>"
    assert check_stop_trained(base) == base.eos_token_id
    encoded = encode_conversation(base, TALK)
    assert base.decode([i for i, on in zip(encoded.ids, encoded.trained, strict=True) if on]) == (
        "Hello.<|endoftext|>"
    )


def test_chatml_needs_some_end_token(base):
    base.eos_token = None
    with pytest.raises(UsageError, match="neither"):
        apply_template(base, "chatml")


def test_no_template_says_how_to_give_one(base):
    for attempt in (lambda: apply_template(base, None), lambda: render(base, TALK)):
        with pytest.raises(UsageError, match='chat_template = "chatml"'):
            attempt()


def test_none_keeps_the_tokenizers_own(make):
    tokenizer = make()
    before = tokenizer.chat_template
    apply_template(tokenizer, None)
    assert tokenizer.chat_template == before


def test_template_from_a_file(make, tmp_path):
    file = tmp_path / "mine.jinja"
    file.write_text(
        "{% for m in messages %}[{{ m['role'] }}]{% generation %}{{ m['content'] }}{% endgeneration %}"
        "{{ eos_token }}{% endfor %}"
    )
    tokenizer = make(None)
    apply_template(tokenizer, str(file))
    assert render(tokenizer, TALK) == "[user]Hi<|im_end|>[assistant]Hello.<|im_end|>"


def test_bad_template_files(make, tmp_path):
    tokenizer = make()
    before = tokenizer.chat_template
    broken = tmp_path / "broken.jinja"
    broken.write_text("{% for m in messages %}\n{{ m['role' }}")
    latin = tmp_path / "latin.jinja"
    latin.write_bytes(b"\xe9")
    for name, match in (
        (broken, "line 2: not valid Jinja"),
        (latin, "not UTF-8"),
        ("chatlm", "No such file.*chatml"),
    ):
        with pytest.raises(UsageError, match=match):
            apply_template(tokenizer, str(name))
        assert tokenizer.chat_template == before


def test_the_template_travels_with_the_saved_tokenizer(make, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = make(None)
    apply_template(tokenizer, "chatml")
    tokenizer.save_pretrained(tmp_path)
    assert render(AutoTokenizer.from_pretrained(tmp_path), TALK) == render(tokenizer, TALK)
