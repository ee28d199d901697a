from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ridgeline.models import kernels
from ridgeline.objectives.logprobs import token_logprobs
from ridgeline.rollout.distribution import draw, draw_tokens, log_distribution
from ridgeline.rollout.draws import stream_keys, uniforms
from ridgeline.rollout.shaping import Written
from ridgeline.schema.stages.common import Sampling

LOGITS = torch.tensor([1.0, 3.0, 0.5, 2.0, -1.0, 2.5, 0.0])
ALMOST_ONE = 1 - 2.0**-53


def exact(
    logits: torch.Tensor, temperature: float, top_k: int, top_p: float, min_p: float = 0.0
) -> np.ndarray:
    """The slow, obvious definition, token by token in float64."""
    weights = np.exp(logits.double().numpy() / temperature)
    probability = weights / weights.sum()
    order = sorted(range(len(probability)), key=lambda i: (-probability[i], i))
    if top_k:
        order = order[:top_k]
    kept_total = sum(probability[i] for i in order)
    kept, mass = [], 0.0
    for index in order:
        if mass >= top_p:
            break
        mass += probability[index] / kept_total
        if probability[index] >= min_p * probability.max():
            kept.append(index)
    result = np.zeros(len(probability))
    result[kept] = probability[kept] / probability[kept].sum()
    return result


CASES = [
    (1.0, 0, 1.0, 0.0), (0.7, 0, 1.0, 0.0), (1.6, 0, 1.0, 0.0), (1.0, 3, 1.0, 0.0), (1.0, 0, 0.8, 0.0),
    (1.3, 5, 0.7, 0.0), (1.0, 1, 1.0, 0.0), (1.0, 99, 1.0, 0.0), (2.0, 0, 0.01, 0.0), (1.0, 0, 1.0, 0.3),
    (2.0, 0, 1.0, 0.3), (1.0, 0, 1.0, 1.0), (1.3, 5, 0.95, 0.25),
]  # fmt: skip


@pytest.mark.parametrize(("temperature", "top_k", "top_p", "min_p"), CASES)
def test_the_distribution_by_hand(temperature: float, top_k: int, top_p: float, min_p: float) -> None:
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    logp_BV = log_distribution(LOGITS[None], sampling)
    expected = exact(LOGITS, temperature, top_k, top_p, min_p)
    np.testing.assert_allclose(logp_BV[0].exp().numpy(), expected, atol=1e-6)
    assert (torch.isneginf(logp_BV[0]).numpy() == (expected == 0)).all()
    assert logp_BV.dtype == torch.float32


def slowly(
    logits_BV: torch.Tensor, sampling: Sampling, uniform_B: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`draw_tokens` on a machine without the compiled kernel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "draw", lambda *_, **__: None)
        return draw_tokens(logits_BV, sampling, uniform_B)


@pytest.mark.parametrize("function", [draw_tokens, slowly])
@pytest.mark.parametrize(("temperature", "top_k", "top_p", "min_p"), CASES)
def test_sampled_frequencies_are_the_probabilities(
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    function: Callable[..., tuple[torch.Tensor, ...]],
) -> None:
    """Chi-square; and the log-probs that come with the tokens are those of the same distribution."""
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    n = 20_000
    streams = stream_keys(7, 3, ["a prompt"] * n, list(range(n)))
    chosen, logp = function(LOGITS.expand(n, -1), sampling, torch.from_numpy(uniforms(streams, 5)))
    counts = np.bincount(chosen.numpy(), minlength=len(LOGITS))
    expected = exact(LOGITS, temperature, top_k, top_p, min_p)
    np.testing.assert_allclose(logp.exp(), expected[chosen], atol=1e-6)
    assert counts[expected == 0].sum() == 0
    kept = expected > 0
    if kept.sum() > 1:
        assert stats.chisquare(counts[kept], expected[kept] * n).pvalue > 1e-4


def test_frequencies_over_positions_of_one_stream() -> None:
    n = 20_000
    streams = stream_keys(1, 1, ["p"], [0])
    numbers = torch.from_numpy(np.concatenate([uniforms(streams, position) for position in range(n)]))
    chosen = draw(log_distribution(LOGITS.expand(n, -1), Sampling()), numbers)
    counts = np.bincount(chosen.numpy(), minlength=len(LOGITS))
    assert stats.chisquare(counts, exact(LOGITS, 1.0, 0, 1.0) * n).pvalue > 1e-4


def test_untruncated_log_probs_are_the_learners() -> None:
    logits_BV = torch.randn(20, 300, generator=torch.Generator().manual_seed(0)) * 4
    ids = torch.arange(20)
    for temperature in (0.3, 1.0, 2.0):
        ours = log_distribution(logits_BV, Sampling(temperature=temperature))[ids, ids]
        torch.testing.assert_close(ours, token_logprobs(logits_BV, ids, temperature), atol=1e-5, rtol=1e-5)


