"""An adapter changes nothing at first, learns alone, can be looked past, and merges into a plain model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tests.models.families import mixed_units
from tests.tiny import make_tiny_model

from ridgeline.models.adapters import WithoutAdapter, add_adapter, merge, trainable_share
from ridgeline.models.batch import MicroBatch
from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import LanguageModel, load_model
from ridgeline.schema.errors import UsageError
from ridgeline.schema.stages.common import Adapter, Optimiser
from ridgeline.training.local import LocalEngine
from ridgeline.training.next_token import NextToken

FORWARD = PolicyForward()


@pytest.fixture
def model(tmp_path: Path) -> LanguageModel:
    return load_model(str(make_tiny_model(tmp_path / "model")))


def logp(model: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return FORWARD(model.module, MicroBatch.of(mixed_units()), False)["logp"]


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_adapter_learns_alone_and_merges(model: LanguageModel, kind: str, tmp_path: Path) -> None:
    before = logp(model)
    original = {name: p.detach().clone() for name, p in model.module.named_parameters()}
    adapter = add_adapter(model.module, Adapter(kind=kind, rank=4), seed=3)
    torch.testing.assert_close(logp(model), before, atol=1e-5, rtol=1e-5)
    assert 0 < trainable_share(model.module) < 0.3
    engine = LocalEngine()
    engine.add("policy", model.module, FORWARD, optimiser=Optimiser(learning_rate=1e-2, warmup=0))
    engine.add_view("reference", "policy", WithoutAdapter(adapter, FORWARD))
    for _ in range(3):
        engine.forward_backward("policy", mixed_units(), NextToken())
        engine.step("policy", 1e-2)
    learned = logp(model)
    assert float((learned - before).abs().max()) > 0.01
    for name, p in model.module.named_parameters():
        plain = name.replace(".base_layer", "")
        if plain in original:
            assert torch.equal(p, original[plain]), name
    units = mixed_units()
    scored = engine.score("reference", units)
    plain = [row[: len(s["logp"])] for row, s in zip(before.numpy(), scored, strict=True)]
    for ours, theirs in zip(scored, plain, strict=True):
        assert ours["logp"] == pytest.approx(theirs, abs=1e-5)
    torch.testing.assert_close(logp(model), learned)  # looking past the adapter leaves it on
    adapter.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    merged = merge(adapter)
    assert merged is model.module and not any("lora" in name for name, _ in merged.named_parameters())
    torch.testing.assert_close(logp(model), learned, atol=1e-4, rtol=1e-4)
    again = load_model(str(tmp_path / "model"))
    PeftModel.from_pretrained(again.module, str(tmp_path / "adapter"))
    torch.testing.assert_close(logp(again), learned, atol=1e-4, rtol=1e-4)


def test_seed_decides_the_first_factor(tmp_path: Path) -> None:
    made = []
    for seed in (1, 1, 2):
        model = load_model(str(make_tiny_model(tmp_path / "model")))
        add_adapter(model.module, Adapter(rank=2), seed=seed)
        made.append(next(p.clone() for name, p in model.module.named_parameters() if "lora_A" in name))
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_unknown_targets_are_refused(model: LanguageModel) -> None:
    with pytest.raises(UsageError, match=r"adapter\.targets = \['nothing'\]"):
        add_adapter(model.module, Adapter(targets=["nothing"]), seed=1)
