"""A reward model in one file, from tokens to the optimizer step: which answer would people prefer?

    python docs/flat/reward_model.py [--model FOLDER] [--steps 12]

A language model without its vocabulary head, and one linear unit on its last hidden state. Nobody can say how
good an answer is, but people can say which of two is better; the model of Bradley and Terry turns scores into
such choices, P(a beats b) = sigmoid(r_a - r_b), and the loss is the surprise at the choices that were made.

Only differences between answers to one prompt mean something: adding 100 to every score changes nothing.

Shapes: N pairs, B = 2 N rows (the chosen ones first), T tokens of the longest row, H hidden units.
Source: Ouyang et al. 2022, equation 1. The tests hold this file equal to the library.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

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
]
HELD_OUT = [
    ("I do not understand.", "Thank you for saying so. Which part is unclear?", "It was explained already."),
    ("I missed the train.", "Oh no, I am sorry. Shall I look for the next one?", "Leave the house earlier."),
    ("My back hurts.", "I am sorry. Have you been able to see a doctor about it?", "Sit straight."),
    ("I cannot sleep.", "That is hard. Would you like to try a breathing exercise?", "Close your eyes."),
]
RATE, HEAD_RATE = 2e-5, 1e-3
CENTERING = 0.01


@dataclass
class Batch:
    """N pairs: rows 0 .. N - 1 are chosen, rows N .. 2 N - 1 the rejected ones of the same prompts."""

    ids_BT: torch.Tensor  # prompt, then answer, then padding
    last_B: torch.Tensor  # position of the last token of each row


class RewardModel(nn.Module):
    """Backbone and one linear unit."""

    def __init__(self, backbone: nn.Module, hidden: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(hidden, 1)
        # From 0, so that the first scores are all 0 and not noise. The backbone gets its first gradient in
        # the second step, once the head has a direction.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Scores ``[B]``."""
        # No attention mask: padding is on the right, and causal attention never looks there.
        hidden_BTH = self.backbone(input_ids=batch.ids_BT).last_hidden_state
        # The last token is the only one that has seen the whole answer. Not [-1], which is padding in all
        # rows but the longest; and not the last id that differs from the padding id, which skips the stop
        # token where the two are the same, and reads the score one token early.
        last_BH = hidden_BTH[torch.arange(len(batch.last_B)), batch.last_B]
        return self.head(last_BH).squeeze(-1)


def loss(model: RewardModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss, averaged over pairs, and the scores ``[2, N]`` of chosen and rejected."""
    scores_2N = model(batch).view(2, -1)
    chosen_N, rejected_N = scores_2N
    ranking_N = -F.logsigmoid(chosen_N - rejected_N)
    # Pairs leave the level of the scores free. A light pull of each pair's sum to 0 fixes it, so that scores
    # of different prompts, and a KL coefficient beside them, stay on one scale.
    centring_N = (chosen_N + rejected_N).square()
    return (ranking_N + CENTERING * centring_N).mean(), scores_2N.detach()


def encode(pairs: list[tuple[str, str, str]], tokenizer: PreTrainedTokenizerBase) -> Batch:
    """All rows, padded on the right."""
    rows = []
    for side in (1, 2):
        for pair in pairs:
            # Tokenised apart, so that both answers stand behind the same prompt tokens. And both end with the
            # stop token: an answer that was cut off is another kind of text, and a reward model must not
            # learn to tell answers by their endings.
            prompt = tokenizer(PROMPT.format(pair[0]), add_special_tokens=False)["input_ids"]
            answer = tokenizer(pair[side] + STOP, add_special_tokens=False)["input_ids"]
            rows.append(torch.tensor(prompt + answer))
    return Batch(pad_sequence(rows, batch_first=True), torch.tensor([len(row) - 1 for row in rows]))


def main(arguments: list[str] | None = None) -> None:
    """Train on some pairs, judge others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=EMBEDDED, help="a folder; the embedded one by default")
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args(arguments)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    backbone = AutoModel.from_pretrained(options.model, dtype=torch.float32).eval()
    # Where padding is the stop token, as here, transformers would give its embedding no gradient as an input.
    backbone.get_input_embeddings().padding_idx = None
    model = RewardModel(backbone, backbone.config.hidden_size)
    train, heldout = encode(PAIRS, tokenizer), encode(HELD_OUT, tokenizer)
    # The head starts from nothing and may run; the backbone has much to lose.
    groups = [{"params": model.backbone.parameters(), "lr": RATE}, {"params": model.head.parameters()}]
    optimizer = torch.optim.AdamW(groups, lr=HEAD_RATE, weight_decay=0.0)
    for step in range(options.steps):
        with torch.no_grad():
            unseen, unseen_2N = loss(model, heldout)
        value, scores_2N = loss(model, train)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        # The loss starts at log 2 = 0.693, that of a coin. Training pairs are soon known by heart, so the
        # figure that counts is the held-out one; a single epoch is the rule for real data.
        print(
            f"step {step:2d}  loss {value.item():.3f}  in the right order {right(scores_2N):.2f}"
            f"   held out: loss {unseen.item():.3f}  right {right(unseen_2N):.2f}",
            flush=True,
        )


def right(scores_2N: torch.Tensor) -> float:
    """Share of pairs whose chosen answer scores higher; a tie is half right."""
    margin_N = scores_2N[0] - scores_2N[1]
    return ((margin_N > 0) + 0.5 * (margin_N == 0)).mean(dtype=torch.float32).item()


if __name__ == "__main__":
    main()
