"""GRPO in one file, from tokens to the optimizer step: a language model learns to come to the point.

    python docs/flat/grpo.py [--model FOLDER] [--steps 8]

Every step samples a group of answers to each of a few questions, rewards those that are right and short, and
makes the answers that did better than their group likelier. Three sets of log-probs meet in the loss; keep
them apart and the rest is arithmetic:

    current    of the weights being trained; the only one with a gradient
    old        of the weights that sampled this batch; the ratio current / old says how far we have moved
    reference  of the weights we started from; the KL to it is the leash

Shapes: P prompts, G samples of each, B = P * G rows, T tokens of the longest row, V tokens in the vocabulary.
Source: Shao et al. 2024 (DeepSeekMath), equation 3. The tests hold this file equal to the library.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

EMBEDDED = Path("~/.cache/ridgeline/smollm2-135m-instruct-0.1.2").expanduser()
PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
STOP = "<|im_end|>"
QUESTIONS = {
    "What is the capital of France?": "paris",
    "Which planet do we live on?": "earth",
    "What do bees make?": "honey",
    "What colour is grass?": "green",
}

SAMPLES, NEW_TOKENS = 6, 16
UPDATES = 2  # optimizer steps on one rollout: in the first every ratio is 1, then clipping begins to matter
RATE = 5e-5
CLIP = 0.2
KL = 0.04


@dataclass
class Batch:
    """One rollout, prompt-major: row p * G + g is sample g of prompt p. Everything in it is a constant."""

    ids_BT: torch.Tensor  # prompt, then completion, then padding
    mask_BT: torch.Tensor  # 1 on the tokens that the policy wrote
    advantages_B: torch.Tensor
    old_logp_BT: torch.Tensor
    ref_logp_BT: torch.Tensor


def token_logp(model: torch.nn.Module, ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Log-prob of every scored token given those before it: ``[:, t]`` belongs to token t; 0 elsewhere."""
    # No attention mask: padding is on the right, and causal attention never looks there.
    hidden_BTH = model.base_model(input_ids=ids_BT).last_hidden_state
    # The hidden state at t - 1 is about token t. Logits are made for scored tokens only: a row of them is as
    # wide as the vocabulary, and most tokens here are prompt.
    scored_BT = mask_BT[:, 1:].bool()
    logits_NV = model.lm_head(hidden_BTH[:, :-1][scored_BT])
    # In float32, because bfloat16 cannot tell -130.0 from -130.4.
    logp_NV = logits_NV.float().log_softmax(-1)
    logp_N = logp_NV.gather(-1, ids_BT[:, 1:][scored_BT][:, None]).squeeze(-1)
    return F.pad(logp_N.new_zeros(scored_BT.shape).masked_scatter(scored_BT, logp_N), (1, 0))


def group_advantages(rewards_PG: torch.Tensor) -> torch.Tensor:
    """How much better than its group each sample did, in standard deviations of the group."""
    centred_PG = rewards_PG - rewards_PG.mean(1, keepdim=True)
    # All alike, right or wrong: the deviation is 0, so is the numerator, and the prompt teaches nothing.
    return centred_PG / (rewards_PG.std(1, keepdim=True) + 1e-4)


