"""Tiny byte-level tokenizers, each with one of the traps that real ones have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "system\nuser\nassistant\nWrite one sentence about the river. The river is wide.",
    "user\nassistant\n\nThe cat sat on the mat.\n\nuser\nassistant\n\nYes.",
] * 4

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train(specials: list[str], *, regex: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def wrap(tokenizer: Tokenizer, template: str | None, **tokens: str) -> PreTrainedTokenizerFast:
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **tokens
    )
    wrapped.chat_template = template
    return wrapped


Make = Callable[..., PreTrainedTokenizerFast]


@pytest.fixture
def make() -> Make:
    """A chatml tokenizer whose pad token is its end-of-turn token; another template on request."""

    def build(template: str | None = CHATML, *, regex: bool = True) -> PreTrainedTokenizerFast:
        trained = train(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], regex=regex)
        return wrap(trained, template, eos_token="<|im_end|>", pad_token="<|im_end|>")

    return build


@pytest.fixture(scope="session")
def chatml() -> PreTrainedTokenizerFast:
    trained = train(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return wrap(trained, CHATML, eos_token="<|im_end|>", pad_token="<|im_end|>")


@pytest.fixture(scope="session")
def merging() -> PreTrainedTokenizerFast:
    """Merges freely across lines, so that a header's newline fuses with the content behind it."""
    trained = train(["<|im_start|>", "<|im_end|>"], regex=False)
    return wrap(trained, CHATML, eos_token="<|im_end|>", pad_token="<|im_end|>")


@pytest.fixture
def base() -> PreTrainedTokenizerFast:
    """A base model's: no template, no chatml tokens."""
    return wrap(train(["<|endoftext|>"]), None, eos_token="<|endoftext|>")


@pytest.fixture
def with_bos() -> PreTrainedTokenizerFast:
    """Adds <s> to plain text, as Llama's does, and merges across lines; has no template yet."""
    trained = train(["<s>", "</s>"], regex=False)
    trained.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return wrap(trained, None, bos_token="<s>", eos_token="</s>", pad_token="</s>")
