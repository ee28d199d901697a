"""Every pair loss against its paper, one pair at a time: values, gradients, extremes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import preference as oracle
from tests.oracles.numeric import gradient
from torch import Tensor

from ridgeline.objectives import preference as p

LOGP = st.floats(-9, -0.3)
OPTIONS = {
    "beta": st.floats(0.05, 2),
    "gamma": st.floats(0, 2),
    "alpha": st.just(0.0) | st.floats(0.01, 1),
    "tau": st.floats(0.05, 1),
    "eta": st.floats(0.1, 2),
    "delta": st.floats(0.1, 4),
    "nll_weight": st.floats(0, 2),
    "label_smoothing": st.floats(0.001, 0.45),
}
COLUMNS = {
    "chosen_lengths": st.integers(1, 9).map(float),
    "rejected_lengths": st.integers(1, 9).map(float),
    "gold_lengths": st.integers(1, 9).map(float),
    "margin": st.floats(0, 3),
    "chosen_rewards": st.floats(1, 3),
    "rejected_rewards": st.floats(-3, 0.9),
    "gold": LOGP,
    "shift": st.floats(-1, 1),
    "label": st.floats(0, 1),
}
LOGPS = ("chosen", "rejected", "ref_chosen", "ref_rejected")
SINGLE = sorted(set(p.PAIR_FUNCTIONS) - {"aot", "aot_unpaired"})


def names_of(loss: p.PairLoss) -> tuple[list[str], list[str]]:
    """The log-probs by position, and the tensors by keyword."""
    positional = [x for x in loss.inputs if x in LOGPS]
    keywords = [x for x in loss.inputs if x not in LOGPS]
    return positional, [*keywords, *(["label"] if loss.label else [])]


def tensor(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


@pytest.mark.parametrize("name", SINGLE)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_agrees_with_the_paper(name: str, data: st.DataObject) -> None:
    loss = p.PAIR_LOSSES[name]
    positional, keywords = names_of(loss)
    point = [data.draw(LOGP) for _ in positional]
    columns = {x: data.draw(COLUMNS[x]) for x in keywords}
    options = {x: data.draw(OPTIONS[x]) for x in loss.options}
    if name == "hinge":  # no derivative at the kink
        h = abs((point[0] - point[2]) - (point[1] - point[3]))
        if abs(1 - options["beta"] * h) < 1e-3:
            return
    if name == "slic" and abs(options["delta"] - point[0] + point[1]) < 1e-3:
        return
    leaves = [tensor(x).requires_grad_() for x in point]
    value = p.PAIR_FUNCTIONS[name](*leaves, **{k: tensor(v) for k, v in columns.items()}, **options)
    assert value.shape == (1,)

    def paper(x: list[float]) -> float:
        result: float = getattr(oracle, name)(*x, **columns, **options)
        return result

    assert value.item() == pytest.approx(paper(point), rel=1e-9, abs=1e-9)
    grads = [g.item() for g in torch.autograd.grad(value.sum(), leaves)]
    assert grads == pytest.approx(gradient(paper, point), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", ["aot", "aot_unpaired"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    rows=st.lists(st.tuples(LOGP, LOGP, LOGP, LOGP), min_size=1, max_size=5),
    beta=st.floats(0.05, 2),
)
def test_optimal_transport_agrees_with_the_paper(
    name: str, rows: list[tuple[float, float, float, float]], beta: float
) -> None:
    n = len(rows)
    flat = [x for column in zip(*rows, strict=True) for x in column]

    def paper(x: list[float]) -> float:
        result: float = getattr(oracle, name)(*(x[i * n : (i + 1) * n] for i in range(4)), beta=beta)
        return result

    leaf = torch.tensor(flat, dtype=torch.float64, requires_grad=True)
    total = p.PAIR_FUNCTIONS[name](*leaf.reshape(4, n), beta=beta).sum()
    assert total.item() == pytest.approx(paper(flat), abs=1e-9)
    (grad,) = torch.autograd.grad(total, leaf)
    # At equal values the sorted sum has a kink: the order there is a matter of choice.
    gaps = [abs(a - b) for i in range(n) for j in range(i) for a, b in differences(rows[i], rows[j], name)]
    if min(gaps, default=1.0) > 1e-3:
        assert grad.tolist()[: 2 * n] == pytest.approx(gradient(paper, flat)[: 2 * n], abs=1e-6)


def differences(
    a: tuple[float, float, float, float], b: tuple[float, float, float, float], name: str
) -> list[tuple[float, float]]:
    if name == "aot":
        return [(a[0] - a[1], b[0] - b[1])]
    return [(a[0] - a[2], b[0] - b[2]), (a[1] - a[3], b[1] - b[3])]


def batch(n: int, dtype: torch.dtype, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(n, generator=generator)).to(dtype)

    logps = {x: uniform(-9, -0.5) for x in (*LOGPS, "gold")}
    lengths = {x: uniform(1, 9).ceil() for x in ("chosen_lengths", "rejected_lengths", "gold_lengths")}
    rewards = {"chosen_rewards": uniform(1, 3), "rejected_rewards": uniform(-3, 0.9)}
    rest = {"margin": uniform(0, 2), "label": uniform(0, 1), "shift": uniform(-1, 1)}
    return {**logps, **lengths, **rewards, **rest}


def call(name: str, inputs: dict[str, Tensor]) -> Tensor:
    positional, keywords = names_of(p.PAIR_LOSSES[name])
    known: dict[str, Any] = {x: inputs[x] for x in keywords if x in inputs}
    return p.PAIR_FUNCTIONS[name](*(inputs[x] for x in positional), **known)


@pytest.mark.parametrize("name", sorted(p.PAIR_FUNCTIONS))
def test_gradients_in_float64(name: str) -> None:
    inputs = batch(3, torch.float64)
    leaves = [x for x in ("chosen", "rejected") if x in p.PAIR_LOSSES[name].inputs]

    # The sum: within aot a pair's loss also moves with its partner's completion.
    def total(*values: Tensor) -> Tensor:
        return call(name, {**inputs, **dict(zip(leaves, values, strict=True))}).sum()

    assert torch.autograd.gradcheck(total, [inputs[x].requires_grad_() for x in leaves])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted(p.PAIR_FUNCTIONS))
def test_extremes_stay_finite_and_keep_their_type(name: str, dtype: torch.dtype) -> None:
    ends = torch.tensor([-1e4, -1.0, -1e-9, 0.0], dtype=dtype)
    grid = torch.cartesian_prod(ends, ends, ends, ends)
    inputs = {x: y[:1].expand(len(grid)) for x, y in batch(2, dtype).items()}
    for i, x in enumerate(LOGPS):
        inputs[x] = grid[:, i].clone().requires_grad_()
    if not p.PAIR_LOSSES[name].label:
        del inputs["label"]
    losses = call(name, inputs)
    assert losses.dtype == dtype
    assert torch.isfinite(losses).all()
    leaves = [inputs[x] for x in ("chosen", "rejected") if x in p.PAIR_LOSSES[name].inputs]
    for grad in torch.autograd.grad(losses.sum(), leaves):
        assert torch.isfinite(grad).all()


@pytest.mark.parametrize("name", sorted(p.PAIR_FUNCTIONS))
def test_order_and_number_of_pairs_do_not_matter(name: str) -> None:
    inputs = batch(5, torch.float64, seed=1)
    shuffle = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(
        call(name, {x: y[shuffle] for x, y in inputs.items()}), call(name, inputs)[shuffle]
    )
    assert call(name, {x: y[:0] for x, y in inputs.items()}).shape == (0,)
    if not p.PAIR_LOSSES[name].whole_step or name == "bco_pair":
        alone = torch.cat([call(name, {x: y[i : i + 1] for x, y in inputs.items()}) for i in range(5)])
        torch.testing.assert_close(alone, call(name, inputs))
