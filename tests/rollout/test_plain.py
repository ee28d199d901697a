from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from tests.models.families import FAMILIES, ids, make_model
from tests.tiny import make_tiny_model, make_tokenizer

from ridgeline.models.batch import MicroBatch, completion_row
from ridgeline.models.forward import token_scores
from ridgeline.models.load import LanguageModel, load_model
from ridgeline.rollout.distribution import draw, log_distribution
from ridgeline.rollout.draws import stream_keys, uniforms
from ridgeline.rollout.plain import PlainSampler, _parts
from ridgeline.rollout.request import PromptRequest
from ridgeline.rollout.shaping import Written
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import RESHAPING, Sample
from ridgeline.schema.stages.common import Sampling

STOP = [5, 6, 7]  # three of 61 tokens: rows end at different lengths


def sampler(family: str = "llama", stop: list[int] = STOP, **changes: object) -> PlainSampler:
    return PlainSampler(make_model(family), make_tokenizer(), stop, **changes)


def requests(lengths: tuple[int, ...] = (4, 9, 1, 6), samples: int = 3) -> list[PromptRequest]:
    return [PromptRequest(f"p{n}", ids(length, n), samples, row={"n": n}) for n, length in enumerate(lengths)]


def plainly(module: torch.nn.Module, prompt: list[int], sampling: Sampling, key: tuple) -> list[int]:
    """The oracle: one row, no cache, no padding, the whole sequence again for every token."""
    seed, step, name, index = key
    stream = stream_keys(seed, step, [name], [index])
    tokens: list[int] = []
    for position in range(sampling.max_new_tokens):
        with torch.no_grad():
            logits = module(input_ids=torch.tensor([[*prompt, *tokens]]), use_cache=False).logits[:, -1]
        logp = log_distribution(logits, sampling)
        tokens.append(int(draw(logp, torch.from_numpy(uniforms(stream, position)))))
        if tokens[-1] in STOP:
            break
    return tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_completions_are_those_of_the_slow_way(family: str) -> None:
    """Cache, left padding, shared prefill and retired rows change no token."""
    ours = sampler(family)
    sampling = Sampling(max_new_tokens=12)
    for sample in ours(requests((4, 9, 1)), sampling, seed=3, step=2):
        expected = plainly(ours.module, sample.prompt_ids, sampling, (3, 2, sample.prompt_id, sample.index))
        assert sample.completion_ids == expected


@pytest.mark.parametrize("family", ["mistral", "gemma3"])
def test_a_sliding_window_shorter_than_the_rows(family: str) -> None:
    ours = PlainSampler(make_model(family, sliding_window=6), make_tokenizer(), STOP)
    sampling = Sampling(max_new_tokens=12)
    for sample in ours(requests((4, 9)), sampling, seed=3, step=2):
        expected = plainly(ours.module, sample.prompt_ids, sampling, (3, 2, sample.prompt_id, sample.index))
        assert sample.completion_ids == expected


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_new_tokens=10, **options)
        for options in [
            {"temperature": 0.5},
            {},
            {"temperature": 1.8},
            {"top_k": 5},
            {"temperature": 1.3, "top_p": 0.7},
            {"temperature": 0.0},
            {"min_p": 0.1},
            {"repetition_penalty": 1.4},
            {"presence_penalty": 1.0, "frequency_penalty": 0.5, "top_p": 0.9},
            {"logit_bias": {"20": 3.0, "5": -100.0}, "repetition_penalty": 0.8, "temperature": 0.7},
        ]
    ],
    ids=str,
)
def test_recorded_log_probs_are_of_the_distribution_drawn_from(sampling: Sampling) -> None:
    ours = sampler("qwen2")
    for sample in ours(requests(), sampling, seed=1, step=1):
        row_ids = torch.tensor([[*sample.prompt_ids, *sample.completion_ids]])
        with torch.no_grad():
            logits_TV = ours.module(input_ids=row_ids).logits[0, len(sample.prompt_ids) - 1 : -1]
        before = [sample.completion_ids[:position] for position in range(len(sample.completion_ids))]
        bias = {int(key): value for key, value in sampling.logit_bias.items()}
        written = Written([sample.prompt_ids] * len(before), before, bias)
        expected = log_distribution(logits_TV, sampling, written).gather(
            -1, torch.tensor(sample.completion_ids)[:, None]
        )[:, 0]
        torch.testing.assert_close(torch.tensor(sample.logprobs), expected, atol=1e-5, rtol=1e-5)
        assert all(logp > -np.inf for logp in sample.logprobs)
        for name in ("temperature", *RESHAPING):
            assert getattr(sample, name) == getattr(sampling, name)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.8])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "granite"])
