"""Products in the tiles of AMX against the same in float64, in shapes that do and do not fill the tiles."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tests.models.families import make_model, mixed_units
from torch import Tensor

from ridgeline.models.batch import MicroBatch
from ridgeline.models.forward import token_scores
from ridgeline.models.kernels import learn
from ridgeline.models.kernels.learn import broad_product, pair_tokens, sum_product
from ridgeline.schema.stages.common import Optimiser
from ridgeline.training.optimiser import MasterAdamW

pytestmark = pytest.mark.amx


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def assert_near(ours: Tensor, exact: Tensor, unit: float) -> None:
    assert float((ours.double() - exact).abs().max()) <= unit * float(exact.abs().max())


@pytest.mark.parametrize(
    ("tokens", "outs", "ins"),
    [
        (1, 1, 1),
        (1, 33, 70),
        (31, 32, 16),
        (33, 40, 31),
        (64, 64, 64),
        (100, 15, 97),
        (600, 70, 50),
        (2100, 70, 400),  # x in two pieces
    ],
)
def test_gradients_of_weights_are_set_then_added(tokens: int, outs: int, ins: int, threads: int) -> None:
    d_out, x = randn(tokens, outs), randn(tokens, ins, seed=1)
    total = torch.full((outs, ins), float("nan"))  # what was there before does not matter
    exact = d_out.double().t() @ x.double()
    pairs = pair_tokens(x)
    for passes, add in ((1, False), (2, True)):
        squares = sum_product(d_out, pairs, total, add=add)
        assert_near(total, passes * exact, 1e-6)
        assert squares.shape == (threads,)
        assert float(squares.sum()) == pytest.approx(float(total.double().square().sum()), rel=1e-5)


@pytest.mark.parametrize(("start", "end"), [(0, 40), (3, 36), (64, 70), (69, 70)])
def test_columns_of_a_wider_matrix(start: int, end: int) -> None:
    """As when weights lie side by side; what is beyond them must not come in, not even an infinity."""
    wide, x = randn(45, 70), randn(45, 33, seed=1)
    wide[:, :start] = wide[:, end:] = float("inf")
    part = wide[:, start:end]
    total = torch.zeros(end - start, 33)
    sum_product(part, pair_tokens(x), total, add=True)
    assert_near(total, part.double().t() @ x.double(), 1e-6)


def test_nothing_is_written_beyond_the_sum() -> None:
    room = torch.full((60, 50), 7.0)
    sum_product(randn(40, 33), pair_tokens(randn(40, 50)), room[:33], add=False)
    assert bool((room[33:] == 7).all())


@pytest.mark.parametrize(
    ("rows", "depth", "columns"),
    [(1, 1, 1), (33, 70, 40), (100, 33, 31), (64, 64, 64), (40, 2000, 800), (70, 600, 2300), (129, 5000, 60)],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_product_is_rounded_once(rows: int, depth: int, columns: int, turned: bool, threads: int) -> None:
    """Also in chunks along the depth (2000 x 800) and in several blocks of columns (600 x 2300)."""
    wide = randn(rows, depth + 5)
    wide[:, depth:] = float("inf")
    left, right = wide[:, :depth], randn(depth, columns, seed=1)
    exact = left.double() @ right.double()
    ours = broad_product(left, right.t().contiguous().t() if turned else right)
    assert ours.dtype == torch.bfloat16
    error = (ours.double() - exact).abs()
    assert bool((error <= 2**-8 * exact.abs() + 1e-5 * exact.abs().max()).all())


def test_what_is_not_a_number_stays_so() -> None:
    left, right = randn(40, 64), randn(64, 40)
    left[3, 5] = float("nan")
    ours = broad_product(left, right)
    assert bool(ours[3].isnan().all())
    assert not bool(ours[[0, 39]].isnan().any())


def test_a_pass_with_and_without_tiles_gives_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the same norm of them, which the tiles have measured on the way."""

    def learned() -> tuple[dict[str, Tensor], float]:
        module = make_model("llama", torch.bfloat16)
        optimiser = MasterAdamW(module, Optimiser())
        for units in (mixed_units()[:2], mixed_units()):
            batch = MicroBatch.of(units)
            token_scores(module, batch, packed=True)["logp"].sum().backward()
            optimiser.accumulate()
        gradients = optimiser.gradients()
        assert any(total.squares is not None for total in optimiser.sums.values()) == learn.has_tiles()
        norm = optimiser.gradient_norm()
        flat = torch.cat([gradient.flatten() for gradient in gradients.values()])
        assert norm == pytest.approx(float(flat.double().norm()), rel=1e-5)
        return gradients, norm

    ours, our_norm = learned()
    monkeypatch.setattr(learn, "has_tiles", lambda: False)
    plain, plain_norm = learned()
    assert our_norm == pytest.approx(plain_norm, rel=1e-3)
    for name, gradient in plain.items():
        assert_near(ours[name], gradient.double(), 2**-6)
