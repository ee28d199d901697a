"""Bias and penalties against their definitions, written out token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tests.tiny import make_tokenizer

from ridgeline.rollout.distribution import draw_tokens, log_distribution
from ridgeline.rollout.shaping import Written, shaped, token_bias
from ridgeline.schema.errors import UsageError
from ridgeline.schema.stages.common import Sampling

LOGITS = torch.tensor([[1.0, -2.0, 0.5, 3.0, -0.5, 0.0], [2.0, 2.0, -1.0, 1.0, 4.0, -3.0]])
PROMPTS = [[0, 1, 1], [5]]
COMPLETIONS: list[list[int]] = [[3, 3, 1], []]


def by_hand(
    logits: Sequence[float],
    prompt: list[int],
    completion: list[int],
    bias: dict[int, float],
    sampling: Sampling,
) -> list[float]:
    """One logit after the other."""
    result = []
    for token, logit in enumerate(logits):
        logit += bias.get(token, 0.0)
        if token in prompt or token in completion:
            penalty = sampling.repetition_penalty
            logit = logit / penalty if logit > 0 else logit * penalty
        logit -= sampling.frequency_penalty * completion.count(token)
        logit -= sampling.presence_penalty * (token in completion)
        result.append(logit)
    return result


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetition_penalty": 1.5},
        {"repetition_penalty": 0.5},
        {"presence_penalty": 0.7},
        {"frequency_penalty": -0.4},
        {"logit_bias": {"1": 5.0, "5": -100.0}},
        {
            "logit_bias": {"1": 5.0},
            "repetition_penalty": 1.2,
            "presence_penalty": 0.7,
            "frequency_penalty": 0.4,
        },
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_by_hand(options: dict[str, Any], dtype: torch.dtype) -> None:
    sampling = Sampling(**options)
    bias = {int(key): value for key, value in sampling.logit_bias.items()}
    logits, before = LOGITS.to(dtype), LOGITS.to(dtype)
    ours = shaped(logits, sampling, Written(PROMPTS, COMPLETIONS, bias))
    rows = zip(LOGITS.tolist(), PROMPTS, COMPLETIONS, strict=True)
    expected = torch.tensor([by_hand(*row, bias, sampling) for row in rows])
    torch.testing.assert_close(ours.float(), expected)
    assert torch.equal(logits, before)  # the first logits of a prompt are used again


def test_nothing_written_is_no_penalty() -> None:
    sampling = Sampling(presence_penalty=1.0, frequency_penalty=1.0)
    assert torch.equal(shaped(LOGITS, sampling, Written([[1], [2]], [[], []], {})), LOGITS)


def test_a_penalty_without_a_history_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="what is written"):
        log_distribution(LOGITS, Sampling(repetition_penalty=1.2))


def test_greedy_goes_by_the_shaped_logits() -> None:
    sampling = Sampling(temperature=0, logit_bias={"2": 10.0})
    written = Written(PROMPTS, COMPLETIONS, {2: 10.0})
    assert log_distribution(LOGITS, sampling, written).argmax(-1).tolist() == [2, 2]
    tokens, logp = draw_tokens(LOGITS, sampling, torch.zeros(2, dtype=torch.float64), written)
    assert tokens.tolist() == [2, 2] and logp.tolist() == [0, 0]


def test_a_bias_is_on_an_id_or_on_the_text_of_one_token() -> None:
    tokenizer = make_tokenizer()
    (letter,) = tokenizer.encode("x")
    sampling = Sampling(logit_bias={"x": 1.5, 7: -2.0, "<|im_end|>": -100})
    assert token_bias(tokenizer, sampling, len(tokenizer)) == {
        letter: 1.5,
        7: -2.0,
        tokenizer.eos_token_id: -100.0,
    }


@pytest.mark.parametrize(
    "bias, sentence",
    [
        ({"xyz": 1.0}, r"'xyz' is 3 tokens of this model \(.*\); name each by its id"),
        ({"": 1.0}, "'' is 0 tokens"),
        ({"999": 1.0}, "there is no token 999; the model's ids go to 319"),
        ({"2": 1.0, "<|im_end|>": 2.0}, "'<|im_end|>' is token 2, which is named twice"),
    ],
)
def test_a_bias_on_something_else_is_refused(bias: dict[str, float], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence.replace("|", r"\|")):
        token_bias(make_tokenizer(), Sampling(logit_bias=bias), 320)