def test_sampler_and_learner_agree(family: str, temperature: float, packed: bool) -> None:
    """The on-policy ratio is 1: what was recorded is what the learner computes, at the same temperature."""
    ours = sampler(family)
    samples = ours(requests(), Sampling(max_new_tokens=10, temperature=temperature), seed=1, step=1)
    rows = [completion_row(sample.prompt_ids, sample.completion_ids) for sample in samples]
    units = [rows[start : start + 3] for start in range(0, len(rows), 3)]
    learner = token_scores(ours.module, MicroBatch.of(units), packed=packed, temperature=temperature)["logp"]
    for line, sample in zip(learner.detach(), samples, strict=True):
        recorded = torch.tensor(sample.logprobs)
        torch.testing.assert_close(line[: len(recorded)], recorded, atol=1e-5, rtol=1e-5)


def key(sample: Sample) -> tuple[str, int]:
    return sample.prompt_id, sample.index


@pytest.mark.parametrize("rows", [1, 3, 4, 256])
def test_results_do_not_depend_on_slots_or_order(rows: int) -> None:
    sampling = Sampling(max_new_tokens=10)
    expected = {key(s): s.completion_ids for s in sampler()(requests(), sampling, seed=9, step=4)}
    shuffled = requests()
    random.Random(rows).shuffle(shuffled)
    got = sampler(rows=rows)(shuffled, sampling, seed=9, step=4)
    assert {key(s): s.completion_ids for s in got} == expected
    assert [s.prompt_id for s in got] == [r.id for r in shuffled for _ in range(3)]


def test_a_prompt_alone_gets_what_it_got_in_company() -> None:
    together = sampler()(requests(), Sampling(max_new_tokens=10), seed=9, step=4)
    (request,) = [r for r in requests() if r.id == "p2"]
    alone = sampler()([request], Sampling(max_new_tokens=10), seed=9, step=4)
    assert [s.completion_ids for s in alone] == [s.completion_ids for s in together if s.prompt_id == "p2"]
    later = PromptRequest("p2", request.prompt_ids, 1, first=2)
    assert sampler()([later], Sampling(max_new_tokens=10), seed=9, step=4)[0].completion_ids == (
        alone[2].completion_ids
    )


