from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import make_tiny_model, make_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from ridgeline.models import merge
from ridgeline.models.load import LanguageModel, load_model
from ridgeline.schema.errors import UsageError


def tensors(count: int, size: int = 40, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("weights", [[0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3], [1.7, -0.4, -0.3]])
def test_merging_equal_models_changes_no_bit(weights: list[float]) -> None:
    (m,) = tensors(1)
    assert torch.equal(merge.linear([m, m, m], weights), m)
    assert torch.equal(merge.task_arithmetic(m, [m, m, m], weights), m)
    assert torch.equal(merge.slerp(m, m, 0.3), m)
    assert torch.equal(merge.ties(m, [m, m], [0.0, 0.0]), m)


def test_linear_is_the_weighted_sum_in_any_order() -> None:
    models = tensors(3)
    weights = [0.2, 0.5, 0.3]
    merged = merge.linear(models, weights)
    expected = sum(w * m.double() for w, m in zip(weights, models, strict=True))
    assert merged.double() == pytest.approx(expected, abs=1e-6)
    turned = merge.linear([models[i] for i in (2, 0, 1)], [weights[i] for i in (2, 0, 1)])
    torch.testing.assert_close(turned, merged)
    torch.testing.assert_close(merge.linear(models, [0.0, 1.0, 0.0]), models[1])


def test_task_arithmetic_closed_forms() -> None:
    start, a, b = tensors(3)
    torch.testing.assert_close(merge.task_arithmetic(start, [a], [1.0]), a)
    assert torch.equal(merge.task_arithmetic(start, [a, b], [0.0, 0.0]), start)
    # Unlearning mirrors the model at its start.
    torch.testing.assert_close(merge.task_arithmetic(start, [a], [-1.0]), 2 * start - a)
    torch.testing.assert_close(merge.task_arithmetic(start, [a, b], [1.0, 1.0]), a + b - start)
    # With weights that add up to 1 the start cancels.
    torch.testing.assert_close(
        merge.task_arithmetic(start, [a, b], [0.3, 0.7]), merge.linear([a, b], [0.3, 0.7])
    )


def test_arithmetic_is_in_float32_whatever_the_format() -> None:
    """In bfloat16 a difference of 2^-9 beside 1 would vanish before it could be weighted."""
    start = torch.ones(1, dtype=torch.bfloat16)
    tuned = torch.full((1,), 1 + 2**-7, dtype=torch.bfloat16)
    merged = merge.task_arithmetic(start, [tuned], [0.25])
    assert merged.dtype == torch.float32
    assert merged.item() == 1 + 2**-9


def test_ties_worked_example() -> None:
    """By hand. Density 0.6 of five entries keeps three of each model.

    tau_1 = [ 4, -1,  3, .5,  0] -> [4, -1,  3, 0, 0]
    tau_2 = [-2,  6,  5, .1, .2] -> [-2, 6,  5, 0, 0]
    tau_3 = [ 1, -3, .2, -4, .1] -> [1, -3,  0, -4, 0]
    sums 3, 2, 8, -4, 0: signs +, +, +, -, none. Means of those that agree: (4 + 1)/2, 6, (3 + 5)/2, -4, 0.
    """
    taus = [
        torch.tensor([4.0, -1.0, 3.0, 0.5, 0.0]),
        torch.tensor([-2.0, 6.0, 5.0, 0.1, 0.2]),
        torch.tensor([1.0, -3.0, 0.2, -4.0, 0.1]),
    ]
    thresholds = [merge.trim_threshold(lambda tau=tau: [tau], 0.6) for tau in taus]  # type: ignore[misc]
    assert thresholds == [1.0, 2.0, 1.0]
    start = torch.full((5,), 10.0)
    merged = merge.ties(start, [start + tau for tau in taus], thresholds)
    assert merged.tolist() == [12.5, 16.0, 14.0, 6.0, 10.0]
    half = merge.ties(start, [start + tau for tau in taus], thresholds, scale=0.5)
    assert half.tolist() == [11.25, 13.0, 12.0, 8.0, 10.0]


def test_ties_leaves_alone_what_cancels_out() -> None:
    zero = torch.zeros(2)
    merged = merge.ties(zero, [torch.tensor([1.0, 1.0]), torch.tensor([-1.0, 1.0])], [0.0, 0.0])
    assert merged.tolist() == [0.0, 1.0]


@given(
    st.lists(
        st.one_of(st.floats(-2, 2, width=32), st.sampled_from([0.0, 1.0, -1.0, 1e-38, 3e38])), min_size=1
    ),
    st.floats(0.01, 1),
    st.integers(0, 5),
)
def test_trim_threshold_is_the_kth_largest_magnitude(values: list[float], density: float, cut: int) -> None:
    """Against sorting, however the task vector is cut into tensors."""
    keep = max(1, round(density * len(values)))
    whole = torch.tensor(values)
    expected = float(whole.abs().sort(descending=True).values[keep - 1])
    parts = [whole[:cut], whole[cut:]]
    assert merge.trim_threshold(lambda: parts, density) == expected


def test_dare_drops_and_rescales() -> None:
    start, a, b = tensors(3, size=4)
    kept = [torch.tensor([True, False, True, False]), torch.tensor([True, True, False, False])]
    merged = merge.dare(start, [a, b], [0.5, 1.0], kept, 0.25)
    expected = [
        start[0] + 2 * (a - start)[0] + 4 * (b - start)[0],
        start[1] + 4 * (b - start)[1],
        start[2] + 2 * (a - start)[2],
        start[3],
    ]
    torch.testing.assert_close(merged, torch.stack(expected))


def test_random_masks_keep_their_share_and_differ_by_key() -> None:
    mask = merge.random_mask(torch.Size([100, 400]), 0.2, 1, "a", "weight")
    assert abs(mask.float().mean().item() - 0.2) < 4 * math.sqrt(0.16 / 40_000)
    assert torch.equal(mask, merge.random_mask(torch.Size([100, 400]), 0.2, 1, "a", "weight"))
    for other in ((2, "a", "weight"), (1, "b", "weight"), (1, "a", "bias")):
        overlap = (mask & merge.random_mask(torch.Size([100, 400]), 0.2, *other)).float().mean().item()
        assert abs(overlap - 0.04) < 0.01
    assert merge.random_mask(torch.Size([3]), 1.0, "all").all()


def test_slerp_on_the_circle() -> None:
    """A third of the way through a right angle is 30 degrees."""
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    expected = torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)])
    torch.testing.assert_close(merge.slerp(a, b, 1 / 3), expected)
    torch.testing.assert_close(merge.slerp(b, a, 2 / 3), expected)
    torch.testing.assert_close(merge.slerp(a, b, 0.0), a)
    torch.testing.assert_close(merge.slerp(a, b, 1.0), b)


