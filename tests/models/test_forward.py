"""Whatever the layout, log-probs and gradients are those of one row at a time through the model itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.families import (
    FAMILIES,
    VOCABULARY,
    conversation,
    group,
    ids,
    make_model,
    mixed_units,
    pure_float64,
)
from tests.oracles.rows import Gradients, gradients, largest_difference, one_by_one, weights_of
from transformers import PreTrainedModel

from ridgeline.models import forward, scored_head
from ridgeline.models.batch import MicroBatch, Row, Unit, completion_row, split
from ridgeline.models.forward import PolicyForward, head_logits, token_scores
from ridgeline.models.kernels import kernel_library, kernels_note

compiled = pytest.mark.skipif(kernel_library() is None, reason=kernels_note())


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    with pure_float64():
        yield


def by_layout(module: PreTrainedModel, units: list[Unit], *, packed: bool) -> tuple[torch.Tensor, Gradients]:
    batch = MicroBatch.of(units)
    logp_BN = token_scores(module, batch, packed=packed)["logp"]
    (logp_BN * weights_of(batch).to(logp_BN)).sum().backward()
    return logp_BN.detach(), gradients(module)


def assert_close(ours: Gradients, oracle: Gradients, relative: float) -> None:
    assert largest_difference(ours, oracle) <= relative


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_layouts_equal_one_row_at_a_time(
    family: str, dtype: torch.dtype, tolerance: float, packed: bool
) -> None:
    module = make_model(family, dtype)
    units = mixed_units()
    logp, grads = by_layout(module, units, packed=packed)
    expected, expected_grads = one_by_one(module, units)
    assert logp.dtype == dtype
    assert float(expected.abs().max()) > 1
    torch.testing.assert_close(logp, expected, atol=tolerance * 10, rtol=tolerance)
    assert_close(grads, expected_grads, tolerance)


@pytest.mark.parametrize("packed", [False, True])
def test_padding_and_neighbours_do_not_matter(packed: bool) -> None:
    module = make_model("llama", torch.float64)
    unit = group(5, [3, 6], 1)
    alone, _ = by_layout(module, [unit], packed=packed)
    for neighbour in (group(30, [25], 8), group(1, [1], 9), conversation(50, [3, 49], 10)):
        first, _ = by_layout(module, [unit, neighbour], packed=packed)
        last, _ = by_layout(module, [neighbour, unit], packed=packed)
        torch.testing.assert_close(first[:2, :6], alone, atol=1e-9, rtol=0)
        torch.testing.assert_close(last[-2:, :6], alone, atol=1e-9, rtol=0)


def test_packing_encodes_a_shared_prompt_once() -> None:
    seen = []
    module = make_model("llama")
    module.get_input_embeddings().register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].numel()))
    batch = MicroBatch.of([group(20, [3, 4, 5], 1)])
    token_scores(module, batch, packed=True)
    token_scores(module, batch, packed=False)
    assert seen == [20 + 3 + 4 + 5, 3 * 25]


def test_absolute_positions_restart_in_every_packed_unit() -> None:
    """GPT-2 learns a vector per position; the packed layout must hand each row positions from 0."""
    module = make_model("gpt2", torch.float64)
    unit = group(3, [2], 1)
    before, _ = by_layout(module, [unit, group(3, [2], 2)], packed=True)
    with torch.no_grad():
        module.transformer.wpe.weight[5:] += 1.0  # no row is longer than 5
    after, _ = by_layout(module, [unit, group(3, [2], 2)], packed=True)
    torch.testing.assert_close(before, after, atol=0, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen2", "cohere"])
@pytest.mark.parametrize("chunk", [1, 4, 7])
def test_chunked_head_equals_plain(family: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_model(family, torch.float64)
    units = mixed_units()
    plain, plain_grads = by_layout(module, units, packed=True)
    monkeypatch.setattr(forward, "HEAD_CHUNK", chunk)
    chunked, chunked_grads = by_layout(module, units, packed=True)
    torch.testing.assert_close(chunked, plain, atol=1e-12, rtol=1e-12)
    assert_close(chunked_grads, plain_grads, 1e-12)


def test_chunks_bound_the_logits_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that is not plain (here its logits are capped) makes them in chunks of so many positions."""
    sizes = []
    plain = head_logits

    def spy(module: PreTrainedModel, hidden_SH: torch.Tensor) -> torch.Tensor:
        sizes.append(len(hidden_SH))
        return plain(module, hidden_SH)

    monkeypatch.setattr(forward, "head_logits", spy)
    monkeypatch.setattr(forward, "HEAD_CHUNK", 4)
    batch = MicroBatch.of(mixed_units())
    with torch.no_grad():
        token_scores(make_model("gemma2"), batch, packed=False)
    assert sizes == [4] * (sum(sizes) // 4) + ([sum(sizes) % 4] if sum(sizes) % 4 else [])
    assert sum(sizes) == int(batch.mask_BN.sum())


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_budget_bounds_the_logits_alive_in_a_plain_head(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[int]] = {"score_logits": [], "score_logits_backward": []}
    plain = scored_head._score

    def spy(name: str, logits_RV: torch.Tensor, *arguments: Any, **options: Any) -> None:
        seen[name].append(logits_RV.untyped_storage().nbytes())
        plain(name, logits_RV, *arguments, **options)

    monkeypatch.setattr(scored_head, "_score", spy)
    position = VOCABULARY * torch.finfo(dtype).bits // 8
    monkeypatch.setattr(scored_head, "LOGITS_BYTES", 4 * position + 3)
    batch = MicroBatch.of(mixed_units())
    token_scores(make_model("llama", dtype), batch, packed=True)["logp"].sum().backward()
    parts = -(-int(batch.mask_BN.sum()) // 4)
    for name, sizes in seen.items():
        assert len(sizes) == parts, name
        assert max(sizes) == 4 * position, name


def test_tied_weights_get_both_gradients() -> None:
    """Embedding and head are one matrix: a token that is only scored, never read, still gets a gradient."""
    module = make_model("llama", torch.float64)
    row = completion_row([5, 6], [7])
    logp = token_scores(module, MicroBatch.of([[row]]), packed=False)["logp"]
    logp.sum().backward()
    grad_VH = module.get_input_embeddings().weight.grad
    assert grad_VH[7].abs().max() > 0  # through the head only
    assert grad_VH[5].abs().max() > 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("family", ["llama", "gemma2", "granite"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_temperature_and_entropy_are_of_the_tempered_distribution(
    family: str, temperature: float, dtype: torch.dtype, tolerance: float
) -> None:
    module = make_model(family, dtype)
    batch = MicroBatch.of(mixed_units())
    scores = PolicyForward(temperature=temperature, entropy=True, collision=True)(module, batch, True)
    for number, row in enumerate(batch.rows):
        row_ids = torch.from_numpy(row.ids)
        logp_TV = torch.log_softmax(
            module(input_ids=row_ids[None]).logits[0].double() / temperature, -1
        ).detach()
        for place, target in enumerate(row.targets.tolist()):
            expected = logp_TV[target - 1]
            wanted = {
                "logp": expected[row_ids[target]],
                "entropy": -(expected.exp() * expected).sum(),
                "collision": (2 * expected).exp().sum().log(),
            }
            for name, value in wanted.items():
                found = float(scores[name][number, place].detach())
                assert found == pytest.approx(float(value), abs=tolerance), name
    assert scores["logp"].requires_grad
    for name in ("entropy", "collision"):
        assert not scores[name].requires_grad
        assert (scores[name][~batch.mask_BN] == 0).all()
    assert (scores["logp"][~batch.mask_BN] == 0).all()
    assert float(scores["entropy"].max()) < math.log(61)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_an_entropy_that_is_asked_for_with_gradient_has_one(family: str) -> None:
    """In float32, of either kind of head, the gradient is that of the entropy in float64."""
    found = []
    for dtype in (torch.float64, torch.float32):
        module, batch = make_model(family).to(dtype), MicroBatch.of(mixed_units())
        wanted = PolicyForward(temperature=0.8, entropy=True, differentiable_entropy=True)
        entropy_BN = wanted(module, batch, True)["entropy"]
        (entropy_BN * weights_of(batch).to(entropy_BN)).sum().backward()
        found.append(gradients(module))
    assert largest_difference(found[1], found[0]) < 2e-5


@pytest.mark.parametrize("packed", [False, True])
def test_rows_without_scored_tokens_give_finite_zero(packed: bool) -> None:
    module = make_model("llama")
    empty = Row(np.asarray(ids(4, 1)), np.empty(0, dtype=np.int64))
    alone = token_scores(module, MicroBatch.of([[empty]]), packed=packed, entropy=True)
    assert alone["logp"].shape == alone["entropy"].shape == (1, 0)
    unit = group(3, [2], 2)
    together = token_scores(module, MicroBatch.of([unit, [empty]]), packed=packed)["logp"]
    assert (together[1] == 0).all()
    assert (together[0] != 0).all()


def test_bfloat16_working_weights_score_in_float32() -> None:
    """Sums of log-probs must never be formed in bfloat16, whose spacing is 1 nat at 128."""
    module = make_model("llama", torch.bfloat16)
    logp = token_scores(module, MicroBatch.of(mixed_units()), packed=True)["logp"]
    exact = token_scores(
        make_model("llama", torch.bfloat16).float(), MicroBatch.of(mixed_units()), packed=True
    )["logp"]
    assert logp.dtype == torch.float32
    assert (logp != logp.bfloat16().float()).any()
    torch.testing.assert_close(logp, exact, atol=0.15, rtol=0.05)


def test_micro_batches_of_a_split_score_like_the_whole() -> None:
    module = make_model("qwen3", torch.float64)
    units = mixed_units()
    whole = token_scores(module, MicroBatch.of(units), packed=True)["logp"]
    first_row = np.cumsum([0, *(len(unit) for unit in units)])
    for indices in split(units, 20):
        part = token_scores(module, MicroBatch.of([units[i] for i in indices]), packed=True)["logp"]
        lines = [line for i in indices for line in range(first_row[i], first_row[i + 1])]
        torch.testing.assert_close(part, whole[lines, : part.shape[1]], atol=1e-9, rtol=0)
