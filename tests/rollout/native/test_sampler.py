"""The native sampler against the plain one, over the families it knows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.models.families import CONFIGS, make_model
from tests.tiny import make_tokenizer

from ridgeline.models.architecture import FAMILIES
from ridgeline.rollout.native.decoder import NativeDecoder, Rows
from ridgeline.rollout.native.sampler import NativeSampler, new_sampler
from ridgeline.rollout.plain import PlainSampler
from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.errors import DataError
from ridgeline.schema.stages.common import Sampling

NATIVE = [name for name in CONFIGS if CONFIGS[name]().model_type in FAMILIES]


def requests(samples: int = 4, prompts: int = 6) -> list[PromptRequest]:
    """Prompts of 2 to 17 tokens."""
    return [
        PromptRequest(f"p{number}", [(3 * number + k) % 61 for k in range(2 + 3 * number)], samples)
        for number in range(prompts)
    ]


def native(family: str, dtype: torch.dtype = torch.float32, slots: int = 64) -> NativeSampler:
    sampler, note = new_sampler(make_model(family, dtype), make_tokenizer(), [1])
    assert note == "native" and isinstance(sampler, NativeSampler)
    sampler.slots = slots
    return sampler


def test_the_families_that_the_issue_names_are_there() -> None:
    assert {"llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma3", "olmo2", "phi3"} <= set(NATIVE)


@pytest.mark.parametrize("family", NATIVE)
def test_same_completions_as_the_plain_sampler(family: str) -> None:
    """In float32 the logits agree to about 1e-6, so every draw falls on the same token."""
    sampler, sampling = native(family, slots=7), Sampling(max_new_tokens=30)
    ours = sampler(requests(), sampling, seed=1, step=2)
    theirs = sampler.plain(requests(), sampling, seed=1, step=2)
    assert [sample.completion_ids for sample in ours] == [sample.completion_ids for sample in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert np.allclose(one.logprobs, other.logprobs, atol=1e-4)
        assert (one.prompt_id, one.index, one.stop_reason, one.text) == (
            other.prompt_id,
            other.index,
            other.stop_reason,
            other.text,
        )


@pytest.mark.parametrize("family", NATIVE)
def test_logits_beyond_the_window(family: str) -> None:
    """48 steps past every window of these models, against one forward pass of transformers."""
    module = make_model(family)
    decoder = NativeDecoder(module)
    decoder.weights.refresh()
    prompt, rest = list(range(2, 12)), [(7 * k + 3) % 61 for k in range(48)]
    decoder.reserve(1, len(prompt), 1, len(rest))
    logits = [decoder.prefill([prompt], [0])]
    one = torch.zeros(1, dtype=torch.long)
    for written, token in enumerate(rest):
        rows = Rows(torch.tensor([token]), one, one, one + len(prompt), one + written)
        logits.append(decoder.step(rows))
    with torch.no_grad():
        theirs = module(torch.tensor([prompt + rest]), use_cache=False).logits[0, len(prompt) - 1 :]
    assert torch.allclose(torch.cat(logits), theirs, atol=1e-4)


def test_bfloat16_differs_by_rounding_only() -> None:
    sampler, sampling = native("llama", torch.bfloat16), Sampling(max_new_tokens=1)
    ours = sampler(requests(16), sampling, seed=3, step=0)
    theirs = sampler.plain(requests(16), sampling, seed=3, step=0)
    gaps = [
        abs(one.logprobs[0] - other.logprobs[0])
        for one, other in zip(ours, theirs, strict=True)
        if one.completion_ids == other.completion_ids
    ]
    assert len(gaps) > 80 and max(gaps) < 0.1


@pytest.mark.parametrize("slots", [1, 3, 64])
def test_slots_and_neighbours_change_nothing(slots: int) -> None:
    sampler, sampling = native("llama", slots=slots), Sampling(max_new_tokens=20)
    together = sampler(requests(), sampling, seed=5, step=1)
    backwards = sampler(requests()[::-1], sampling, seed=5, step=1)
    key = {(sample.prompt_id, sample.index): sample.completion_ids for sample in backwards}
    assert all(key[sample.prompt_id, sample.index] == sample.completion_ids for sample in together)
    alone = [sampler([request], sampling, seed=5, step=1) for request in requests()]
    assert [s.completion_ids for group in alone for s in group] == [s.completion_ids for s in together]


@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {"top_k": 3}, {"top_p": 0.6}, {"temperature": 0.5, "top_k": 9}]
)
def test_other_distributions(options: dict[str, float]) -> None:
    sampler, sampling = native("qwen3", slots=9), Sampling(max_new_tokens=16, **options)  # type: ignore[arg-type]
    ours, theirs = (run(requests(), sampling, seed=2, step=0) for run in (sampler, sampler.plain))
    assert [sample.completion_ids for sample in ours] == [sample.completion_ids for sample in theirs]
    assert all(
        np.allclose(one.logprobs, other.logprobs, atol=1e-4) for one, other in zip(ours, theirs, strict=True)
    )


def test_new_weights_are_seen() -> None:
    sampler, sampling = native("llama"), Sampling(max_new_tokens=12)
    before = sampler(requests(), sampling, seed=1, step=0)
    assert not sampler.decoder.weights.refresh()  # nothing changed, nothing is packed again
    with torch.no_grad():
        for weight in sampler.plain.module.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    after = sampler(requests(), sampling, seed=1, step=0)
    plain = sampler.plain(requests(), sampling, seed=1, step=0)
    assert [sample.completion_ids for sample in after] == [sample.completion_ids for sample in plain]
    assert [sample.completion_ids for sample in after] != [sample.completion_ids for sample in before]


def test_other_models_are_sampled_plainly_with_a_reason() -> None:
    sampler, note = new_sampler(make_model("gpt2"), make_tokenizer(), [1])
    assert isinstance(sampler, PlainSampler) and note.startswith("plain (models of type 'gpt2'")
    changed = make_model("llama")
    changed.model.layers[0].mlp.down_proj = torch.nn.Sequential(changed.model.layers[0].mlp.down_proj)
    assert new_sampler(changed, make_tokenizer(), [1])[1] == "plain (its down_proj is a Sequential)"


def test_a_prompt_that_is_too_long_is_refused() -> None:
    with pytest.raises(DataError, match="exceeds the model's 64 positions"):
        native("llama")([PromptRequest("long", [2] * 60)], Sampling(max_new_tokens=5), seed=0, step=0)