@pytest.mark.parametrize("rows", [1, 2, 5, 256])
def test_layout_is_prompt_major(rows: int) -> None:
    samples = sampler(rows=rows)(requests((4, 9, 1), samples=3), Sampling(max_new_tokens=3), seed=0, step=0)
    assert [key(s) for s in samples] == [(f"p{p}", g) for p in range(3) for g in range(3)]
    for number, sample in enumerate(samples):
        assert sample.prompt_ids == ids((4, 9, 1)[number // 3], number // 3)
        assert sample.row == {"n": number // 3}


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8])
def test_parts_never_exceed_the_rows_and_lose_nothing(rows: int) -> None:
    parts = _parts(requests((1, 2, 3), samples=4), rows)
    assert all(sum(request.samples for request in part) <= rows for part in parts)
    flat = [(r.id, r.first + i) for part in parts for r in part for i in range(r.samples)]
    assert flat == [(f"p{p}", g) for p in range(3) for g in range(4)]


def test_draws_change_with_seed_and_step() -> None:
    def run(seed: int, step: int) -> list[list[int]]:
        return [
            s.completion_ids
            for s in sampler(stop=[])(requests(), Sampling(max_new_tokens=8), seed=seed, step=step)
        ]

    assert run(1, 1) == run(1, 1)
    assert run(1, 1) != run(2, 1)
    assert run(1, 1) != run(1, 2)
    assert len({tuple(tokens) for tokens in run(1, 1)}) == 12  # the samples of a prompt differ


def test_greedy_is_the_argmax_and_certain() -> None:
    ours = sampler()
    for sample in ours(requests(samples=2), Sampling(max_new_tokens=8, temperature=0), seed=1, step=1):
        tokens = list(sample.prompt_ids)
        for token in sample.completion_ids:
            with torch.no_grad():
                assert int(ours.module(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()) == token
            tokens.append(token)
        assert sample.logprobs == [0.0] * len(sample.completion_ids)


def test_stop_reasons_and_the_stop_token() -> None:
    samples = sampler()(requests(samples=8), Sampling(max_new_tokens=6), seed=5, step=0)
    assert {s.stop_reason for s in samples} == {"stop", "length"}
    for sample in samples:
        assert len(sample.logprobs) == len(sample.generated) == len(sample.completion_ids) <= 6
        assert not set(sample.completion_ids[:-1]) & set(STOP)
        assert (sample.completion_ids[-1] in STOP) == (sample.stop_reason == "stop")
        assert sample.truncated == (sample.stop_reason == "length")
        if sample.truncated:
            assert len(sample.completion_ids) == 6


def test_a_stop_token_at_the_limit_counts_as_stop() -> None:
    samples = sampler(stop=list(range(61)))(requests(), Sampling(max_new_tokens=1), seed=5, step=0)
    assert {s.stop_reason for s in samples} == {"stop"}
    assert {len(s.completion_ids) for s in samples} == {1}


@pytest.mark.parametrize("stop", [[], STOP])
def test_one_new_token(stop: list[int]) -> None:
    ours = sampler(stop=stop)
    for sample in ours(requests(), Sampling(max_new_tokens=1), seed=5, step=0):
        (token,) = sample.completion_ids
        assert (
            token
            == plainly(
                ours.module,
                sample.prompt_ids,
                Sampling(max_new_tokens=1),
                (5, 0, sample.prompt_id, sample.index),
            )[0]
        )
        assert sample.stop_reason == ("stop" if token in stop else "length")


def test_finished_rows_are_retired_and_a_prompt_is_prefilled_once() -> None:
    ours = sampler()
    shapes = []
    ours.module.get_input_embeddings().register_forward_hook(
        lambda _, inputs, __: shapes.append(tuple(inputs[0].shape))
    )
    samples = ours(requests(samples=4), Sampling(max_new_tokens=10), seed=1, step=1)
    assert shapes[0] == (4, 9)
    lengths = [len(sample.completion_ids) for sample in samples]
    alive = [sum(length > position for length in lengths) for position in range(1, max(lengths))]
    assert [shape[0] for shape in shapes[1:]] == alive
    assert alive[-1] < alive[0]
    assert all(shape[1] == 1 for shape in shapes[1:])


def test_text_leaves_out_the_stop_token(tmp_path) -> None:
    model: LanguageModel = load_model(str(make_tiny_model(tmp_path)))
    stop = int(model.tokenizer.eos_token_id)
    with torch.no_grad():  # every token leads to the stop token
        model.module.model.norm.weight.zero_()
    prompt = model.tokenizer("Write one sentence").input_ids
    ours = PlainSampler(model.module, model.tokenizer, [stop], weight_version=7)
    samples = ours([PromptRequest("p", prompt, 40)], Sampling(max_new_tokens=40), seed=0, step=0)
    assert {s.weight_version for s in samples} == {7}
    for sample in samples:
        assert sample.text == model.tokenizer.decode(sample.completion_ids, skip_special_tokens=True)
        assert "<|im_end|>" not in sample.text


def test_a_stop_string_ends_the_completion_and_not_its_tokens() -> None:
    free = sampler(stop=[])(requests(), Sampling(max_new_tokens=12), seed=1, step=1)
    strings = [free[0].text[2:4], free[5].text[4:6], "nowhere"]
    ended = sampler(stop=[])(requests(), Sampling(max_new_tokens=12, stop=strings), seed=1, step=1)
    assert {sample.stop_reason for sample in ended} == {"stop", "length"}
    for before, after in zip(free, ended, strict=True):
        end = len(after.completion_ids)
        assert after.completion_ids == before.completion_ids[:end]
        assert after.logprobs == pytest.approx(before.logprobs[:end], abs=1e-5)
        decoded = make_tokenizer().decode(after.completion_ids, skip_special_tokens=True)
        if after.stop_reason == "length":
            assert (end, after.stop_string, after.text) == (12, "", decoded)
        else:
            assert decoded.startswith(after.text + after.stop_string)
            shorter = make_tokenizer().decode(after.completion_ids[:-1], skip_special_tokens=True)
            assert not any(string in shorter for string in strings)
        assert not any(string in after.text for string in strings)


def test_no_requests() -> None:
    assert sampler()([], Sampling(), seed=0, step=0) == []


def test_the_model_is_left_as_it_was() -> None:
    ours = sampler()
    before = [p.clone() for p in ours.module.parameters()]
    state = torch.random.get_rng_state()
    ours(requests(), Sampling(max_new_tokens=4), seed=0, step=0)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(before, ours.module.parameters(), strict=True))
    assert not any(p.grad is not None for p in ours.module.parameters())


def test_a_prompt_beyond_the_positions_is_refused() -> None:
    ours = sampler()
    assert len(ours([PromptRequest("fits", ids(60, 1))], Sampling(max_new_tokens=4), seed=0, step=0)) == 1
    with pytest.raises(DataError, match=r"prompt 'long' has 61 tokens.* max_new_tokens = 4 .*64 positions"):
        ours([PromptRequest("long", ids(61, 1))], Sampling(max_new_tokens=4), seed=0, step=0)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(DataError, match="prompt 'nothing' is empty"):
        sampler()([PromptRequest("nothing", [])], Sampling(), seed=0, step=0)
