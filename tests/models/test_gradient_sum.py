"""Gradients of bfloat16 weights are added up in float32, whichever way they come, for one optimiser."""

from __future__ import annotations

import copy
import io
from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from tests.models.families import FAMILIES, make_model, mixed_units
from tests.oracles.rows import Gradients, distance, one_by_one, weights_of
from tests.tiny import make_tokenizer
from transformers import PreTrainedModel

from ridgeline.models.batch import MicroBatch, Unit
from ridgeline.models.forward import token_scores
from ridgeline.models.gradient_sum import GradientSum, gradient_sum
from ridgeline.models.kernels import kernel_library, kernels_note
from ridgeline.models.load import LanguageModel
from ridgeline.models.recompute import enable_recomputing, recomputing
from ridgeline.models.score_model import score_model_from
from ridgeline.schema.stages.common import Optimiser
from ridgeline.training.optimiser import MasterAdamW

pytestmark = pytest.mark.skipif(kernel_library() is None, reason=kernels_note())

NARROW = torch.bfloat16


def learn(module: PreTrainedModel, units: list[Unit], optimiser: MasterAdamW | None = None) -> None:
    """The backward pass of one micro-batch."""
    batch = MicroBatch.of(units)
    logp_BN = token_scores(module, batch, packed=True)["logp"]
    (logp_BN * weights_of(batch).to(logp_BN)).sum().backward()
    if optimiser is not None:
        optimiser.accumulate()


def collected(optimiser: MasterAdamW) -> Gradients:
    return {name: gradient.clone() for name, gradient in optimiser.gradients().items()}


def by_autograd(module: PreTrainedModel, units: list[Unit]) -> Gradients:
    """In bfloat16, without any sum."""
    learn(module, units)
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def test_the_three_ways_to_add() -> None:
    weight = torch.zeros(3, 2, dtype=NARROW)
    total = GradientSum(weight)
    assert gradient_sum(weight) is total
    assert gradient_sum(torch.zeros(3, 2)) is None
    assert total.value is None
    first = torch.arange(6, dtype=NARROW).view(3, 2)
    wide = torch.arange(20, dtype=NARROW).view(2, 10)[:, 4:7]
    rows = torch.tensor([[1.0, 2.0], [10.0, 20.0]], dtype=NARROW)
    total.add(first)
    total.add_across(wide)
    total.add_rows(torch.tensor([2, 2]), rows)
    expected = first.float() + wide.t().float()
    expected[2] += torch.tensor([11.0, 22.0])
    assert torch.equal(total.value, expected)
    assert torch.equal(first, torch.arange(6, dtype=NARROW).view(3, 2))


@pytest.mark.parametrize("way", ["add", "add_across", "add_rows"])
def test_each_way_may_be_the_first(way: str) -> None:
    weight, gradient = torch.zeros(3, 2, dtype=NARROW), torch.ones(3, 2, dtype=NARROW)
    total = GradientSum(weight)
    arguments = {
        "add": [gradient],
        "add_across": [gradient.t().contiguous()],
        "add_rows": [torch.arange(3), gradient],
    }
    for passes in (1, 2):
        getattr(total, way)(*arguments[way])
        assert torch.equal(total.value, torch.full((3, 2), float(passes)))


def test_a_sum_keeps_what_bfloat16_would_lose() -> None:
    """256 + 1 is 256 in bfloat16."""
    total = GradientSum(torch.zeros(1, 1, dtype=NARROW))
    for value in (256.0, 1.0, 1.0):
        total.add(torch.tensor([[value]], dtype=NARROW))
    assert float(total.value) == 258


