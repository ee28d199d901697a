"""DPO in one file, from tokens to the optimizer step: a language model learns manners from pairs.

    python docs/flat/dpo.py [--model FOLDER] [--steps 12]

A pair is one prompt with a chosen and a rejected answer. DPO needs no reward model and samples nothing: the
reward that explains the choices is read off the policy itself, as the log-ratio to where it started,

    r(x, y) = beta * (log pi(y | x) - log pi_ref(y | x))        up to a term of x that a difference cancels,

and the loss is that of a reward model on these rewards: -log sigmoid(r_chosen - r_rejected).

Shapes: N pairs, B = 2 N rows (the chosen ones first), T tokens of the longest row, V words of the vocabulary.
Source: Rafailov et al. 2023, equation 7. The tests hold this file equal to the library.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

EMBEDDED = Path("~/.cache/ridgeline/smollm2-135m-instruct-0.1.2").expanduser()
PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
STOP = "<|im_end|>"
PAIRS = [
    (
        "I lost my keys.",
        "I am sorry to hear that. Where did you last have them?",
        "That was careless.",
    ),
    ("My plant died.", "What a pity! Would you like some advice for the next one?", "You forgot the water."),
    ("I failed the test.", "That must hurt. Shall we look at it together?", "Then you did not study enough."),
    ("I am tired.", "I understand. Could you rest for a little while?", "Everybody is tired. Go on."),
    ("I burnt the soup.", "That happens to all of us! Can I suggest something quick?", "Read the recipe."),
    ("It is my birthday.", "Happy birthday! I hope you have a lovely day.", "So it is for many others."),
    ("I do not understand.", "Thank you for saying so. Which part is unclear?", "It was explained already."),
    ("I missed the train.", "Oh no, I am sorry. Shall I look for the next one?", "Leave the house earlier."),
]
BETA = 0.1  # small: the policy may go far from the reference; large: it has to stay near
RATE = 5e-6  # far below fine-tuning; at 5e-5 DPO ruins a model within a few steps


@dataclass
class Batch:
    """N pairs: rows 0 .. N - 1 are chosen, rows N .. 2 N - 1 the rejected ones of the same prompts."""

    ids_BT: torch.Tensor  # prompt, then answer, then padding
    mask_BT: torch.Tensor  # 1 on the tokens of the answer, its stop token included
    ref_logp_B: torch.Tensor  # of the whole answer, under the reference


def answer_logp(model: torch.nn.Module, ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """log pi(y | x) of every row ``[B]``: the SUM over the tokens of the answer, prompt masked."""
    # No attention mask: padding is on the right, and causal attention never looks there.
    logits_BTV = model(input_ids=ids_BT).logits
    # Logits at t - 1 are about token t. The sum reaches hundreds of nats, where neighbouring bfloat16 numbers
    # are a whole nat apart: float32, or the pairs' margins are noise.
    logp_BTV = logits_BTV[:, :-1].float().log_softmax(-1)
    logp_BT = logp_BTV.gather(-1, ids_BT[:, 1:, None]).squeeze(-1)
    return (logp_BT * mask_BT[:, 1:]).sum(1)


def loss(policy: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss, averaged over pairs, and the implicit rewards ``[2, N]`` of chosen and rejected."""
    logp_B = answer_logp(policy, batch.ids_BT, batch.mask_BT)
    rewards_2N = (BETA * (logp_B - batch.ref_logp_B)).view(2, -1)
    margin_N = rewards_2N[0] - rewards_2N[1]
    # Its gradient is sigmoid(-margin) * (grad chosen - grad rejected): pairs in the wrong order pull hardest,
    # pairs that are settled hardly pull at all.
    return -F.logsigmoid(margin_N).mean(), rewards_2N.detach()


def encode(tokenizer: PreTrainedTokenizerBase) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask ``[B, T]`` of all pairs, padded on the right."""
    rows, written = [], []
    for side in (1, 2):
        for pair in PAIRS:
            # Tokenised apart, as the model will see them when it answers: in one text, the last token of the
            # prompt might merge with the first of the answer.
            prompt = tokenizer(PROMPT.format(pair[0]), add_special_tokens=False)["input_ids"]
            answer = tokenizer(pair[side] + STOP, add_special_tokens=False)["input_ids"]
            rows.append(torch.tensor(prompt + answer))
            # By position, never by comparing ids with the padding id, which often is the stop token.
            written.append(torch.tensor([0.0] * len(prompt) + [1.0] * len(answer)))
    return pad_sequence(rows, batch_first=True), pad_sequence(written, batch_first=True)


def main(arguments: list[str] | None = None) -> None:
    """Train on all pairs at once and print what became of both sides."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=EMBEDDED, help="a folder; the embedded one by default")
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args(arguments)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    # Evaluation mode while training, too: dropout would put noise between policy and reference.
    policy = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    # Where padding is the stop token, as here, transformers would give its embedding no gradient as an input.
    policy.get_input_embeddings().padding_idx = None
    ids_BT, mask_BT = encode(tokenizer)
    # The reference is the policy as it is now, so one pass over the data replaces a second model in memory.
    with torch.no_grad():
        batch = Batch(ids_BT, mask_BT, answer_logp(policy, ids_BT, mask_BT))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.0)
    for step in range(options.steps):
        value, rewards_2N = loss(policy, batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        margin_N = rewards_2N[0] - rewards_2N[1]
        # Before the first step every margin is 0, and a tie is half right, not wrong.
        accuracy = ((margin_N > 0) + 0.5 * (margin_N == 0)).mean(dtype=torch.float32)
        # Watch both sides and not the margin alone: the loss only asks that rejected answers fall faster, and
        # it is content to see the chosen ones fall as well (likelihood displacement).
        chosen, rejected = (rewards_2N / BETA).mean(1).tolist()
        print(
            f"step {step:2d}  loss {value.item():.3f}  pairs in the right order {accuracy:.2f}"
            f"  change of log-prob: chosen {chosen:+6.2f}  rejected {rejected:+6.2f} nats",
            flush=True,
        )


if __name__ == "__main__":
    main()
