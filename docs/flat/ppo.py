"""PPO in one file, from tokens to the optimizer step: the same questions as in grpo.py, and a critic.

    python docs/flat/ppo.py [--model FOLDER] [--steps 8]

GRPO compares an answer with others to the same prompt. PPO compares every token with what a second model, the
critic, expected before it was written. The order of things, each frozen before the next begins:

    1  sample completions and score them                      rewards_B, one number per answer
    2  KL to the reference, token by token, into the reward   rewards_BT, the score on the last token
    3  GAE with the critic's values of the rollout            returns_BT, and advantages_BT, whitened
    4  several optimizer steps: clipped policy loss, clipped value loss

Shapes: B rows, T tokens of the longest row, H hidden units, V words of the vocabulary. Tested equal to the
library. Source: Schulman et al. 2017, equation 7; for language models Ziegler et al. 2019, Huang et al. 2024.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim import AdamW
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

EMBEDDED = Path("~/.cache/ridgeline/smollm2-135m-instruct-0.1.2").expanduser()
PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
STOP = "<|im_end|>"
QUESTIONS = {
    "What is the capital of France?": "paris",
    "Which planet do we live on?": "earth",
    "What do bees make?": "honey",
    "What colour is grass?": "green",
}

SAMPLES, NEW_TOKENS, UPDATES = 6, 16, 2
RATE, CRITIC_RATE = 3e-5, 5e-5
CLIP, VALUE_CLIP, VALUE_COEFFICIENT = 0.2, 0.2, 0.5
KL, GAMMA, LAMBDA = 0.05, 1.0, 0.95


@dataclass
class Batch:
    """One rollout. Everything in it is a constant."""

    ids_BT: Tensor  # prompt, then completion, then padding
    mask_BT: Tensor  # 1 on the tokens that the policy wrote
    old_logp_BT: Tensor
    old_values_BT: Tensor
    advantages_BT: Tensor
    returns_BT: Tensor


class Critic(nn.Module):
    """What reward is still to come? Asked before every token."""

    def __init__(self, backbone: nn.Module, hidden: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(hidden, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Values ``[B, T]``: ``[:, t]`` is that of the state before token t is chosen."""
        hidden_BTH = self.backbone(input_ids=ids_BT).last_hidden_state[:, :-1]
        return F.pad(self.head(hidden_BTH).squeeze(-1), (1, 0))


