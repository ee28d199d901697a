"""What moves single logits before a token is drawn: a given bias, and penalties on what is written.

Each of them touches as many logits as there are such tokens, never the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from ridgeline.schema.errors import UsageError
from ridgeline.schema.stages.common import Sampling


@dataclass(frozen=True)
class Written:
    """What stands before the tokens that are drawn next: a prompt and a completion for each row.

    bias: what is added to the logits of tokens, by id, in every row.
    """

    prompts: Sequence[Sequence[int]]
    completions: Sequence[Sequence[int]]
    bias: Mapping[int, float]


def shapes(sampling: Sampling) -> bool:
    """Whether there is a bias or a penalty at all."""
    penalties = sampling.presence_penalty != 0 or sampling.frequency_penalty != 0
    return bool(sampling.logit_bias) or sampling.repetition_penalty != 1 or penalties


def shaped(logits_BV: torch.Tensor, sampling: Sampling, written: Written | None) -> torch.Tensor:
    """Logits ``[B, V]`` with bias and penalties, in this order: a float32 copy, or as they are without any.

    ``logit_bias`` is added. ``repetition_penalty`` divides the logits of tokens of prompt or completion where
    they are positive, and multiplies them where they are negative (Keskar et al. 2019, equation 2, with the
    sign handled as transformers and vLLM do). ``frequency_penalty`` times its number in the completion, and
    ``presence_penalty`` once, are taken from the logit of a token of the completion (as OpenAI's API).
    Raises ValueError where there is one of them but no ``written``.
    """
    if not shapes(sampling):
        return logits_BV
    if written is None:
        raise ValueError("a bias and penalties need to know what is written.")
    logits_BV = logits_BV.to(torch.float32, copy=True)
    if written.bias:
        ids = torch.tensor(list(written.bias), device=logits_BV.device)
        logits_BV[:, ids] += torch.tensor(list(written.bias.values()), device=logits_BV.device)
    if sampling.repetition_penalty != 1:
        texts = [[*prompt, *own] for prompt, own in zip(written.prompts, written.completions, strict=True)]
        where, _ = _places(texts, logits_BV)
        found = logits_BV[where]
        penalty = sampling.repetition_penalty
        logits_BV[where] = torch.where(found > 0, found / penalty, found * penalty)
    if sampling.presence_penalty != 0 or sampling.frequency_penalty != 0:
        where, counts = _places(written.completions, logits_BV)
        logits_BV[where] -= sampling.frequency_penalty * counts + sampling.presence_penalty
    return logits_BV


def _places(
    texts: Sequence[Sequence[int]], logits_BV: torch.Tensor
) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Rows and ids of the logits of the tokens in ``texts``, each once, and how often each is there."""
    rows = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    tokens = np.fromiter(chain.from_iterable(texts), dtype=np.int64, count=len(rows))
    unique, counts = np.unique(rows * logits_BV.shape[1] + tokens, return_counts=True)
    row, token = np.divmod(unique, logits_BV.shape[1])
    device = logits_BV.device
    places = torch.from_numpy(row).to(device), torch.from_numpy(token).to(device)
    return places, torch.from_numpy(counts).to(device, torch.float32)


def token_bias(tokenizer: PreTrainedTokenizerBase, sampling: Sampling, vocabulary: int) -> dict[int, float]:
    """``sampling.logit_bias`` by id; a whole number is an id, anything else the text of one token.

    Raises:
        UsageError: a text that is not one token, an id beyond the vocabulary, or one token named twice.
    """
    bias: dict[int, float] = {}
    for key, value in sampling.logit_bias.items():
        token = int(key) if key.isdecimal() else _token(tokenizer, key)
        if token >= vocabulary:
            raise UsageError(
                f"sampling.logit_bias: there is no token {token}; the model's ids go to {vocabulary - 1}."
            )
        if token in bias:
            raise UsageError(
                f"sampling.logit_bias: '{key}' is token {token}, which is named twice; drop one."
            )
        bias[token] = value
    return bias


def _token(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    ids = tokenizer.encode(text, add_special_tokens=False)
    if len(ids) != 1:
        raise UsageError(
            f"sampling.logit_bias: '{text}' is {len(ids)} tokens of this model ({', '.join(map(str, ids))}); "
            "name each by its id."
        )
    return int(ids[0])
