"""The compiled kernels against the same operations in torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.models import kernels
from ridgeline.models.kernels import plain
from ridgeline.models.kernels.pages import LANES, Pages
from ridgeline.rollout.distribution import draw, log_distribution
from ridgeline.schema.stages.common import Sampling

FORMATS = (torch.float32, torch.bfloat16)
compiled = pytest.mark.skipif(kernels.kernel_library() is None, reason=kernels.kernels_note())


def agree(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Both computed in float32 and rounded once: equal but for a last place, here and there."""
    unit = 2.0**-7 if ours.dtype == torch.bfloat16 else 2.0**-18
    assert torch.allclose(ours.float(), theirs.float(), rtol=unit, atol=unit * 1e-1)


def randn(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@compiled
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("width", [1, 7, 64, 576])
def test_rms_norm(dtype: torch.dtype, offset: float, width: int) -> None:
    x, delta, weight = (randn(5, width, dtype=dtype, seed=s) for s in range(3))
    weight = weight[0]
    ours, theirs = x.clone(), x.clone()
    agree(
        kernels.rms_norm(ours, weight, 1e-5, delta=delta, offset=offset),
        plain.rms_norm(theirs, weight, 1e-5, delta=delta, offset=offset),
    )
    assert torch.equal(ours, theirs)
    assert torch.equal(ours, x + delta)  # the stream took the delta in
    agree(kernels.rms_norm(x, weight, 1e-5), plain.rms_norm(x, weight, 1e-5))


@compiled
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("pieces, width", [(3, 8), (1, 24)])
def test_norm_heads_touches_its_heads_only(dtype: torch.dtype, pieces: int, width: int) -> None:
    qkv, weight = randn(4, 40, dtype=dtype), randn(width, dtype=dtype, seed=1)
    ours, theirs = qkv.clone(), qkv.clone()
    kernels.norm_heads(ours, 8, pieces, weight, 1e-6, offset=1.0)
    plain.norm_heads(theirs, 8, pieces, weight, 1e-6, offset=1.0)
    agree(ours, theirs)
    assert torch.equal(ours[:, :8], qkv[:, :8]) and torch.equal(ours[:, 32:], qkv[:, 32:])


@compiled
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_gate(dtype: torch.dtype, activation: str) -> None:
    x = randn(6, 2 * 37, dtype=dtype) * 3  # far below 0 torch's tanh cancels and ours does not
    agree(kernels.gate(x, activation), plain.gate(x, activation))


def test_plain_gate_is_torchs() -> None:
    x = randn(3, 10, dtype=torch.float32)
    left, right = x.chunk(2, -1)
    assert torch.equal(plain.gate(x, "silu"), torch.nn.functional.silu(left) * right)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("length", [1, 15, 16, 17, 40])
def test_pages_return_what_was_written(dtype: torch.dtype, length: int) -> None:
    pages = Pages.empty(2, 3, 40, 8, dtype)
    keys, values = randn(3, length, 8, dtype=dtype), randn(3, length, 8, dtype=dtype, seed=1)
    pages.write(1, keys, values)
    for ours, theirs in zip(pages.read(1, length), (keys, values), strict=True):
        assert torch.equal(ours, theirs)
    assert pages.capacity % LANES == 0 and not pages.keys[0].any()


@compiled
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("turned", [0, 4, 8])
def test_rotate_and_store(dtype: torch.dtype, turned: int) -> None:
    rows, kv_heads, size = 5, 2, 8
    ours, theirs = (Pages.empty(rows, kv_heads, 20, size, dtype) for _ in range(2))
    half = torch.rand(rows, turned // 2, generator=torch.Generator().manual_seed(3)) * 6
    angles = torch.cat([half, half], -1)
    cosine, sine = (angles.cos(), angles.sin()) if turned else (None, None)
    slots, positions = torch.tensor([4, 2, 0, 1, 3]), torch.tensor([0, 19, 15, 16, 7])
    qkv = randn(rows, (4 + 2 * kv_heads) * size, dtype=dtype)
    turned_here, turned_there = qkv.clone(), qkv.clone()
    kernels.rotate_and_store(turned_here, cosine, sine, ours, slots, positions)
    plain.rotate_and_store(turned_there, cosine, sine, theirs, slots, positions)
    agree(turned_here, turned_there)
    agree(ours.keys, theirs.keys)
    assert torch.equal(ours.values, theirs.values)
    # A rotation keeps lengths; what is not turned stays.
    heads = turned_there.float().view(rows, -1, size)[:, : 4 + kv_heads]
    before = qkv.float().view(rows, -1, size)[:, : 4 + kv_heads]
    assert torch.allclose(heads.norm(dim=-1), before.norm(dim=-1), rtol=2e-2)
    assert torch.equal(heads[..., turned:], before[..., turned:])


@compiled
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("size", [8, 64, 128, 256])
@pytest.mark.parametrize("options", [{}, {"window": 9}, {"window": 1}, {"cap": 2.0}])
def test_attend(dtype: torch.dtype, size: int, options: dict[str, Any]) -> None:
    rows, heads, kv_heads = 6, 6, 2
    prompt, own = Pages.empty(3, kv_heads, 33, size, dtype), Pages.empty(rows, kv_heads, 20, size, dtype)
    for pages, count, length, seed in ((prompt, 3, 33, 1), (own, rows, 20, 2)):
        for page in range(count):
            keys, values = (
                randn(kv_heads, length, size, dtype=dtype, seed=seed + 10 * page + s) for s in (0, 1)
            )
            pages.write(page, keys, values)
    qkv = randn(rows, (heads + 2 * kv_heads) * size, dtype=dtype)
    where = (
        torch.tensor([0, 0, 1, 2, 2, 1]),
        torch.tensor([33, 1, 16, 5, 17, 32]),
        torch.tensor([5, 4, 3, 2, 1, 0]),
        torch.tensor([1, 20, 16, 17, 3, 2]),
    )
    ours = kernels.attend(qkv, prompt, own, *where, scale=size**-0.5, **options)
    theirs = plain.attend(qkv, prompt, own, *where, scale=size**-0.5, **options)
    assert torch.allclose(ours.float(), theirs.float(), atol=2e-2 if dtype == torch.bfloat16 else 2e-5)


def test_plain_attention_is_torchs() -> None:
    own = Pages.empty(1, 1, 5, 8, torch.float32)
    keys, values = randn(1, 5, 8, dtype=torch.float32), randn(1, 5, 8, dtype=torch.float32, seed=1)
    own.write(0, keys, values)
    qkv = randn(1, 4 * 8, dtype=torch.float32, seed=2)  # two query heads on one key head
    prompt = Pages.empty(1, 1, 1, 8, torch.float32)
    place = torch.tensor([0])
    ours = plain.attend(qkv, prompt, own, place, place, place, torch.tensor([5]), scale=8**-0.5)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        qkv[:, :16].view(1, 2, 1, 8), keys[None], values[None], enable_gqa=True
    )
    assert torch.allclose(ours, theirs.flatten()[None], atol=1e-6)


TRUNCATIONS: list[dict[str, Any]] = [
    {},
    {"top_k": 1},
    {"top_k": 40},
    {"top_k": 2999},
    {"top_p": 0.9},
    {"top_p": 0.01},
    {"top_p": 0.9999},
    {"min_p": 0.05},
    {"min_p": 1.0},
    {"top_k": 100, "top_p": 0.5},
    {"top_k": 5, "top_p": 0.99, "min_p": 0.2},
]


def drawn(
    logits: torch.Tensor, uniform: torch.Tensor, temperature: float, **options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    found = kernels.draw(logits, uniform, temperature, **options)
    assert found is not None
    return found


def agrees_with_the_definition(
    logits: torch.Tensor, uniform: torch.Tensor, temperature: float, **options: Any
) -> None:
    """The same tokens, but for uniform numbers upon a border, and the same log-probs."""
    tokens, logp = drawn(logits, uniform, temperature, **options)
    logp_BV = log_distribution(logits, Sampling(temperature=temperature, **options))
    expected = draw(logp_BV, uniform)
    assert (tokens != expected).sum() <= 1 + len(logits) // 1000
    same = tokens == expected
    picked = logp_BV.gather(-1, tokens[:, None])[:, 0]
    assert picked.isfinite().all()  # nothing outside the support, whatever the number
    assert torch.allclose(logp[same], picked[same].double(), atol=1e-5)


def numbers(count: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@compiled
@pytest.mark.parametrize("options", TRUNCATIONS, ids=str)
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("vocabulary", [1, 255, 256, 257, 3000])
def test_draw(dtype: torch.dtype, vocabulary: int, options: dict[str, Any]) -> None:
    logits = randn(50, vocabulary, dtype=dtype) * 4
    agrees_with_the_definition(logits, numbers(50), 0.7, **options)


@compiled
@pytest.mark.parametrize("options", TRUNCATIONS, ids=str)
@pytest.mark.parametrize("temperature", [0.05, 3.0])
@pytest.mark.parametrize("spread", [0.001, 1.0, 60.0])
def test_draw_of_flat_and_of_steep_rows(temperature: float, spread: float, options: dict[str, Any]) -> None:
    """All tokens in one bin of the kernel, and most of them in its last."""
    logits = randn(200, 700, dtype=torch.float32, seed=3) * spread
    agrees_with_the_definition(logits, numbers(200), temperature, **options)


@compiled
@pytest.mark.parametrize("options", TRUNCATIONS, ids=str)
@pytest.mark.parametrize("dtype", FORMATS)
def test_ties_are_kept_in_order_of_ids(dtype: torch.dtype, options: dict[str, Any]) -> None:
    """Five different logits over 600 tokens, some banned: every border falls among equals."""
    levels = torch.tensor([0.0, 0.5, 1.0, -1.0, -torch.inf], dtype=dtype)
    places = torch.randint(5, (300, 600), generator=torch.Generator().manual_seed(2))
    agrees_with_the_definition(levels[places], numbers(300), 1.0, **options)


@compiled
@pytest.mark.parametrize("dtype", FORMATS)
def test_greedy_draw_takes_the_first_of_the_best(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1.0, 5.0, 5.0, 2.0], [9.0, 0.0, 0.0, 9.0], [-3.0, -3.0, -2.0, -3.0]], dtype=dtype)
    tokens, logp = drawn(logits, numbers(3), 0.0)
    assert tokens.tolist() == [1, 0, 2] and logp.tolist() == [0.0, 0.0, 0.0]


@compiled
@pytest.mark.parametrize("options", TRUNCATIONS, ids=str)
@pytest.mark.parametrize("place", [0, 7, 299])
def test_a_nan_is_not_hidden(place: int, options: dict[str, Any]) -> None:
    logits = randn(2, 300, dtype=torch.float32)
    logits[0, place] = torch.nan
    logits[1] = torch.nan
    assert drawn(logits, numbers(2), 1.0, **options)[1].isnan().all()


@compiled
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([-1e30, -float("inf"), -50.0, 0.0, 3.0]), min_size=1, max_size=600), st.data()
)
def test_no_token_without_mass_is_drawn(values: list[float], data: st.DataObject) -> None:
    values[data.draw(st.integers(0, len(values) - 1))] = 0.0
    uniform = torch.tensor([data.draw(st.floats(0, 1, exclude_max=True))], dtype=torch.float64)
    options = data.draw(st.sampled_from(TRUNCATIONS))
    tokens, logp = drawn(torch.tensor([values]), uniform, 1.0, **options)
    best = max(values)
    assert values[int(tokens)] > best - 87.4
    assert -88 < float(logp) <= 1e-9


