from __future__ import annotations

import pytest
import torch
from tests.models.families import FAMILIES, group, make_model, mixed_units
from tests.oracles.rows import one_by_one
from torch import nn
from transformers import AutoModelForCausalLM, MambaConfig

from ridgeline.models import body, probe
from ridgeline.models.architecture import Unsupported
from ridgeline.models.batch import MicroBatch
from ridgeline.models.forward import token_scores
from ridgeline.models.kernels import kernel_library
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


@pytest.mark.parametrize("family", ["mistral", "gemma3", "phi3"])
def test_rows_beyond_the_sliding_window_are_packed_where_the_fused_body_reads_them(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere they are padded; that both are right is a matter of `test_body` and `test_forward`."""
    module = make_model(family, sliding_window=32)
    assert supports_packing(module, longest=32)
    assert supports_packing(module, longest=33) == (kernel_library() is not None)
    monkeypatch.setattr(body, "body_of", _unknown)
    assert supports_packing(module, longest=32)
    assert not supports_packing(module, longest=33)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("family", ["mistral", "gemma3", "phi3"])
def test_rows_beyond_the_window_equal_one_row_at_a_time(family: str, packed: bool) -> None:
    module = make_model(family, sliding_window=4)
    units = [group(8, [7, 2, 12], 1), *mixed_units()]
    packed = packed and supports_packing(module, longest=20)
    logp = token_scores(module, MicroBatch.of(units), packed=packed)["logp"]
    torch.testing.assert_close(logp.detach(), one_by_one(module, units)[0], atol=1e-4, rtol=1e-5)


def test_rows_beyond_the_window_of_another_family_are_padded() -> None:
    module = make_model("gemma2")
    assert supports_packing(module, longest=32)
    assert not supports_packing(module, longest=33)


def _unknown(backbone: nn.Module) -> None:
    raise Unsupported("nothing is known of it")


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
