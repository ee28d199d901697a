"""A random llama with a real tokenizer and chat template, small enough to train in seconds, and data for it.

``make_tiny_model(folder)`` builds it once per process and copies it afterwards; same bytes every time.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOPICS = (
    "the sea",
    "a garden",
    "winter",
    "a train",
    "bread",
    "the moon",
    "a river",
    "music",
    "a small dog",
    "rain",
    "the market",
    "an old clock",
)
_CORPUS = [f"Write one sentence about {topic}. I like {topic}, it is good and kind." for topic in TOPICS] + [
    "system user assistant",
    "That is bad, sad and terrible. This is wonderful, happy and great!",
    "yes no maybe left right up down one two three four five",
]


def make_tiny_model(folder: str | Path) -> Path:
    """A saved llama (2 layers, hidden 48, 4 heads, 2 key-value heads, 320 tokens, float32) in ``folder``."""
    folder = Path(folder)
    shutil.copytree(_built_once(), folder, dirs_exist_ok=True)
    return folder


@functools.cache
def _built_once() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="ridgeline-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tokenizer = make_tokenizer()
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|im_start|>"),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    torch.random.set_rng_state(state)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with ChatML; ``<|im_end|>`` is end of sequence and padding (the pad = eos trap)."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        chat_template=CHATML,
        clean_up_tokenization_spaces=False,
    )


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """``rows`` as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def prompt_text(number: int) -> str:
    """The same few topics, numbered so that prompts are distinct."""
    return f"Write one sentence about {TOPICS[number % len(TOPICS)]}. {number}"


def write_demonstrations(path: Path, rows: int = 16) -> Path:
    """Instruction rows of unequal lengths."""
    return write_jsonl(
        path,
        (
            {
                "prompt": prompt_text(number),
                "completion": f"I like {TOPICS[number % len(TOPICS)]}{', it is good' * (number % 3)}.",
            }
            for number in range(rows)
        ),
    )


def write_prompts(path: Path, rows: int = 8) -> Path:
    """Prompt-only rows with an ``id`` and an extra column ``topic``."""
    return write_jsonl(
        path,
        (
            {"id": f"p{number}", "prompt": prompt_text(number), "topic": TOPICS[number % len(TOPICS)]}
            for number in range(rows)
        ),
    )


def write_preferences(path: Path, rows: int = 16) -> Path:
    """Pairs in which the longer, kinder answer is preferred."""
    return write_jsonl(
        path,
        (
            {
                "prompt": prompt_text(number),
                "chosen": f"I like {TOPICS[number % len(TOPICS)]}, it is good and kind.",
                "rejected": "That is bad.",
                "annotator": "tiny",
                "prompt_id": f"p{number}",
            }
            for number in range(rows)
        ),
    )


def write_labelled(path: Path, rows: int = 16) -> Path:
    """Single completions, kind ones liked and curt ones not."""
    return write_jsonl(
        path,
        (
            {
                "prompt": prompt_text(number),
                "completion": "That is bad." if number % 2 else f"I like {TOPICS[number % len(TOPICS)]}.",
                "label": number % 2 == 0,
            }
            for number in range(rows)
        ),
    )