def test_greedy_takes_the_first_of_equals_with_certainty() -> None:
    logits_BV = torch.tensor([[1.0, 5.0, 5.0, 2.0], [9.0, 0.0, 0.0, 0.0]])
    logp_BV = log_distribution(logits_BV, Sampling(temperature=0))
    assert logp_BV.tolist() == [[-np.inf, 0, -np.inf, -np.inf], [0, -np.inf, -np.inf, -np.inf]]
    for number in (0.0, 0.5, ALMOST_ONE):
        assert draw(logp_BV, torch.full((2,), number, dtype=torch.float64)).tolist() == [1, 0]


def test_top_p_keeps_the_token_that_crosses() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log()[None]
    assert log_distribution(logits, Sampling(top_p=0.49)).isfinite().tolist() == [[True, False, False]]
    assert log_distribution(logits, Sampling(top_p=0.51)).isfinite().tolist() == [[True, True, False]]
    assert log_distribution(logits, Sampling(top_p=0.81)).isfinite().tolist() == [[True, True, True]]


def test_tied_logits_never_exceed_top_k() -> None:
    assert int(log_distribution(torch.zeros(1, 50), Sampling(top_k=7)).isfinite().sum()) == 7


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 7},
        {"top_p": 0.8},
        {"min_p": 0.1},
        {"temperature": 1.7, "top_k": 20, "top_p": 0.9, "min_p": 0.05},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.5, "temperature": 0.6, "min_p": 0.2},
        {"logit_bias": {"3": 2.5, "7": -100.0}, "repetition_penalty": 1.3, "top_k": 9, "top_p": 0.7},
    ],
    ids=str,
)
def test_transformers_agrees(options: dict[str, Any]) -> None:
    """The same options in the same order, by the processors that `generate` would make."""
    logits_BV = torch.randn(8, 50, generator=torch.Generator().manual_seed(1)) * 3
    prompt, completion = [[4, 7, 7, 11]] * 8, [[row, row + 1, 4] for row in range(8)]
    sampling = Sampling(**options)
    bias = {int(key): value for key, value in sampling.logit_bias.items()}
    processors: list[Any] = []
    if bias:
        processors.append(t.SequenceBiasLogitsProcessor([[[key], value] for key, value in bias.items()]))
    processors += [
        t.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty),
        t.TemperatureLogitsWarper(sampling.temperature),
        *([t.TopKLogitsWarper(sampling.top_k)] if sampling.top_k else []),
        *([t.TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []),
        *([t.MinPLogitsWarper(sampling.min_p)] if sampling.min_p else []),
    ]
    ids = torch.tensor([[*before, *own] for before, own in zip(prompt, completion, strict=True)])
    theirs = t.LogitsProcessorList(processors)(ids, logits_BV.clone()).log_softmax(-1)
    ours = log_distribution(logits_BV, sampling, Written(prompt, completion, bias))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("vocabulary", [1, 2, 255, 256, 257, 512, 1000])
@pytest.mark.parametrize("number", [0.0, 2.0**-53, 0.5, ALMOST_ONE])
def test_zero_probability_is_never_drawn(vocabulary: int, number: float) -> None:
    """Adversarial uniforms, with the mass at either end, in one token, in islands and almost nowhere."""
    generator = torch.Generator().manual_seed(vocabulary)
    for keep in (1, 2, max(1, vocabulary // 3)):
        for side in ("first", "last", "random"):
            where = {
                "first": torch.arange(keep),
                "last": vocabulary - 1 - torch.arange(keep),
                "random": torch.randperm(vocabulary, generator=generator)[:keep],
            }[side].clamp(0, vocabulary - 1)
            logits = torch.full((1, vocabulary), -torch.inf)
            logits[0, where] = torch.randn(len(where), generator=generator) * 30
            logp_BV = torch.log_softmax(logits, -1)
            chosen = draw(logp_BV, torch.tensor([number], dtype=torch.float64))
            assert 0 <= int(chosen) < vocabulary
            assert logp_BV[0, chosen].exp().item() > 0


@given(
    st.lists(st.floats(-60, 0) | st.just(-np.inf), min_size=1, max_size=600).filter(
        lambda x: max(x) > -np.inf
    ),
    st.floats(0, ALMOST_ONE),
)
def test_draw_inverts_the_cumulative_distribution(logits: list[float], number: float) -> None:
    logp_BV = torch.log_softmax(torch.tensor([logits]), -1)
    chosen = int(draw(logp_BV, torch.tensor([number], dtype=torch.float64)))
    probability = logp_BV[0].exp().double().numpy()
    assert probability[chosen] > 0
    threshold = number * probability.sum()
    assert probability[:chosen].sum() <= threshold + 1e-12
    assert probability[: chosen + 1].sum() >= threshold - 1e-12
