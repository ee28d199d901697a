from __future__ import annotations

import inspect
import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import unpaired as oracle
from torch import Tensor

from ridgeline.objectives import unpaired
from ridgeline.objectives.pair_axes import UNPAIRED_LOSSES

LOGP = st.floats(-9, -0.3)
STEP: dict[str, float] = {"reference_point": 0.2, "shift": 0.2}


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def step_inputs(name: str) -> dict[str, Any]:
    return {x: STEP[x] for x in UNPAIRED_LOSSES[name].step_inputs}


def test_traits_are_those_of_the_functions() -> None:
    assert set(UNPAIRED_LOSSES) == set(unpaired.UNPAIRED_FUNCTIONS)
    for name, traits in UNPAIRED_LOSSES.items():
        parameters = dict(inspect.signature(unpaired.UNPAIRED_FUNCTIONS[name]).parameters)
        assert [parameters.pop(x).kind.name for x in ("logp", "ref_logp", "desirable")] == [
            "POSITIONAL_OR_KEYWORD"
        ] * 3
        if name == "bco":
            assert parameters.pop("weights").default is None
        for x in traits.step_inputs:
            assert parameters.pop(x).default is inspect.Parameter.empty
        assert {x: parameter.default for x, parameter in parameters.items()} == traits.options
        assert all(parameter.kind.name == "KEYWORD_ONLY" for parameter in parameters.values())


def test_golden_values() -> None:
    # Log-ratios +0.5 (desirable) and -1.0 (undesirable), beta 0.1: 1 - s(0.03) and 1 - s(0.12).
    pair = column(-11.5, -9.0), column(-12.0, -8.0), torch.tensor([True, False])
    kto = unpaired.kto(*pair, beta=0.1, reference_point=0.2)
    assert kto.tolist() == pytest.approx([0.492501, 0.470036], abs=1e-6)
    apo = unpaired.apo_zero_unpaired(*pair, beta=0.1)
    assert apo.tolist() == pytest.approx([0.487503, 0.475021], abs=1e-6)
    # The same pair as bco_pair, one half each: log(1 + e^-0.05) and log(1 + e^-0.1).
    bco = unpaired.bco(*pair, beta=0.1, shift=0.0)
    assert bco.tolist() == pytest.approx([0.668460, 0.644397], abs=1e-6)
    assert bco.sum().item() == pytest.approx(1.312856, abs=1e-6)


def test_policy_equal_to_reference() -> None:
    same, desirable = column(-3.0, -70.0), torch.tensor([True, False])
    kto = unpaired.kto(same, same, desirable, reference_point=0.0, desirable_weight=1.5)
    assert kto.tolist() == pytest.approx([0.75, 0.5])
    assert unpaired.bco(same, same, desirable, shift=0.0).tolist() == pytest.approx([math.log(2.0)] * 2)
    assert unpaired.apo_zero_unpaired(same, same, desirable).tolist() == pytest.approx([0.5, 0.5])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    logp=LOGP,
    ref=LOGP,
    desirable=st.booleans(),
    beta=st.floats(0.05, 2),
    point=st.floats(0, 2),
    weights=st.tuples(st.floats(0, 2), st.floats(0, 2)),
)
def test_agrees_with_the_papers(
    logp: float, ref: float, desirable: bool, beta: float, point: float, weights: tuple[float, float]
) -> None:
    options: dict[str, dict[str, float]] = {
        "kto": {
            "beta": beta,
            "reference_point": point,
            "desirable_weight": weights[0],
            "undesirable_weight": weights[1],
        },
        "bco": {"beta": beta, "shift": point},
        "apo_zero_unpaired": {"beta": beta},
    }
    for name, keywords in options.items():
        leaf = column(logp).requires_grad_()
        loss = unpaired.UNPAIRED_FUNCTIONS[name](leaf, column(ref), torch.tensor([desirable]), **keywords)
        paper = partial(getattr(oracle, name), ref=ref, desirable=desirable, **keywords)
        assert loss.item() == pytest.approx(paper(logp), abs=1e-9)
        (grad,) = torch.autograd.grad(loss, leaf)
        step = 1e-5
        slope = (paper(logp + step) - paper(logp - step)) / (2 * step)
        assert grad.item() == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("name", sorted(UNPAIRED_LOSSES))
def test_likelihood_goes_where_the_label_says(name: str) -> None:
    logp = torch.linspace(-30, -0.1, 50, dtype=torch.float64)
    ref = torch.full_like(logp, -8.0)
    f = unpaired.UNPAIRED_FUNCTIONS[name]
    up = f(logp, ref, torch.ones(50, dtype=torch.bool), **step_inputs(name))
    down = f(logp, ref, torch.zeros(50, dtype=torch.bool), **step_inputs(name))
    assert (up.diff() < 0).all()
    assert (down.diff() > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted(UNPAIRED_LOSSES))
