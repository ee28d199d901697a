"""Pairs and single completions through the engine: no split, order or layout changes a step."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.families import group, make_model, pure_float64
from tests.training.jobs import engine_for

from ridgeline.models.batch import MicroBatch, Unit
from ridgeline.models.forward import PolicyForward
from ridgeline.objectives.pair_axes import PAIR_PRESETS
from ridgeline.training.local import LocalEngine
from ridgeline.training.preference import (
    PairwisePreference,
    pair_inputs,
    settle_step,
    whole_batch,
)
from ridgeline.training.unpaired import UnpairedPreference

VARIANTS: list[dict[str, Any]] = [
    {"tokens": 1},
    {"tokens": 30},
    {"packed": True},
    {"packed": True, "tokens": 40},
    {"order": [3, 0, 4, 2, 1]},
]


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    with pure_float64():
        yield


def pairs(gold: bool) -> list[Unit]:
    """Pairs of unequal lengths with everything that a loss may read."""
    lengths = [(3, 1, 2), (6, 2, 1), (4, 4, 3), (1, 5, 4), (2, 7, 2)]
    rng = np.random.default_rng(4)
    units = []
    for number, sizes in enumerate(lengths):
        unit = group(3 + number, sizes[: 3 if gold else 2], number)
        for row in unit:
            row.fields["ref_logp"] = rng.normal(-4, 0.7, len(row.targets)).astype(np.float32)
        unit[0].values["reward"], unit[1].values["reward"] = 1 + float(rng.uniform()), float(rng.uniform())
        unit[0].values |= {"soft_label": float(rng.uniform(0.5, 1)), "margin": float(rng.uniform())}
        units.append(unit)
    return units


def forward_for(name: str) -> PolicyForward:
    return PolicyForward(collision=PAIR_PRESETS[name].weighting == "wpo")


def gradients(engine: LocalEngine) -> dict[str, torch.Tensor]:
    optimiser = engine.roles["policy"].optimiser
    assert optimiser is not None
    return {name: g.clone() for name, g in optimiser.gradients().items()}


def step(name: str, *, tokens: int = 10_000, packed: bool = False, order: list[int] | None = None) -> Any:
    objective = PAIR_PRESETS[name]
    units = pairs("gold" in objective.needs)
    units = units if order is None else [units[index] for index in order]
    engine = engine_for(make_model("llama", torch.float64), forward_for(name), tokens=tokens, packed=packed)
    settle_step(units, engine.score("policy", units), objective, None)
    return engine.forward_backward("policy", units, PairwisePreference(objective)), gradients(engine)


@pytest.mark.parametrize("name", PAIR_PRESETS)
def test_splitting_ordering_and_layout_change_nothing(name: str) -> None:
    metrics, whole = step(name)
    scale = max(float(g.abs().max()) for g in whole.values())
    assert scale > 0
    for variant in VARIANTS:
        others, parts = step(name, **variant)
        for key in metrics:
            assert others[key] == (
                pytest.approx(metrics[key][0], rel=1e-5, abs=1e-5),
                pytest.approx(metrics[key][1]),
            ), (variant, key)
        for key, gradient in whole.items():
            assert float((parts[key] - gradient).abs().max()) <= 1e-6 * scale, (variant, key)


def test_log_probs_are_summed_in_float32() -> None:
    units = pairs(False)
    batch = MicroBatch.of(units)
    outputs = {"logp": torch.full(batch.mask_BN.shape, -4.001)}
    inputs = pair_inputs(outputs, batch, PAIR_PRESETS["dpo"])
    assert inputs.chosen.dtype == torch.float32
    assert inputs.chosen.tolist() == pytest.approx([-4.001 * len(unit[0].targets) for unit in units])
    assert inputs.ref_chosen is not None
    expected = [float(unit[0].fields["ref_logp"].sum()) for unit in units]
    assert inputs.ref_chosen.tolist() == pytest.approx(expected, rel=1e-5)


def test_length_desensitised_counts_the_excess_less() -> None:
    units = pairs(False)
    batch = MicroBatch.of(units)
    outputs = {"logp": torch.full(batch.mask_BN.shape, -1.0)}
    inputs = pair_inputs(outputs, batch, PAIR_PRESETS["ld_dpo"])
    public = [min(len(row.targets) for row in unit) for unit in units]
    for side, values in ((0, inputs.chosen), (1, inputs.rejected)):
        excess = [len(unit[side].targets) - p for unit, p in zip(units, public, strict=True)]
        assert values.tolist() == pytest.approx([-(p + 0.5 * e) for p, e in zip(public, excess, strict=True)])


def test_whole_batch_restores_what_score_trimmed() -> None:
    units = pairs(False)
    engine = engine_for(make_model("llama", torch.float32), PolicyForward(), tokens=20)
    outputs, batch = whole_batch(units, engine.score("policy", units))
    direct = PolicyForward()(engine.roles["policy"].module, MicroBatch.of(units), False)["logp"]
    torch.testing.assert_close(outputs["logp"], direct.detach(), atol=1e-4, rtol=1e-4)
    assert torch.equal(batch.mask_BN, MicroBatch.of(units).mask_BN)


def test_running_shift_moves_a_tenth_of_the_way() -> None:
    objective = PAIR_PRESETS["bco_pair"]
    engine = engine_for(make_model("llama", torch.float32), PolicyForward())
    units = pairs(False)
    scores = engine.score("policy", units)
    first = settle_step(units, scores, objective, None)
    assert first is not None
    again = settle_step(units, scores, objective, 1.0)
    assert again == pytest.approx(0.9 + 0.1 * first)
    assert {unit[0].values["shift"] for unit in units} == {again}


def test_exploration_lowers_what_it_marks() -> None:
    """XPO adds alpha * log pi(y_ref), minimised: the gradient step takes probability from those rows."""
    units = pairs(False)
    for unit in units:
        unit[0].values["explore"], unit[1].values["explore"] = 0.0, 1.0
    engine = engine_for(make_model("llama", torch.float64), PolicyForward())
    before = [float(score["logp"].sum()) for score in engine.score("policy", units)]
    objective = PairwisePreference(PAIR_PRESETS["dpo"], exploration=1e3)
    engine.forward_backward("policy", units, objective)
    engine.step("policy", 1e-4)
    after = [float(score["logp"].sum()) for score in engine.score("policy", units)]
    assert all(a < b for a, b in zip(after[1::2], before[1::2], strict=True))


UNPAIRED = {
    "kto": {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.3, "reference_point": 0.2},
    "bco": {"beta": 0.1, "shift": 0.3},
    "apo_zero_unpaired": {"beta": 0.1},
}


@pytest.mark.parametrize("loss", UNPAIRED)
def test_unpaired_step_does_not_depend_on_its_split(loss: str) -> None:
    rows = [row for unit in pairs(False) for row in unit]
    for number, row in enumerate(rows):
        row.values["desirable"] = float(number % 3 == 0)
    results = []
    for tokens, packed in ((10_000, False), (1, False), (40, True)):
        engine = engine_for(make_model("llama", torch.float64), PolicyForward(), tokens=tokens, packed=packed)
        units = [[copy.deepcopy(row)] for row in rows]
        metrics = engine.forward_backward("policy", units, UnpairedPreference(loss, UNPAIRED[loss]))
        results.append((metrics, gradients(engine)))
    metrics, whole = results[0]
    scale = max(float(g.abs().max()) for g in whole.values())
    for others, parts in results[1:]:
        assert others[f"loss/{loss}"][0] == pytest.approx(metrics[f"loss/{loss}"][0], rel=1e-9)
        for key, gradient in whole.items():
            assert float((parts[key] - gradient).abs().max()) <= 1e-9 * scale