@compiled
@pytest.mark.parametrize("options", [{}, {"top_k": 15}, {"top_p": 0.8}, {"min_p": 0.1}], ids=str)
def test_frequencies_are_the_probabilities(options: dict[str, Any]) -> None:
    """Chi-square over 40 tokens, 20,000 draws at temperature 0.8."""
    from scipy.stats import chisquare

    logits = randn(1, 40, dtype=torch.float32)
    tokens, _ = drawn(logits.expand(20_000, 40), numbers(20_000, seed=4), 0.8, **options)
    probability = torch.softmax(logits[0].double() / 0.8, -1).numpy()
    order = np.argsort(-probability)
    before = np.cumsum(probability[order]) - probability[order]
    kept = order[
        (np.arange(40) < options.get("top_k", 40))
        & (before < options.get("top_p", 2))
        & (probability[order] >= options.get("min_p", 0) * probability.max())
    ]
    assert 1 < len(kept) <= 40 and (not options or len(kept) < 40)
    observed = np.bincount(tokens.numpy(), minlength=40)
    assert observed[kept].sum() == 20_000
    assert chisquare(observed[kept], probability[kept] / probability[kept].sum() * 20_000).pvalue > 1e-3


@pytest.mark.parametrize(
    "environment, note",
    [
        ({"RIDGELINE_KERNELS": "off"}, "torch (RIDGELINE_KERNELS=off)"),
        ({"CC": "/bin/false"}, "torch (compiling failed"),
        ({"PATH": "/nowhere", "CC": ""}, "torch (no C compiler)"),
    ],
)
def test_a_machine_that_cannot_compile_says_so(
    environment: dict[str, str], note: str, tmp_path: Path
) -> None:
    code = "from ridgeline.models import kernels as k; print(k.kernels_note()); k.kernel_library().draw"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"RIDGELINE_CACHE": str(tmp_path), "PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(note) and "NoneType" in done.stderr
