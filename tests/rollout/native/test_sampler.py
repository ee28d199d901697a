"""The native sampler against the plain one, over the families it knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.models.families import CONFIGS, make_model, mixed_units
from tests.tiny import make_tokenizer

from ridgeline.models import kernels
from ridgeline.models.adapters import WithoutAdapter, add_adapter
from ridgeline.models.architecture import FAMILIES
from ridgeline.models.forward import PolicyForward
from ridgeline.rollout.native import batch
from ridgeline.rollout.native import sampler as native_sampler
from ridgeline.rollout.native.decoder import NativeDecoder, Rows
from ridgeline.rollout.native.sampler import NativeSampler, new_sampler
from ridgeline.rollout.plain import PlainSampler
from ridgeline.rollout.request import PromptRequest, Sampler
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Sample
from ridgeline.schema.stages.common import Adapter, Optimiser, Sampling
from ridgeline.training.local import LocalEngine
from ridgeline.training.next_token import NextToken

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


PENALTIES = {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.2}


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"top_k": 3},
        {"top_p": 0.6},
        {"min_p": 0.1},
        {"temperature": 0.5, "top_k": 9},
        {"temperature": 1.5, "top_k": 20, "top_p": 0.9, "min_p": 0.02},
        {"logit_bias": {"1": -100, "#": 3.0}},
        PENALTIES,
        {**PENALTIES, "temperature": 0.0},
        {**PENALTIES, "logit_bias": {"40": 2.0}, "top_p": 0.8},
        {"stop": ["(", "#$"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("compiled", [True, False])
def test_other_distributions(
    options: dict[str, Any], compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(kernels, "draw", lambda *_, **__: None)
    sampler, sampling = native("qwen3", slots=9), Sampling(max_new_tokens=16, **options)
    ours, theirs = (run(requests(), sampling, seed=2, step=0) for run in (sampler, sampler.plain))
    for one, other in zip(ours, theirs, strict=True):
        assert np.allclose(one.logprobs, other.logprobs, atol=1e-4)
        assert replace(one, logprobs=[]) == replace(other, logprobs=[])


@pytest.mark.parametrize("slots", [1, 5])
def test_penalties_and_stops_do_not_depend_on_slots(slots: int) -> None:
    sampling = Sampling(max_new_tokens=20, stop=["("], **PENALTIES)  # type: ignore[arg-type]
    few, many = (native("llama", slots=n)(requests(), sampling, seed=5, step=1) for n in (slots, 64))
    assert [sample.completion_ids for sample in few] == [sample.completion_ids for sample in many]


def test_prompts_may_be_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler, sampling = native("llama"), Sampling(max_new_tokens=20)
    at_once = sampler(requests(), sampling, seed=5, step=1)
    monkeypatch.setattr(batch, "READ", 40)
    read = []
    prefill = sampler.decoder.prefill
    monkeypatch.setattr(
        sampler.decoder, "prefill", lambda ids, pages: read.append(len(ids)) or prefill(ids, pages)
    )
    in_parts = sampler(requests(), sampling, seed=5, step=1)
    assert read == [2, 2, 2]
    assert [sample.completion_ids for sample in at_once] == [sample.completion_ids for sample in in_parts]


@pytest.mark.parametrize("positions, slots", [(1, 256), (2_000_000, 102), (100_000_000, 64)])
def test_slots_whose_keys_and_values_fit(positions: int, slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = native(
        "llama"
    )  # 2 layers x 2 heads x 8 numbers x keys and values x 4 bytes: 256 bytes a position
    monkeypatch.setattr(native_sampler, "PAGES", 102 * 256 * 2_000_000)
    assert sampler.room(positions) == slots


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


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("family", ["llama", "phi3", "qwen2"])
def test_an_adapter_is_sampled_with(family: str, kind: Literal["lora", "dora"]) -> None:
    """As it begins, after an update, with other factors, off, on again, and merged."""
    module = make_model(family)
    adapter = add_adapter(module, Adapter(kind=kind, rank=4), seed=3)
    sampler, note = new_sampler(module, make_tokenizer(), [1])
    assert note == "native" and isinstance(sampler, NativeSampler)
    sampling = Sampling(max_new_tokens=20)

    def drawn(run: Sampler = sampler) -> list[Sample]:
        samples = run(requests(), sampling, seed=1, step=2)
        if run is sampler:
            assert_same(samples, sampler.plain(requests(), sampling, seed=1, step=2))
        return samples

    before = new_sampler(make_model(family), make_tokenizer(), [1])[0](requests(), sampling, seed=1, step=2)
    assert_same(drawn(), before)  # the second factor is zero
    engine = LocalEngine()
    engine.add(
        "policy", module, PolicyForward(), optimiser=Optimiser(learning_rate=0.1, warmup=0), sampler=sampler
    )
    seen = [before]
    for _ in range(2):
        engine.forward_backward("policy", mixed_units(), NextToken())
        engine.step("policy", 0.1)
        seen.append(drawn())
    assert not all(map(same_tokens, seen[0], seen[1])) and not all(map(same_tokens, seen[1], seen[2]))
    assert not sampler.decoder.weights.refresh()
    without = WithoutAdapter(adapter, sampler)
    assert_same(drawn(without), before)
    assert_same(drawn(), seen[-1])
    adapter.merge_adapter()
    assert_same(drawn(), seen[-1])


def same_tokens(one: Sample, other: Sample) -> bool:
    return one.completion_ids == other.completion_ids


def assert_same(samples: list[Sample], others: list[Sample]) -> None:
    """The same draws from the same distributions.

    One completion may part where its draw lands on the border of two tokens, which rounding moves by 1e-7.
    """
    assert sum(not same_tokens(*pair) for pair in zip(samples, others, strict=True)) <= 1
    for one, other in zip(samples, others, strict=True):
        pairs = zip(one.completion_ids, other.completion_ids, strict=False)
        common = next((at for at, (a, b) in enumerate(pairs) if a != b), len(one.completion_ids))
        assert np.allclose(one.logprobs[:common], other.logprobs[:common], atol=1e-4)


def test_an_adapter_in_bfloat16_differs_by_rounding_only() -> None:
    module = make_model("llama", torch.bfloat16)
    add_adapter(module, Adapter(rank=4), seed=3)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    sampler, note = new_sampler(module, make_tokenizer(), [1])
    assert note == "native" and isinstance(sampler, NativeSampler)
    decoder, one = sampler.decoder, torch.zeros(1, dtype=torch.long)
    decoder.weights.refresh()
    decoder.reserve(1, 3, 1, 1)
    decoder.prefill([[2, 3, 4]], [0])
    ours = decoder.step(Rows(one + 5, one, one, one + 3, one))
    with torch.no_grad():
        theirs = module(torch.tensor([[2, 3, 4, 5]])).logits[:, -1]
    assert torch.allclose(ours.float(), theirs.float(), atol=0.1) and theirs.float().std() > 1


@pytest.mark.filterwarnings("ignore:`lora_bias=True`")
def test_an_adapter_of_another_kind_is_sampled_plainly() -> None:
    module = make_model("llama")
    get_peft_model(module, LoraConfig(r=2, target_modules=["down_proj", "up_proj"], lora_bias=True))
    assert new_sampler(module, make_tokenizer(), [1])[1] == "plain (its up_proj is a Linear of peft)"


@pytest.mark.parametrize("dtype, name", [(torch.float64, "float64"), (torch.float16, "float16")])
def test_weights_of_another_format_are_sampled_plainly(dtype: torch.dtype, name: str) -> None:
    sampler, note = new_sampler(make_model("llama", dtype), make_tokenizer(), [1])
    assert isinstance(sampler, PlainSampler)
    assert note == f"plain (its weights are {name}, not all bfloat16 or all float32)"


def test_norms_in_another_format_are_noticed() -> None:
    module = make_model("llama", torch.bfloat16)
    module.model.norm.float()
    assert "bfloat16 and float32" in new_sampler(module, make_tokenizer(), [1])[1]


def test_other_models_are_sampled_plainly_with_a_reason() -> None:
    sampler, note = new_sampler(make_model("gpt2"), make_tokenizer(), [1])
    assert isinstance(sampler, PlainSampler) and note.startswith("plain (models of type 'gpt2'")
    changed = make_model("llama")
    changed.model.layers[0].mlp.down_proj = torch.nn.Sequential(changed.model.layers[0].mlp.down_proj)
    assert new_sampler(changed, make_tokenizer(), [1])[1] == "plain (its down_proj is a Sequential)"


def test_no_requests() -> None:
    assert native("llama")([], Sampling(), seed=0, step=0) == []


def test_a_prompt_that_is_too_long_is_refused() -> None:
    with pytest.raises(DataError, match="exceeds the model's 64 positions"):
        native("llama")([PromptRequest("long", [2] * 60)], Sampling(max_new_tokens=5), seed=0, step=0)