def token_logp(model: nn.Module, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Log-prob of every scored token given those before it: ``[:, t]`` belongs to token t; 0 elsewhere."""
    # No attention mask: padding is on the right, and causal attention never looks there.
    hidden_BTH = model.base_model(input_ids=ids_BT).last_hidden_state[:, :-1]
    scored_BT = mask_BT[:, 1:].bool()  # logits are wide, so they are made where they are needed
    logp_NV = model.lm_head(hidden_BTH[scored_BT]).float().log_softmax(-1)
    logp_N = logp_NV.gather(-1, ids_BT[:, 1:][scored_BT][:, None]).squeeze(-1)
    return F.pad(logp_N.new_zeros(scored_BT.shape).masked_scatter(scored_BT, logp_N), (1, 0))


def shaped_rewards(rewards_B: Tensor, old_logp_BT: Tensor, ref_logp_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """-KL * (log pi - log pi_ref) on every token, plus the score on the last one that was written."""
    # k1: unbiased in the reward, and negative on some tokens, as it must be allowed to be. In the loss, where
    # GRPO has its k3, its gradient would be zero on average.
    rewards_BT = -KL * (old_logp_BT - ref_logp_BT) * mask_BT
    last_B = (mask_BT.cumsum(1) * mask_BT).argmax(1)
    rewards_BT[torch.arange(len(last_B)), last_B] += rewards_B
    return rewards_BT


def gae(rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Advantages and the critic's targets, backwards: A_t = delta_t + gamma lambda A_{t+1}."""
    advantages_BT = torch.zeros_like(values_BT)
    next_value_B = next_advantage_B = torch.zeros(len(values_BT), dtype=values_BT.dtype)
    for t in reversed(range(values_BT.shape[1])):
        # After the last token the world ends: the value there is 0, and padding never gets to change that.
        delta_B = rewards_BT[:, t] + GAMMA * next_value_B - values_BT[:, t]
        next_advantage_B = (delta_B + GAMMA * LAMBDA * next_advantage_B) * mask_BT[:, t]
        next_value_B = values_BT[:, t] * mask_BT[:, t]
        advantages_BT[:, t] = next_advantage_B
    return advantages_BT, advantages_BT + values_BT


def whiten(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the tokens that count; padding would drag both towards 0."""
    kept = values_BT[mask_BT.bool()]
    return (values_BT - kept.mean()) / (kept.std() + 1e-4) * mask_BT


def policy_loss(policy: nn.Module, batch: Batch) -> Tensor:
    """The clipped surrogate, averaged over all tokens of the batch: a long answer counts for more."""
    ratio_BT = (token_logp(policy, batch.ids_BT, batch.mask_BT) - batch.old_logp_BT).exp()
    # The larger of two losses: once the ratio has left the interval the way the advantage wants, no gradient.
    free_BT = -batch.advantages_BT * ratio_BT
    held_BT = -batch.advantages_BT * ratio_BT.clamp(1 - CLIP, 1 + CLIP)
    return (torch.maximum(free_BT, held_BT) * batch.mask_BT).sum() / batch.mask_BT.sum()


def value_loss(critic: Critic, batch: Batch) -> Tensor:
    """Half the squared error to the returns, clipped around the values of the rollout in the same spirit."""
    values_BT = critic(batch.ids_BT)
    near_BT = values_BT.clamp(batch.old_values_BT - VALUE_CLIP, batch.old_values_BT + VALUE_CLIP)
    free_BT, held_BT = (values_BT - batch.returns_BT).square(), (near_BT - batch.returns_BT).square()
    return (torch.maximum(free_BT, held_BT) * batch.mask_BT).sum() / batch.mask_BT.sum() / 2


def sample(policy: nn.Module, prompt: list[int], stop: int) -> list[list[int]]:
    """A few completions of one prompt at temperature 1, each up to and including its stop token."""
    ids, cache, columns = torch.tensor([prompt] * SAMPLES), None, []
    for _ in range(NEW_TOKENS):
        output = policy(input_ids=ids, past_key_values=cache, use_cache=True)
        ids, cache = output.logits[:, -1].float().softmax(-1).multinomial(1), output.past_key_values
        columns.append(ids)
    return [row[: row.index(stop) + 1] if stop in row else row for row in torch.cat(columns, 1).tolist()]


@torch.no_grad()
def rollout(
    policy: nn.Module, reference: nn.Module, critic: Critic, tokenizer: PreTrainedTokenizerBase
) -> tuple[Batch, Tensor, Tensor]:
    """Steps 1 to 4. Returns the batch, the scores ``[B]`` and the KL to the reference per answer ``[B]``."""
    stop = tokenizer.convert_tokens_to_ids(STOP)
    rows, written, rewards = [], [], []
    for question, word in QUESTIONS.items():
        prompt = tokenizer(PROMPT.format(question), add_special_tokens=False)["input_ids"]
        for completion in sample(policy, prompt, stop):
            text = tokenizer.decode(completion)
            rewards.append((word in text.lower()) * (1 - 0.5 * len(completion) / NEW_TOKENS))
            rows.append(torch.tensor(prompt + completion))
            # The mask goes by position, never by comparing ids with padding, which may be the stop token.
            written.append(torch.tensor([0.0] * len(prompt) + [1.0] * len(completion)))
    ids_BT, mask_BT = (pad_sequence(part, batch_first=True) for part in (rows, written))
    old_logp_BT, ref_logp_BT = (token_logp(model, ids_BT, mask_BT) for model in (policy, reference))
    old_values_BT = critic(ids_BT)
    rewards_BT = shaped_rewards(torch.tensor(rewards), old_logp_BT, ref_logp_BT, mask_BT)
    advantages_BT, returns_BT = gae(rewards_BT, old_values_BT, mask_BT)
    # Returns stay in reward units, for the critic has to predict them.
    batch = Batch(ids_BT, mask_BT, old_logp_BT, old_values_BT, whiten(advantages_BT, mask_BT), returns_BT)
    return batch, torch.tensor(rewards), ((old_logp_BT - ref_logp_BT) * mask_BT).sum(1)


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
    reference = copy.deepcopy(policy).requires_grad_(False)
    # Best started from a reward model (reward_model.py makes the very same module); here from the policy.
    backbone = AutoModel.from_pretrained(options.model, dtype=torch.float32).eval()
    critic = Critic(backbone, backbone.config.hidden_size)
    for model in (policy, backbone):  # or the stop token, which pads here, would get no gradient as an input
        model.get_input_embeddings().padding_idx = None
    optimizer = AdamW(policy.parameters(), lr=RATE, weight_decay=0.0)
    optimizer.add_param_group({"params": critic.parameters(), "lr": CRITIC_RATE})
    for step in range(options.steps):
        batch, rewards_B, kl_B = rollout(policy, reference, critic, tokenizer)
        for _ in range(UPDATES):
            error = value_loss(critic, batch)
            (policy_loss(policy, batch) + VALUE_COEFFICIENT * error).backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)  # no weight in common with the critic
            torch.nn.utils.clip_grad_norm_(critic.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        length, error = batch.mask_BT.sum(1).mean(), 2 * error.item()
        print(f"step {step}  reward {rewards_B.mean():.2f}  tokens {length:4.1f}", end="  ")
        print(f"KL {kl_B.mean():.2f} nats per answer  critic's squared error {error:.3f}", flush=True)


if __name__ == "__main__":
    main()
