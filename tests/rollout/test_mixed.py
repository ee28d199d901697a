"""The arithmetic mixture holds the mass of its members, and samples record it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from tests.models.families import make_model
from tests.tiny import make_tokenizer

from ridgeline.rollout.decoder import ModelDecoder
from ridgeline.rollout.mixed import ArithmeticMixture
from ridgeline.rollout.plain import PlainSampler
from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.records import Sample
from ridgeline.schema.stages.common import Sampling

REQUESTS = [PromptRequest("a", [3, 4, 5], 3), PromptRequest("b", [9, 8, 7, 6, 5], 3)]
STUDENT, TEACHER = make_model("llama", seed=0), make_model("llama", seed=1)


def drawn(weights: Sequence[float], temperature: float = 1.0) -> list[Sample]:
    sampler = PlainSampler(
        STUDENT,
        make_tokenizer(),
        [2],
        new_decoder=lambda: ArithmeticMixture(
            [ModelDecoder(STUDENT), ModelDecoder(TEACHER)], weights, temperature
        ),
    )
    return sampler(REQUESTS, Sampling(max_new_tokens=6, temperature=temperature), seed=5, step=0)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_recorded_log_probs_are_those_of_the_mixture(temperature: float) -> None:
    for sample in drawn([0.7, 0.3], temperature):
        ids = torch.tensor([[*sample.prompt_ids, *sample.completion_ids]])
        first = len(sample.prompt_ids) - 1
        p, q = (
            torch.softmax(model(input_ids=ids).logits[0, first:-1] / temperature, -1)
            for model in (STUDENT, TEACHER)
        )
        chosen = ids[0, first + 1 :, None]
        expected = (0.7 * p + 0.3 * q).gather(-1, chosen)[:, 0].log()
        torch.testing.assert_close(torch.tensor(sample.logprobs), expected, atol=1e-4, rtol=1e-4)


def test_a_small_share_leaves_the_student_as_it_is() -> None:
    plain = PlainSampler(STUDENT, make_tokenizer(), [2])(REQUESTS, Sampling(max_new_tokens=6), seed=5, step=0)
    assert [s.completion_ids for s in drawn([1 - 1e-9, 1e-9])] == [s.completion_ids for s in plain]
    assert [s.completion_ids for s in drawn([1e-9, 1 - 1e-9])] != [s.completion_ids for s in plain]


def test_heads_of_different_sizes() -> None:
    class Fixed:
        def __init__(self, logits: list[float]) -> None:
            self.logits = torch.tensor([logits])

        def prefill(self, requests: Sequence[PromptRequest], owners: Sequence[int]) -> torch.Tensor:
            return self.logits

        def step(self, chosen: torch.Tensor) -> torch.Tensor:
            return self.logits

        def keep(self, rows: torch.Tensor) -> None: ...

    shorter = ArithmeticMixture([Fixed([0.0, 0.0, 0.0]), Fixed([0.0, 0.0])], [0.4, 0.6], 1.0)
    expected = torch.tensor([[0.4 / 3 + 0.3, 0.4 / 3 + 0.3, 0.4 / 3]])
    torch.testing.assert_close(shorter.prefill([], []).softmax(-1), expected)
    longer = ArithmeticMixture([Fixed([0.0, 0.0]), Fixed([0.0, 0.0, 0.0])], [0.4, 0.6], 1.0)
    assert longer.step(torch.zeros(1)).shape == (1, 2)


def test_refuses_weights_that_do_not_sum_to_one() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        ArithmeticMixture([ModelDecoder(STUDENT)], [0.5], 1.0)