def test_slerp_keeps_the_length_where_linear_shortens() -> None:
    a, b = (t / t.norm() for t in tensors(2))
    assert merge.slerp(a, b, 0.5).norm().item() == pytest.approx(1, abs=1e-5)
    assert merge.linear([a, b], [0.5, 0.5]).norm().item() < 0.9


@pytest.mark.parametrize("b", [[2.0, 4.0], [-1.0, -2.0], [0.0, 0.0], [1.0, 2.00001]])
def test_slerp_of_parallel_vectors_is_the_straight_line(b: list[float]) -> None:
    a = torch.tensor([1.0, 2.0])
    merged = merge.slerp(a, torch.tensor(b), 0.25)
    torch.testing.assert_close(merged, 0.75 * a + 0.25 * torch.tensor(b))


def test_nonsense_is_refused() -> None:
    a, b = tensors(2)
    with pytest.raises(ValueError, match=r"add up to 1, not 1\.5"):
        merge.linear([a, b], [0.5, 1.0])
    with pytest.raises(ValueError, match="as many weights"):
        merge.task_arithmetic(a, [a, b], [1.0])
    with pytest.raises(ValueError, match="density must lie"):
        merge.trim_threshold(lambda: [a], 0.0)


def test_stored_models_come_back_tensor_by_tensor(tmp_path: Path) -> None:
    module = load_model(str(make_tiny_model(tmp_path / "model")), dtype=torch.bfloat16).module
    stored = merge.StoredModel.of(module, tmp_path / "there" / "0.safetensors")
    for name, parameter in module.named_parameters():
        assert torch.equal(stored.tensor(name), parameter)


def _model(tmp_path: Path) -> LanguageModel:
    return load_model(str(make_tiny_model(tmp_path / "model")))


def test_models_that_do_not_correspond_are_refused(tmp_path: Path) -> None:
    first = _model(tmp_path)
    merge.check_mergeable(first, _model(tmp_path), ("a", "b"))
    values = first.module.config.to_dict()
    wide = LanguageModel(
        LlamaForCausalLM(LlamaConfig(**{**values, "intermediate_size": 64})), first.tokenizer, ""
    )
    with pytest.raises(UsageError, match=r"'a' and 'b' cannot be merged: .*mlp.*\(96, 48\).*\(64, 48\)"):
        merge.check_mergeable(first, wide, ("a", "b"))
    deep = LanguageModel(
        LlamaForCausalLM(LlamaConfig(**{**values, "num_hidden_layers": 3})), first.tokenizer, ""
    )
    with pytest.raises(UsageError, match=r"only 'b' has the parameter model\.layers\.2"):
        merge.check_mergeable(first, deep, ("a", "b"))
    other = make_tokenizer()
    other.add_tokens(["<new>"])
    with pytest.raises(UsageError, match="the token '<new>' has the id None in one tokenizer and 320"):
        merge.check_mergeable(first, LanguageModel(first.module, other, ""), ("a", "b"))
