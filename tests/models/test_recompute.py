"""Recomputing activations changes memory, never a result; sampling keeps its cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models.families import mixed_units
from tests.tiny import make_tiny_model

from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import load_model
from ridgeline.models.recompute import enable_recomputing, recomputing
from ridgeline.schema.errors import UsageError
from ridgeline.schema.stages.common import Optimiser
from ridgeline.training.local import LocalEngine
from ridgeline.training.next_token import NextToken


def gradients(folder: Path, *, recompute: bool, packed: bool) -> dict[str, torch.Tensor]:
    model = load_model(str(folder), dtype=torch.float64)
    engine = LocalEngine()
    engine.add(
        "policy", model.module, PolicyForward(), packed=packed, optimiser=Optimiser(), recompute=recompute
    )
    engine.forward_backward("policy", mixed_units(), NextToken())
    assert not any(part.training for part in model.module.modules())
    optimiser = engine.roles["policy"].optimiser
    assert optimiser is not None
    return optimiser.gradients()


@pytest.mark.parametrize("packed", [False, True])
def test_same_gradients(tmp_path: Path, packed: bool) -> None:
    folder = make_tiny_model(tmp_path / "model")
    plain = gradients(folder, recompute=False, packed=packed)
    again = gradients(folder, recompute=True, packed=packed)
    assert plain.keys() == again.keys() and plain
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, atol=1e-12, rtol=1e-9)


def test_activations_are_dropped(tmp_path: Path) -> None:
    """Fewer tensors are kept for the backward pass."""
    model = load_model(str(make_tiny_model(tmp_path / "model")))
    enable_recomputing(model.module)
    ids = torch.arange(1, 60)[None]
    kept = {}
    for name in ("plain", "recomputing"):
        count = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            if name == "plain":
                model.module(input_ids=ids, use_cache=False)
            else:
                with recomputing(model.module):
                    model.module(input_ids=ids, use_cache=False)
        kept[name] = count
    assert kept["recomputing"] < 0.5 * kept["plain"]


def test_dropout_is_refused(tmp_path: Path) -> None:
    model = load_model(str(make_tiny_model(tmp_path / "model")))
    model.module.config.attention_dropout = 0.1
    with pytest.raises(UsageError, match="attention_dropout"):
        enable_recomputing(model.module)