def test_a_float32_gradient_is_copied_not_shared() -> None:
    total, gradient = GradientSum(torch.zeros(2)), torch.ones(2)
    total.add(gradient)
    total.add(gradient)
    assert gradient.tolist() == [1, 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_sums_equal_autograd_and_are_nearer_to_the_truth(family: str) -> None:
    """Of each family, so that every way a gradient can come is taken: fused, by autograd, or both."""
    units = mixed_units()
    truth = one_by_one(make_model(family, NARROW).float(), units)[1]
    plain = by_autograd(make_model(family, NARROW), units)
    module = make_model(family, NARROW)
    optimiser = MasterAdamW(module, Optimiser())
    learn(module, units, optimiser)
    sums = collected(optimiser)
    assert sums.keys() == plain.keys() == truth.keys()
    assert all(value.dtype == torch.float32 for value in sums.values())
    assert not any(p.grad is not None for p in module.parameters())
    assert distance(plain, sums) < 2**-8
    assert distance(sums, truth) <= distance(plain, truth) + 2**-12


def test_micro_batches_add_up_and_are_forgotten() -> None:
    module = make_model("llama", NARROW)
    optimiser = MasterAdamW(module, Optimiser())
    parts = [mixed_units()[:2], mixed_units()[2:], mixed_units()[:2]]
    each = []
    for part in parts:
        learn(module, part, optimiser)
        each.append(collected(optimiser))
        optimiser.forget_gradients()
        assert collected(optimiser) == {}
        assert all(total.value is None for total in optimiser.sums.values())
    for part in parts:
        learn(module, part, optimiser)
    for name, total in collected(optimiser).items():
        torch.testing.assert_close(total, sum(found[name] for found in each), atol=1e-5, rtol=1e-5)


def test_a_tied_embedding_gets_both_gradients() -> None:
    """As much as the embedding and the head of an untied model with the same weights get together."""
    tied, apart = (make_model("llama", NARROW, tie_word_embeddings=tie) for tie in (True, False))
    apart.load_state_dict(tied.state_dict())
    found = []
    for module in (tied, apart):
        optimiser = MasterAdamW(module, Optimiser())
        learn(module, mixed_units(), optimiser)
        found.append(collected(optimiser))
    both = found[1]["model.embed_tokens.weight"] + found[1]["lm_head.weight"]
    assert found[1]["model.embed_tokens.weight"].abs().max() > 0.1
    torch.testing.assert_close(found[0]["model.embed_tokens.weight"], both, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("recompute", [False, True])
def test_matrices_never_pass_through_autograd(recompute: bool) -> None:
    """Also where layers are computed again, whose saved weights come back as other tensors."""
    module = make_model("llama", NARROW)
    optimiser = MasterAdamW(module, Optimiser())
    if recompute:
        enable_recomputing(module)
    with recomputing(module) if recompute else nullcontext():
        learn(module, mixed_units())
    for name, weight in optimiser.working.items():
        assert (weight.grad is None) == (weight.ndim == 2), name
        assert (optimiser.sums[name].value is None) == (weight.ndim == 1), name
    optimiser.accumulate()
    plain = make_model("llama", NARROW)
    other = MasterAdamW(plain, Optimiser())
    learn(plain, mixed_units(), other)
    assert all(torch.equal(value, collected(other)[name]) for name, value in collected(optimiser).items())


def test_adapters_learn_in_float32_without_sums() -> None:
    module = make_model("llama", NARROW).requires_grad_(False)
    config = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    inject_adapter_in_model(config, module)
    for name, p in module.named_parameters():
        if "lora_" in name:
            p.data = p.data.float()
    optimiser = MasterAdamW(module, Optimiser())
    assert optimiser.sums == {}
    assert len(optimiser.working) == 8
    learn(module, mixed_units(), optimiser)
    before = {name: p.detach().clone() for name, p in optimiser.working.items()}
    assert all(gradient.abs().max() > 0 for gradient in collected(optimiser).values())
    optimiser.step(1e-3, optimiser.gradient_norm())
    assert all(not torch.equal(p, before[name]) for name, p in optimiser.working.items())


def test_a_frozen_weight_has_no_sum_and_no_gradient() -> None:
    module = make_model("llama", NARROW, tie_word_embeddings=False)
    module.model.layers[0].requires_grad_(False)
    module.model.embed_tokens.requires_grad_(False)
    optimiser = MasterAdamW(module, Optimiser())
    assert gradient_sum(module.model.embed_tokens.weight) is None
    assert gradient_sum(module.model.layers[0].mlp.up_proj.weight) is None
    learn(module, mixed_units(), optimiser)
    whole = make_model("llama", NARROW, tie_word_embeddings=False)
    other = MasterAdamW(whole, Optimiser())
    learn(whole, mixed_units(), other)
    assert collected(optimiser).keys() == optimiser.working.keys()
    assert all(torch.equal(value, collected(other)[name]) for name, value in collected(optimiser).items())


def test_two_optimisers_on_different_modules_do_not_meet() -> None:
    first, second = (make_model("llama", NARROW, seed=seed) for seed in (0, 1))
    one, two = MasterAdamW(first, Optimiser()), MasterAdamW(second, Optimiser())
    learn(first, mixed_units(), one)
    kept = collected(one)
    assert collected(two) == {}
    learn(second, mixed_units(), two)
    assert all(torch.equal(value, kept[name]) for name, value in collected(one).items())
    one.forget_gradients()
    assert collected(two).keys() == two.working.keys()


def test_a_later_optimiser_of_the_same_module_takes_over() -> None:
    """As when one stage trains what the stage before has trained."""
    module = make_model("llama", NARROW)
    before = MasterAdamW(module, Optimiser())
    learn(module, mixed_units(), before)
    before.forget_gradients()
    after = MasterAdamW(module, Optimiser())
    learn(module, mixed_units(), after)
    assert collected(after).keys() == after.working.keys()
    assert all(total.value is None for total in before.sums.values())


def _copied(module: PreTrainedModel, how: str) -> PreTrainedModel:
    language_model = LanguageModel(module, make_tokenizer(), "test")
    if how == "snapshot":
        return language_model.snapshot().module.requires_grad_(True)
    if how == "deepcopy":
        return copy.deepcopy(module)
    return score_model_from(language_model, layer=None, pooling="last").backbone


@pytest.mark.parametrize("how", ["snapshot", "deepcopy", "score_model_from"])
def test_a_copy_neither_shares_nor_fills_the_sums(how: str) -> None:
    module = make_model("llama", NARROW)
    optimiser = MasterAdamW(module, Optimiser())
    learn(module, mixed_units(), optimiser)
    kept = collected(optimiser)
    other = _copied(module, how)
    assert all(gradient_sum(p) is None for p in other.parameters())
    if how != "score_model_from":
        assert by_autograd(other, mixed_units()).keys() == kept.keys()
    else:
        other(input_ids=torch.arange(5)[None], use_cache=False).last_hidden_state.sum().backward()
        assert all(p.grad is not None for p in other.parameters())
    optimiser.accumulate()
    assert all(torch.equal(value, kept[name]) for name, value in collected(optimiser).items())


def test_sums_are_in_no_file() -> None:
    module = make_model("llama", NARROW)
    optimiser = MasterAdamW(module, Optimiser())
    learn(module, mixed_units(), optimiser)
    saved = io.BytesIO()
    torch.save(module.state_dict(), saved)
    saved.seek(0)
    loaded = torch.load(saved, weights_only=True)
    assert all(gradient_sum(value) is None for value in loaded.values())
