"""A model whose attention goes through transformers' interface reads texts end to end as it reads one row."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from tests.models.families import VOCABULARY, group, make_model, mixed_units
from tests.oracles.rows import distance, gradients, largest_difference, one_by_one, weights_of
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    DeepseekV3Config,
    FalconConfig,
    GPTNeoXConfig,
    GptOssConfig,
    MixtralConfig,
    OlmoeConfig,
    OPTConfig,
    PreTrainedModel,
    Qwen3MoeConfig,
)

from ridgeline.models import forward, text_attention
from ridgeline.models.batch import MicroBatch, Unit
from ridgeline.models.body import fused_body
from ridgeline.models.forward import token_scores
from ridgeline.models.kernels import kernel_library, kernels_note
from ridgeline.models.probe import supports_packing
from ridgeline.models.recompute import enable_recomputing, recomputing
from ridgeline.models.text_attention import allowed, attending_to

pytestmark = pytest.mark.skipif(kernel_library() is None, reason=kernels_note())

SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
GROUPED = {**SHAPE, "num_key_value_heads": 2, "intermediate_size": 16}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
ROUTED = {"num_local_experts": 4, "num_experts_per_tok": 2}

MORE: dict[str, Callable[[], Any]] = {
    "mixtral": lambda: MixtralConfig(**GROUPED, **ROUTED),
    "olmoe": lambda: OlmoeConfig(**GROUPED, **EXPERTS),
    "qwen3_moe": lambda: Qwen3MoeConfig(**GROUPED, **EXPERTS, head_dim=12, moe_intermediate_size=16),
    "gpt_neox": lambda: GPTNeoXConfig(**SHAPE, intermediate_size=48),
    "opt": lambda: OPTConfig(**SHAPE, init_std=0.2, ffn_dim=48, word_embed_proj_dim=32, dropout=0.0),
}
"""Mixtures of experts, biases everywhere, learned positions, parts of a head turned."""

REFUSED: dict[str, Callable[[], Any]] = {
    "sinks": lambda: GptOssConfig(**{**GROUPED, "num_key_value_heads": 4}, **ROUTED, head_dim=8),
    "values narrower than keys": lambda: DeepseekV3Config(
        **SHAPE, num_key_value_heads=4, intermediate_size=16, moe_intermediate_size=16, n_routed_experts=4,
        num_experts_per_tok=2, n_group=1, topk_group=1, kv_lora_rank=8, q_lora_rank=8, qk_rope_head_dim=8,
        qk_nope_head_dim=8, v_head_dim=8,
    ),
}  # fmt: skip
OWN_ATTENTION: dict[str, Callable[[], Any]] = {
    "bloom": lambda: BloomConfig(
        vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2
    ),
    "falcon": lambda: FalconConfig(**SHAPE, alibi=False),
}


def make(config: Callable[[], Any], dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config(), dtype=dtype).eval()


def build(family: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return make(MORE[family], dtype) if family in MORE else make_model(family, dtype)


@pytest.fixture(autouse=True)
def attended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The window of every call of `attend_texts`."""
    seen: list[int] = []
    plain = text_attention.attend_texts

    def spy(*arguments: Any) -> torch.Tensor:
        seen.append(arguments[-1])
        return plain(*arguments)

    monkeypatch.setattr(text_attention, "attend_texts", spy)
    yield seen