def test_extremes_stay_finite_and_keep_their_type(name: str, dtype: torch.dtype) -> None:
    ends = torch.tensor([-1e4, -1.0, 0.0], dtype=dtype)
    grid = torch.cartesian_prod(ends, ends)
    for desirable in (True, False):
        logp = grid[:, 0].clone().requires_grad_()
        labels = torch.full((len(grid),), desirable)
        losses = unpaired.UNPAIRED_FUNCTIONS[name](logp, grid[:, 1], labels, **step_inputs(name))
        (grad,) = torch.autograd.grad(losses.sum(), logp)
        assert losses.dtype == dtype
        assert torch.isfinite(losses).all()
        assert torch.isfinite(grad).all()


@pytest.mark.parametrize("name", sorted(UNPAIRED_LOSSES))
def test_gradients_in_float64(name: str) -> None:
    logp, ref = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    desirable = torch.tensor([True, False, False, True])
    assert torch.autograd.gradcheck(
        lambda x: unpaired.UNPAIRED_FUNCTIONS[name](x, ref, desirable, **step_inputs(name)),
        (logp.requires_grad_(),),
    )


def test_quantities_of_the_step_are_constants() -> None:
    logp = column(-1.0, -2.0).requires_grad_()
    desirable = torch.tensor([True, False])
    point = unpaired.kto_reference_point(logp, column(-3.0, -3.0))
    assert point.item() == 1.5
    assert not point.requires_grad
    free = unpaired.kto(logp, column(-1.0, -1.0), desirable, reference_point=logp.mean() * 0 + 1.5)
    (through,) = torch.autograd.grad(free.sum(), logp)
    fixed = unpaired.kto(logp, column(-1.0, -1.0), desirable, reference_point=point)
    (plain,) = torch.autograd.grad(fixed.sum(), logp)
    torch.testing.assert_close(through, plain)
    moving = unpaired.bco(logp, column(-1.0, -1.0), desirable, shift=logp.sum())
    (through,) = torch.autograd.grad(moving.sum(), logp)
    held = unpaired.bco(logp, column(-1.0, -1.0), desirable, shift=-3.0)
    (plain,) = torch.autograd.grad(held.sum(), logp)
    torch.testing.assert_close(through, plain)


def test_reference_point_is_never_negative() -> None:
    assert unpaired.kto_reference_point(column(-5.0, -3.0), column(-3.0, -4.0)).item() == 0
    assert unpaired.kto_reference_point(column(), column()).item() == 0


def test_shift_follows_the_middle_of_both_classes() -> None:
    first = unpaired.bco_shift(None, 0.4, -0.2)
    assert first == pytest.approx(0.1)
    assert unpaired.bco_shift(first, 0.5, 0.5, momentum=0.9) == pytest.approx(0.09 + 0.05)
    # Whatever the share of desirable completions, and nothing from a step without one class.
    assert unpaired.bco_shift(0.3, None, -0.2) == 0.3
    assert unpaired.bco_shift(None, 0.2, None) == 0.0
    with pytest.raises(ValueError, match=r"momentum = 1\.0"):
        unpaired.bco_shift(0.3, 0.1, 0.1, momentum=1.0)


def test_density_ratio_weights() -> None:
    p = column(0.0, 0.2, 0.5, 0.8, 1.0)
    assert unpaired.udm_weight(p).tolist() == pytest.approx([0.5, 0.5, 1.0, 4.0, 10.0])
    with pytest.raises(ValueError, match="between 0 and 1"):
        unpaired.udm_weight(column(1.2))
    with pytest.raises(ValueError, match="range of weights"):
        unpaired.udm_weight(p, low=2.0, high=1.0)
    logp, ref, desirable = column(-1.0, -1.0), column(-2.0, -2.0), torch.tensor([True, False])
    plain = unpaired.bco(logp, ref, desirable, shift=0.0)
    weighted = unpaired.bco(logp, ref, desirable, shift=0.0, weights=column(1.0, 4.0))
    torch.testing.assert_close(weighted, plain * column(1.0, 4.0))


def test_refuses_what_cannot_be_meant() -> None:
    x = torch.zeros(2)
    yes = torch.ones(2, dtype=torch.bool)
    with pytest.raises(ValueError, match="must be boolean"):
        unpaired.kto(x, x, x, reference_point=0.0)
    with pytest.raises(ValueError, match="must be boolean of the shape"):
        unpaired.bco(x, x, yes[:1], shift=0.0)
    with pytest.raises(ValueError, match="same shape"):
        unpaired.apo_zero_unpaired(x, x[:1], yes)
    with pytest.raises(ValueError, match=r"beta = 0\.0"):
        unpaired.apo_zero_unpaired(x, x, yes, beta=0.0)
    with pytest.raises(ValueError, match=r"undesirable_weight = -1"):
        unpaired.kto(x, x, yes, reference_point=0.0, undesirable_weight=-1)
