"""The common ground: models on disk, rows as text, completions and stale log-probs as numbers.

Needs torch and transformers only. Everything is a function of the seed, so both sides could build it; it is
built once and handed over as files all the same.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from cases import END, PAD
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ROWS = [
    ("Name a colour.", "Blue, like the sea in winter.", "No."),
    ("What is two and three?", "Five.", "It may be four, it may be six, who can say?"),
    ("Write about the moon.", "The moon is a small bright river.", "Bad moon."),
    ("Say hello.", "Hello! I am glad that you are here today.", "Go away now."),
    ("Where is the dog?", "In the garden.", "Dogs are sad and terrible animals."),
    ("Is it raining?", "Yes, bring a coat and boots.", "Left right up down."),
    ("Name a fruit.", "An apple is a fruit.", "A fruit is an apple."),
    ("Count to three.", "It is one, two, three.", "It is one, three, two."),
    ("Is the door open?", "Yes, the door is open.", "Yes, the open is door."),
]
"""Prompt, better and worse completion: of many lengths, as padding is where mistakes hide, and some of nearly
one length, so that policy and reference rank the pairs differently (AOT sorts them)."""
LABELS = [True, False, True, True, False, False, True, False, True]
PROMPTS, SAMPLES = 3, 4
MOVED = 0.4
"""Distance of the reference from a random policy, in deviations of each tensor; from a real one 1/20."""
STALENESS = 0.15
"""Standard deviation in nats by which the old log-probs miss the policy's: enough for clipping to bite."""


def build(folder: Path, model: str | None) -> dict[str, Any]:
    """Write ``policy``, ``reference``, ``reward`` and ``problem.json`` into ``folder``; returns the latter.

    ``model`` is a folder in Hugging Face format; None makes a random llama.
    """
    torch.manual_seed(0)
    if model is None:
        policy, tokenizer = _tiny()
    else:
        policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(model)
    policy.eval()
    reference = _elsewhere(policy, MOVED if model is None else MOVED / 20)
    for name, module in (("policy", policy), ("reference", reference)):
        module.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    _save_reward_model(policy, folder, tokenizer)
    problem = {"rows": _rows(tokenizer), "groups": _groups(policy, tokenizer)}
    (folder / "problem.json").write_text(json.dumps(problem))
    return problem


def _tiny() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=[PAD, "<|im_start|>", END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([text for row in ROWS for text in row] + ["system user assistant\n"], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=END, pad_token=PAD, unk_token=PAD, chat_template=CHATML
    )
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
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config), tokenizer


def _elsewhere(policy: PreTrainedModel, moved: float) -> PreTrainedModel:
    """A reference that is not the policy: every weight moved at random."""
    reference = copy.deepcopy(policy)
    with torch.no_grad():
        for parameter in reference.parameters():
            spread = parameter.std() if parameter.ndim > 1 else torch.ones(())
            parameter.add_(moved * spread * torch.randn_like(parameter))
    return reference


def _save_reward_model(policy: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """The policy's backbone under a random head: with a zero head the backbone would get no gradient."""
    reward = AutoModelForSequenceClassification.from_pretrained(
        folder / "policy", num_labels=1, dtype=torch.float32
    )
    torch.nn.init.normal_(reward.score.weight, std=0.5 * policy.config.hidden_size**-0.5)
    reward.save_pretrained(folder / "reward")
    tokenizer.save_pretrained(folder / "reward")


def _rows(tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """Texts for Ridgeline, and the rendered prompt for TRL's standard format (which appends eos itself)."""
    return [
        {
            "prompt": prompt,
            "rendered": tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            ),
            "chosen": better,
            "rejected": worse,
            "label": label,
        }
        for (prompt, better, worse), label in zip(ROWS, LABELS, strict=True)
    ]


def _groups(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """Random completions of unequal lengths with rewards, and log-probs of a slightly older policy."""
    groups = []
    for row in _rows(tokenizer)[:PROMPTS]:
        prompt = tokenizer(row["rendered"], add_special_tokens=False)["input_ids"]
        completions = [
            torch.randint(3, len(tokenizer), (int(torch.randint(2, 20, ())),)).tolist()
            for _ in range(SAMPLES)
        ]
        stale = [_logp(policy, prompt, completion) for completion in completions]
        groups.append(
            {
                "rendered": row["rendered"],
                "prompt_ids": prompt,
                "completions": completions,
                "rewards": torch.randn(SAMPLES).tolist(),
                "old_logp": [(logp + STALENESS * torch.randn_like(logp)).tolist() for logp in stale],
            }
        )
    return groups


@torch.no_grad()
def _logp(policy: PreTrainedModel, prompt: list[int], completion: list[int]) -> torch.Tensor:
    ids = torch.tensor([prompt + completion])
    logp_V = policy(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return logp_V.gather(-1, torch.tensor(completion)[:, None])[:, 0]