def packed(module: PreTrainedModel, units: list[Unit]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    batch = MicroBatch.of(units)
    logp_BN = token_scores(module, batch, packed=True)["logp"]
    (logp_BN * weights_of(batch).to(logp_BN)).sum().backward()
    return logp_BN.detach(), gradients(module)


def assert_equals_one_row_at_a_time(module: PreTrainedModel, units: list[Unit]) -> None:
    (logp, grads), (expected, expected_grads) = packed(module, units), one_by_one(module, units)
    assert float(expected.abs().max()) > 1
    torch.testing.assert_close(logp, expected, atol=1e-4, rtol=1e-5)
    assert largest_difference(grads, expected_grads) < 1e-5


@pytest.mark.parametrize("family", ["gpt2", "granite", "cohere", *MORE])
def test_other_families_equal_one_row_at_a_time(family: str, attended: list[int]) -> None:
    module = build(family)
    assert fused_body(module.base_model) is None
    assert allowed(module.base_model)
    assert supports_packing(module)
    attended.clear()
    before = module.config._attn_implementation
    assert_equals_one_row_at_a_time(module, mixed_units())
    assert attended == [0, 0]
    assert module.config._attn_implementation == before


@pytest.mark.parametrize("family", ["gpt2", "granite", "gpt_neox", "mixtral"])
def test_bfloat16_is_about_as_near_to_the_truth_as_the_models_own_attention(family: str) -> None:
    module, units = build(family, torch.bfloat16), mixed_units()
    truth = one_by_one(build(family, torch.bfloat16).float(), units)[1]
    assert distance(packed(module, units)[1], truth) < 1.5 * distance(one_by_one(module, units)[1], truth)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3", "phi3", "qwen2"])
def test_adapters_and_windows_equal_one_row_at_a_time(family: str, attended: list[int]) -> None:
    """An adapter leaves the fused body to the model itself, which hands on the windows of its layers."""
    windows = {} if family == "llama" else {"sliding_window": 4, "use_sliding_window": True}
    kinds = ["sliding_attention", "full_attention"] if family in ("gemma3", "qwen2") else None
    module = make_model(family, **windows, **({"layer_types": kinds} if kinds else {}))
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["o_proj"], init_lora_weights=False), module)
    assert fused_body(module.base_model) is None
    assert_equals_one_row_at_a_time(module, [group(8, [7, 2, 12], 30), *mixed_units()])
    assert attended == ([0, 0] if family == "llama" else [4, 0] if kinds else [4, 4])


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("family", ["granite", "mixtral", "adapter"])
def test_recomputing_changes_no_gradient_and_keeps_less(
    family: str, copied: bool, attended: list[int]
) -> None:
    """Layers are computed again when their texts have long been left; in a copy of the model too."""
    found, kept = [], []
    for recompute in (False, True):
        module, batch = build("llama" if family == "adapter" else family), MicroBatch.of(mixed_units())
        if family == "adapter":
            config = LoraConfig(r=2, target_modules=["o_proj"], init_lora_weights=False)
            with torch.random.fork_rng():
                torch.manual_seed(1)
                inject_adapter_in_model(config, module)
        if recompute:
            enable_recomputing(module)
        module = copy.deepcopy(module) if copied else module
        count = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal count
            count += tensor.numel() * (not isinstance(tensor, torch.nn.Parameter))
            return tensor

        with recomputing(module) if recompute else nullcontext():
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                logp_BN = token_scores(module, batch, packed=True)["logp"]
            kept.append(count)
            (logp_BN * weights_of(batch).to(logp_BN)).sum().backward()
        found.append((logp_BN.detach(), gradients(module)))
    assert attended == [0] * 6  # twice two layers, two of them once more
    assert torch.equal(found[0][0], found[1][0])
    assert largest_difference(found[1][1], found[0][1]) < 1e-6
    assert kept[1] < 0.6 * kept[0]


@pytest.mark.parametrize("name", REFUSED)
def test_attention_that_takes_in_more_stays_under_a_mask(
    name: str, attended: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make(REFUSED[name])
    assert not allowed(module.base_model)
    assert_equals_one_row_at_a_time(module, mixed_units())
    # Should such a family not be known by its configuration, it is refused rather than read wrongly.
    monkeypatch.setattr(forward, "allowed", lambda backbone: True)
    with pytest.raises(ValueError, match="attends in a way that cannot be done text by text"):
        packed(module, mixed_units())
    assert attended == []
    assert not supports_packing(module)


@pytest.mark.parametrize("name", OWN_ATTENTION)
def test_a_family_with_an_attention_of_its_own_is_not_tried(name: str) -> None:
    module = make(OWN_ATTENTION[name])
    assert not allowed(module.base_model)
    if supports_packing(module):  # under a mask
        assert_equals_one_row_at_a_time(module, mixed_units())


def test_capped_scores_and_float64_are_not_tried(attended: list[int]) -> None:
    assert not allowed(make_model("gemma2").base_model)
    assert not allowed(make_model("gpt2", torch.float64).base_model)
    assert not allowed(torch.nn.Linear(2, 2))
    assert_equals_one_row_at_a_time(make_model("gemma2"), mixed_units())
    assert attended == []


def test_the_models_own_attention_comes_back_after_an_error() -> None:
    module = make_model("gpt2")
    before = module.config._attn_implementation
    with pytest.raises(RuntimeError, match="broken"), attending_to(module.base_model, None):
        assert module.config._attn_implementation == text_attention.NAME
        raise RuntimeError("broken")
    assert module.config._attn_implementation == before
