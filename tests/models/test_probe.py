from __future__ import annotations

import pytest
import torch
from tests.models.families import FAMILIES, make_model
from torch import nn
from transformers import AutoModelForCausalLM, MambaConfig

from ridgeline.models import probe
from ridgeline.models.probe import head_is_known, supports_packing


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_packs_and_its_head_is_known(family: str, dtype: torch.dtype) -> None:
    module = make_model(family, dtype)
    assert supports_packing(module)
    assert head_is_known(module)


def _mamba() -> nn.Module:
    torch.manual_seed(0)
    config = MambaConfig(
        vocab_size=61, hidden_size=32, num_hidden_layers=2, state_size=4, initializer_range=0.5,
        bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


def test_a_state_space_model_ignores_masks_and_is_padded() -> None:
    module = _mamba()
    assert not supports_packing(module)
    assert head_is_known(module)


@pytest.mark.parametrize("family", ["mistral", "gemma3", "gemma2"])
def test_rows_beyond_the_sliding_window_are_padded(family: str) -> None:
    module = make_model(family)
    assert supports_packing(module, longest=32)
    assert not supports_packing(module, longest=33)


def test_a_model_that_ignores_positions_is_padded() -> None:
    class IgnoresPositions(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, input_ids, position_ids=None, **rest):
            return self.inner(input_ids=input_ids, **rest)

    module = make_model("gpt2")
    module.transformer.wpe.weight.data.mul_(5)
    module.transformer = IgnoresPositions(module.transformer)
    assert not supports_packing(module)


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("gemma2", "final_logit_softcapping", None),
        ("granite", "logits_scaling", 1.0),
        ("cohere", "logit_scale", 1.0),
    ],
)
def test_a_head_that_is_not_reproduced_is_noticed(
    family: str, key: str, value: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the family's own transformation the comparison must fail, else the check checks nothing."""
    module = make_model(family)
    assert head_is_known(module)
    plain = probe.head_logits

    def blind(*args, **kwargs):
        kept = getattr(module.config, key)
        setattr(module.config, key, value)
        try:
            return plain(*args, **kwargs)
        finally:
            setattr(module.config, key, kept)

    monkeypatch.setattr(probe, "head_logits", blind)
    assert not head_is_known(module)