def loss(policy: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """The clipped surrogate plus the KL, averaged within each answer and then over answers."""
    logp_BT = token_logp(policy, batch.ids_BT, batch.mask_BT)
    ratio_BT = (logp_BT - batch.old_logp_BT).exp()
    advantages_B1 = batch.advantages_B[:, None]
    # The larger of two losses is the more pessimistic: once the ratio has left the interval in the direction
    # that the advantage wants, the clipped branch wins, and it has no gradient.
    free_BT = -advantages_B1 * ratio_BT
    held_BT = -advantages_B1 * ratio_BT.clamp(1 - CLIP, 1 + CLIP)
    # k3, placed in the loss: never negative, 0 only where policy and reference agree on the token.
    gap_BT = batch.ref_logp_BT - logp_BT
    kl_BT = torch.expm1(gap_BT) - gap_BT
    per_token_BT = torch.maximum(free_BT, held_BT) + KL * kl_BT
    # Each answer counts once, however long; so a token of a short answer weighs more than one of a long one.
    per_answer_B = (per_token_BT * batch.mask_BT).sum(1) / batch.mask_BT.sum(1)
    return per_answer_B.mean()


@torch.no_grad()
def sample_group(policy: torch.nn.Module, prompt: list[int], stop: int) -> list[list[int]]:
    """G completions of one prompt at temperature 1, each up to and including its stop token."""
    # All rows share their prompt, so there is nothing to pad; and what the policy is asked to learn must be
    # drawn from the policy itself, so no top-k, no top-p, no temperature that the loss would not know of.
    ids, cache, columns = torch.tensor([prompt] * SAMPLES), None, []
    for _ in range(NEW_TOKENS):
        output = policy(input_ids=ids, past_key_values=cache, use_cache=True)
        ids, cache = output.logits[:, -1].float().softmax(-1).multinomial(1), output.past_key_values
        columns.append(ids)
    rows = torch.cat(columns, 1).tolist()
    return [row[: row.index(stop) + 1] if stop in row else row for row in rows]


def reward(text: str, word: str, tokens: int) -> float:
    """0 for a wrong answer; 1 for a right one, less up to a half for its length."""
    # An answer that runs into the limit pays the whole half, and so the model learns to stop.
    return (word in text.lower()) * (1 - 0.5 * tokens / NEW_TOKENS)


def rollout(
    policy: torch.nn.Module,
    reference: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[Batch, torch.Tensor]:
    """Sample, score, and freeze all that the loss will need. Returns the batch and the rewards ``[P, G]``."""
    stop = tokenizer.convert_tokens_to_ids(STOP)
    rows, written, rewards = [], [], []
    for question, word in QUESTIONS.items():
        prompt = tokenizer(PROMPT.format(question), add_special_tokens=False)["input_ids"]
        for completion in sample_group(policy, prompt, stop):
            rows.append(torch.tensor(prompt + completion))
            # The mask goes by position, never by comparing ids with the padding id: often padding is the stop
            # token, and a mask by value would take it out of the loss. The model would never learn to stop.
            written.append(torch.tensor([0.0] * len(prompt) + [1.0] * len(completion)))
            rewards.append(reward(tokenizer.decode(completion), word, len(completion)))
    ids_BT, mask_BT = (pad_sequence(part, batch_first=True) for part in (rows, written))
    rewards_PG = torch.tensor(rewards).view(-1, SAMPLES)
    with torch.no_grad():
        # The sampler above computes the same distribution, so its log-probs would do as the old ones. A
        # separate inference engine does not: its log-probs are a fourth set, and the gap needs a correction.
        old_logp_BT = token_logp(policy, ids_BT, mask_BT)
        ref_logp_BT = token_logp(reference, ids_BT, mask_BT)
    advantages_B = group_advantages(rewards_PG).flatten()
    return Batch(ids_BT, mask_BT, advantages_B, old_logp_BT, ref_logp_BT), rewards_PG


def main(arguments: list[str] | None = None) -> None:
    """Train and print, step by step, how good and how long the answers were."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=EMBEDDED, help="a folder; the embedded one by default")
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    # Evaluation mode while training, too: with dropout the policy that learns is not the one that sampled.
    policy = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    # Where padding is the stop token, as here, transformers would give its embedding no gradient as an input.
    policy.get_input_embeddings().padding_idx = None
    reference = copy.deepcopy(policy).requires_grad_(False)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.0)
    for step in range(options.steps):
        batch, rewards_PG = rollout(policy, reference, tokenizer)
        for _ in range(UPDATES):
            value = loss(policy, batch)
            value.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        # The loss itself says little: in the first update it is 0 up to the KL, since advantages sum to 0.
        kl_B = ((batch.old_logp_BT - batch.ref_logp_BT) * batch.mask_BT).sum(1)
        dead = rewards_PG.std(1) == 0
        length = batch.mask_BT.sum(1).mean()
        print(
            f"step {step}  reward {rewards_PG.mean():.2f}  tokens per answer {length:4.1f}"
            f"  groups without signal {dead.sum()} of {len(dead)}  KL {kl_B.mean():.2f} nats per answer",
            flush=True,
        )


if __name__ == "__main__":
    main()
