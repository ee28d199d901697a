"""The fused body equals the model's own forward pass, one row at a time, for every family that it knows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from tests.models.families import CONFIGS, conversation, group, ids, make_model, mixed_units
from tests.oracles.rows import (
    Gradients,
    distance,
    gradients,
    largest_difference,
    one_by_one,
    states_one_by_one,
    weights_of,
)
from transformers import PreTrainedModel

from ridgeline.models import architecture, body, forward
from ridgeline.models.batch import MicroBatch, Unit, completion_row
from ridgeline.models.body import fused_body
from ridgeline.models.forward import read_rows, token_scores
from ridgeline.models.kernels import kernel_library, kernels_note
from ridgeline.models.recompute import enable_recomputing, recomputing

pytestmark = pytest.mark.skipif(kernel_library() is None, reason=kernels_note())

TYPES = {family: config().model_type for family, config in CONFIGS.items()}
FUSED = [family for family, kind in TYPES.items() if kind in architecture.FAMILIES]
OTHERS = [family for family in CONFIGS if family not in FUSED]


@pytest.fixture(autouse=True)
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Tokens of each pass through the fused body."""
    seen: list[int] = []
    plain = body.read

    def spy(parts: Any, ids_T: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(len(ids_T))
        return plain(parts, ids_T, *rest)

    monkeypatch.setattr(forward, "read", spy)
    yield seen


def units() -> list[Unit]:
    """`mixed_units`, and a group one of whose rows ends with the prompt."""
    prompt = ids(6, 20)
    silent = [
        completion_row(prompt, ids(3, 21)),
        completion_row(prompt, []),
        completion_row(prompt, ids(1, 22)),
    ]
    return [*mixed_units(), silent]


def fused(module: PreTrainedModel, which: list[Unit]) -> tuple[torch.Tensor, Gradients]:
    batch = MicroBatch.of(which)
    logp_BN = token_scores(module, batch, packed=True)["logp"]
    (logp_BN * weights_of(batch).to(logp_BN)).sum().backward()
    return logp_BN.detach(), gradients(module)


def assert_equals_one_row_at_a_time(module: PreTrainedModel, which: list[Unit], seen: list[int]) -> None:
    """In float32: states, log-probs and the gradient of every parameter."""
    logp, grads = fused(module, which)
    assert len(seen) == 1
    expected, expected_grads = one_by_one(module, which)
    assert float(expected.abs().max()) > 1
    torch.testing.assert_close(logp, expected, atol=1e-4, rtol=1e-5)
    assert set(grads) == {name for name, _ in module.named_parameters()}
    assert largest_difference(grads, expected_grads) < 1e-5
    with torch.no_grad():
        flat, layout = read_rows(module.base_model, MicroBatch.of(which), packed=True)
    for index, states in zip(layout.token_index, states_one_by_one(module, which), strict=True):
        torch.testing.assert_close(flat[index], states, atol=3e-5, rtol=1e-5)


def test_every_family_is_tested() -> None:
    assert {TYPES[family] for family in FUSED} == set(architecture.FAMILIES)


@pytest.mark.parametrize("family", FUSED)
def test_float32(family: str, reads: list[int]) -> None:
    assert_equals_one_row_at_a_time(make_model(family), units(), reads)


@pytest.mark.parametrize("family", FUSED)
def test_bfloat16_is_as_near_to_the_truth_as_the_models_own_pass(family: str, reads: list[int]) -> None:
    """Distances of log-probs and of the whole gradient from those of the same weights in float32.

    Rounding makes one model's ratio anything between 0.6 and 1.4, so eight are taken together.
    """
    which, seeds = units(), range(8)
    off: dict[str, list[tuple[float, float]]] = {"ours": [], "own": []}
    for seed in seeds:
        module = make_model(family, torch.bfloat16, seed=seed)
        truth, true_grads = one_by_one(make_model(family, torch.bfloat16, seed=seed).float(), which)
        for name, (logp, grads) in (("own", one_by_one(module, which)), ("ours", fused(module, which))):
            off[name].append((float((logp - truth).norm()), distance(grads, true_grads)))
    assert len(reads) == len(seeds)
    (logp, gradient), (own_logp, own_gradient) = (map(sum, zip(*off[name], strict=True)) for name in off)
    assert logp < 1.15 * own_logp
    assert gradient < 1.15 * own_gradient
    assert gradient / len(seeds) < 0.1


SHAPES = [
    ("llama", {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 12}),
    ("llama", {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 20, "attention_bias": True}),
    ("qwen3", {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 20}),
    ("gemma3", {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 12}),
    ("qwen2", {"tie_word_embeddings": True, "intermediate_size": 50}),
    ("llama", {"tie_word_embeddings": False, "mlp_bias": True, "hidden_act": "gelu_pytorch_tanh"}),
    ("phi3", {"partial_rotary_factor": 0.5}),
]


@pytest.mark.parametrize(("family", "changes"), SHAPES)
def test_shapes_that_fill_no_vector(family: str, changes: dict[str, Any], reads: list[int]) -> None:
    assert_equals_one_row_at_a_time(make_model(family, **changes), units(), reads)


WINDOWS: list[tuple[str, dict[str, Any]]] = [
    ("mistral", {"sliding_window": 4}),
    ("phi3", {"sliding_window": 3}),
    ("gemma3", {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}),
    ("qwen2", {"sliding_window": 5, "use_sliding_window": True,
               "layer_types": ["full_attention", "sliding_attention"]}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "changes"), WINDOWS)
def test_windows_shorter_than_the_texts(family: str, changes: dict[str, Any], reads: list[int]) -> None:
    """Shorter than prompts and completions both, so that it ends in the shared prompt and behind it."""
    module = make_model(family, **changes)
    which = [group(8, [7, 2, 12], 30), *units()]
    assert_equals_one_row_at_a_time(module, which, reads)
    wide = make_model(family, **{**changes, "sliding_window": 60})
    assert not torch.allclose(fused(wide, which)[0], fused(module, which)[0], atol=1e-2)


def test_a_single_row_and_texts_of_many_tiles(reads: list[int]) -> None:
    module = make_model("llama", max_position_embeddings=512)
    assert_equals_one_row_at_a_time(
        module, [group(150, [90, 40], 40), conversation(130, [1, 64, 129], 41)], reads
    )
    reads.clear()
    assert_equals_one_row_at_a_time(module, [group(1, [1], 42)], reads)


def test_a_shared_prompt_is_read_once_and_nothing_is_padded(reads: list[int]) -> None:
    token_scores(make_model("llama"), MicroBatch.of([group(20, [3, 4, 5], 1), group(2, [9], 2)]), packed=True)
    assert reads == [20 + 3 + 4 + 5 + 11]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_neighbours_change_log_probs_by_rounding_only(dtype: torch.dtype) -> None:
    """Attention, norms and head are the same bit for bit (`test_learn`); a matrix product may round otherwise
    when it has other rows beside."""
    module, unit = make_model("llama", dtype), group(5, [3, 6], 1)
    alone = token_scores(module, MicroBatch.of([unit]), packed=True)["logp"]
    for neighbour in (group(30, [25], 8), conversation(50, [3, 49], 10)):
        both = token_scores(module, MicroBatch.of([neighbour, unit]), packed=True)["logp"]
        tolerance = 3e-5 if dtype == torch.float32 else 0.1
        torch.testing.assert_close(both[-2:, :6], alone, atol=tolerance, rtol=0)


def test_the_same_batch_gives_the_same_bits() -> None:
    module = make_model("qwen3", torch.bfloat16)
    first, second = fused(module, units()), fused(module, units())
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_show(value: float, dtype: torch.dtype) -> None:
    """NaN stops a run, so no kernel may lose one on the way."""
    for name in ("embed_tokens", "layers.0.self_attn.k_proj", "layers.1.mlp.up_proj", "norm"):
        module = make_model("llama", dtype, tie_word_embeddings=False)
        with torch.no_grad():
            module.model.get_parameter(f"{name}.weight").view(-1)[:].fill_(value)
        logp, grads = fused(module, [group(4, [3, 2], 1)])
        assert not logp[0].isfinite().any(), name
        assert not all(gradient.isfinite().all() for gradient in grads.values()), name


@pytest.mark.parametrize("family", ["llama", "gemma3", "olmo2"])
def test_recomputing_changes_no_gradient_and_keeps_less(family: str, reads: list[int]) -> None:
    found, kept = [], []
    for recompute in (False, True):
        batch = MicroBatch.of(units())
        module = make_model(family, num_hidden_layers=4, layer_types=["full_attention"] * 4)
        if recompute:
            enable_recomputing(module)
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
    assert len(reads) == 2
    assert torch.equal(found[0][0], found[1][0])
    assert largest_difference(found[1][1], found[0][1]) == 0
    assert kept[1] < 0.5 * kept[0]


@pytest.mark.parametrize("family", OTHERS)
def test_other_families_run_their_own_pass(family: str) -> None:
    assert fused_body(make_model(family).base_model) is None


def test_a_frozen_part_gets_no_gradient_and_the_rest_is_unchanged() -> None:
    module = make_model("llama", tie_word_embeddings=False)
    _, everything = fused(module, units())
    frozen = [
        name
        for name, _ in module.named_parameters()
        if "layers.0" in name or "k_proj" in name or "embed" in name
    ]
    for name in frozen:
        module.get_parameter(name).requires_grad_(False)
    _, rest = fused(module, units())
    assert not rest.keys() & set(frozen)
    assert rest.keys() | set(frozen) == everything.keys()
    assert all(torch.equal(rest[name], everything[name]) for name in rest)


@pytest.mark.parametrize("kind", ["float64", "two formats", "adapter", "capped scores"])
def test_what_the_kernels_do_not_know_runs_the_models_own_pass(kind: str, reads: list[int]) -> None:
    module = make_model("llama", torch.float64 if kind == "float64" else torch.float32)
    if kind == "two formats":
        module.model.norm.bfloat16()
    elif kind == "adapter":
        inject_adapter_in_model(LoraConfig(r=2, target_modules=["q_proj"]), module)
    elif kind == "capped scores":
        module.config.attn_logit_softcapping = 20.0
    assert fused_body(module.base_model) is None
    if kind != "two formats":  # which torch's own norm joins with float32, and its head refuses
        token_scores(module, MicroBatch.of(units()), packed=True)
    assert reads == []


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_under_autocast_the_model_runs_its_own_pass(family: str, reads: list[int]) -> None:
    """There products come out in bfloat16, which a kernel would take for float32."""
    module, batch = make_model(family), MicroBatch.of(units())
    exact = token_scores(module, batch, packed=False)["logp"]
    with torch.autocast("cpu", torch.bfloat16):
        logp = token_scores(module, batch, packed=True)["logp"]
    assert reads == []
    torch.testing.assert_close(logp, exact, atol=0.15, rtol=0.05)


_WITHOUT = """
import torch
from tests.models.families import make_model
from tests.models.test_body import fused, units
from tests.oracles.rows import largest_difference, one_by_one
from ridgeline.models.body import fused_body
from ridgeline.models.kernels import kernels_note
from ridgeline.models.probe import supports_packing
from ridgeline.models.scored_head import plain_head
from ridgeline.models.text_attention import allowed
from ridgeline.training.optimiser import MasterAdamW
from ridgeline.schema.stages.common import Optimiser
assert kernels_note() == "torch (RIDGELINE_KERNELS=off)"
for family in ("llama", "gemma3", "gpt2"):
    module = make_model(family)
    assert fused_body(module.base_model) is plain_head(module) is None
    assert not allowed(module.base_model) and supports_packing(module)
    (logp, grads), (expected, expected_grads) = fused(module, units()), one_by_one(module, units())
    torch.testing.assert_close(logp, expected, atol=1e-4, rtol=1e-5)
    assert largest_difference(grads, expected_grads) < 1e-5
module = make_model("llama", torch.bfloat16)
optimiser = MasterAdamW(module, Optimiser())
_, grads = fused(make_model("llama", torch.bfloat16), units())
for name, gradient in grads.items():
    optimiser.working[name].grad = gradient
optimiser.accumulate()
assert all(torch.equal(optimiser.gradient(name), grads[name].float()) for name in grads)
print("equal")
"""


def test_without_a_compiler_everything_falls_back_and_equals() -> None:
    environment = {**os.environ, "RIDGELINE_KERNELS": "off"}
    done = subprocess.run([sys.executable, "-c", _WITHOUT], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "equal", done.stderr
