"""Reward models of every kind: how a step is cut changes nothing, and the losses are the formulas."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.families import pure_float64
from tests.oracles import reward as oracle
from tests.training.jobs import engine_for, flat
from tests.training.reward_jobs import CASES, KINDS, MEMBER_WEIGHTS, MEMBERS, objective_of, scored, units_of

from ridgeline.models.batch import MicroBatch
from ridgeline.models.score_model import feature_forward, head_forward, score_forward
from ridgeline.schema.run_folder import Metrics
from ridgeline.training.local import LocalEngine
from ridgeline.training.pairwise import PairwiseRanking
from ridgeline.training.reward_heads import weight_name


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    with pure_float64():
        yield


def run(
    name: str,
    dtype: torch.dtype = torch.float64,
    *,
    tokens: int = 10_000,
    packed: bool = False,
    reverse: bool = False,
) -> tuple[Metrics, dict[str, torch.Tensor]]:
    model, units = scored(KINDS[name], dtype), units_of(name)
    engine = engine_for(model, score_forward, tokens=tokens, packed=packed)
    metrics = engine.forward_backward("policy", units[::-1] if reverse else units, objective_of(name, model))
    return metrics, gradients(engine)


def gradients(engine: LocalEngine) -> dict[str, torch.Tensor]:
    optimiser = engine.roles["policy"].optimiser
    assert optimiser is not None
    found = {name: g.clone() for name, g in optimiser.gradients().items()}
    assert max(float(grad.abs().max()) for grad in found.values()) > 1e-4
    return found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_splitting_ordering_and_layout_change_nothing(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    metrics, grads = run(name, dtype)
    scale = max(float(grad.abs().max()) for grad in grads.values())
    variants: list[dict[str, Any]] = [
        {"tokens": 1},
        {"tokens": 30},
        {"packed": True},
        {"packed": True, "tokens": 1},
        {"reverse": True, "tokens": 20},
    ]
    for variant in variants:
        other, theirs = run(name, dtype, **variant)
        assert other.keys() == metrics.keys() and theirs.keys() == grads.keys()
        for key, (total, count) in metrics.items():
            loose = tolerance if key.startswith("loss/") else max(tolerance, 2e-5)
            assert other[key] == (pytest.approx(total, rel=loose, abs=loose), pytest.approx(count)), key
        for key, grad in grads.items():
            assert float((theirs[key] - grad).abs().max()) <= tolerance * scale, (variant, key)


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_the_reported_loss(name: str) -> None:
    model, units = scored(KINDS[name], torch.float64), units_of(name)
    engine = engine_for(model, score_forward, tokens=25)
    objective = objective_of(name, model)

    def loss() -> float:
        metrics = engine.forward_backward("policy", units, objective)
        return sum(total / count for key, (total, count) in metrics.items() if key.startswith("loss/"))

    before = loss()
    grads = gradients(engine)
    optimiser = engine.roles["policy"].optimiser
    assert optimiser is not None
    optimiser.forget_gradients()
    squared = sum(float(grad.square().sum()) for grad in grads.values())
    rate = 1e-7 / squared**0.5
    with torch.no_grad():
        for key, grad in grads.items():
            optimiser.working[key].sub_(rate * grad)
    assert (before - loss()) / (rate * squared) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_a_head_on_cached_features_learns_as_it_does_in_the_model(name: str) -> None:
    """The shortcut of a frozen backbone: features once, then only the head."""
    model, units = scored(KINDS[name], torch.float64), units_of(name)
    _, whole = run(name)
    for unit in units:
        batch = MicroBatch.of([unit])
        for row, features in zip(unit, feature_forward(model, batch, False)["features"], strict=True):
            row.features = features.detach().numpy()
    engine = engine_for(model.head, head_forward, tokens=25)
    engine.forward_backward("policy", units, objective_of(name, model))
    for key, grad in gradients(engine).items():
        torch.testing.assert_close(grad, whole[f"head.{key}"], atol=1e-9, rtol=1e-7)


def losses_by_hand(name: str) -> float:
    """The oracle's formula, one unit at a time, on scores that the model gives to each row alone."""
    model, units = scored(KINDS[name], torch.float64), units_of(name)

    def heads(row: Any) -> list[list[float]]:
        return model.heads(MicroBatch.of([[row]]), packed=False)[0].tolist()

    if name == "bradley_terry":
        values = [oracle.bradley_terry(heads(a)[0][0], heads(b)[0][0]) for a, b in units]
    elif name == "soft labels and margins":
        values = []
        for a, b in units:
            label = 0.9 * a.values.get("soft_label", 1.0) + 0.1 * (1 - a.values.get("soft_label", 1.0))
            margin = a.values.get("margin", 0.0)
            values.append(oracle.soft_bradley_terry(heads(a)[0][0], heads(b)[0][0], label, margin))
    elif name == "grouped":
        values = [
            oracle.grouped([heads(r)[0][0] for r in unit], [r.values["rank"] for r in unit]) for unit in units
        ]
    elif name == "plackett_luce":
        values = [oracle.plackett_luce([heads(r)[0][0] for r in unit]) for unit in units]
    elif name == "outcome":
        values = [
            sum(oracle.binary(w, row.values["label"]) for (w,) in heads(row)) / len(heads(row))
            for (row,) in units
        ]
    elif name == "pooled_outcome":
        values = [
            oracle.binary(sum(w for (w,) in heads(row)) / len(heads(row)), row.values["label"])
            for (row,) in units
        ]
    elif name == "process":
        values = [
            oracle.binary(w, float(label))
            for (row,) in units
            for (w,), label in zip(heads(row), row.fields["label"], strict=True)
        ]
    else:
        values = [
            oracle.three_way(w, int(label))
            for (row,) in units
            for w, label in zip(heads(row), row.fields["label"], strict=True)
        ]
    return sum(values) / len(values)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("members", "groups")])
def test_the_loss_is_the_oracle_over_units(name: str) -> None:
    metrics, _ = run(name, tokens=30)
    term = "bradley_terry" if name.startswith(("brad", "soft")) else name
    total, count = metrics[f"loss/{term}"]
    assert total / count == pytest.approx(losses_by_hand(name), rel=1e-8)


def test_every_member_is_trained_as_if_it_were_alone_on_its_resample() -> None:
    """Weights are counts: a unit drawn twice is a unit that stands there twice."""
    metrics, grads = run("members")
    for number, (member, counts) in enumerate(zip(MEMBERS, MEMBER_WEIGHTS, strict=True)):
        model, units = scored(KINDS["members"], torch.float64), units_of("bradley_terry")
        resample = [unit for unit, count in zip(units, counts, strict=True) for _ in range(count)]

        def alone(module: Any, batch: MicroBatch, packed: bool, number: int = number) -> dict[str, Any]:
            return {"heads": score_forward(module, batch, packed)["heads"][..., number : number + 1]}

        engine = engine_for(model, alone)
        theirs = engine.forward_backward("policy", resample, PairwiseRanking(centering=0.1))
        ours = metrics[f"loss/bradley_terry/{member}"]
        assert ours[1] == sum(counts)
        assert ours[0] / ours[1] == pytest.approx(theirs["loss/bradley_terry"][0] / len(resample), rel=1e-9)
        own = gradients(engine)["head.linear.weight"][number]
        penalty = 0.2 * model.head.linear.weight[number].detach()
        torch.testing.assert_close(grads["head.linear.weight"][number], own + penalty, atol=1e-9, rtol=1e-7)


def test_a_head_without_a_unit_in_the_step_does_not_move() -> None:
    model, units = scored(KINDS["groups"], torch.float64), units_of("groups")
    ann = [unit for unit in units if unit[0].values[weight_name(0)]]
    engine = engine_for(model, score_forward)
    metrics = engine.forward_backward("policy", ann, objective_of("groups", model))
    weight = gradients(engine)["head.linear.weight"]
    assert not weight[1].any() and weight[0].any() and weight[2].any()
    assert metrics["loss/grouped/bob"] == (0.0, 0.0)


def test_metrics_of_rankings() -> None:
    """Scores by hand: unit 1 is right in 2 of 3 pairs, unit 2 in its one; both have the best on top."""
    from tests.models.families import group

    from ridgeline.training.rankings import ListRanking

    units = [group(2, [1, 1, 1], 1), group(2, [1, 1], 2)]
    for unit in units:
        for rank, row in enumerate(unit):
            row.values["rank"] = float(rank)
    scores = torch.tensor([3.0, 1.0, 2.0, 0.5, -1.0])
    batch = MicroBatch.of(units)
    metrics = ListRanking("grouped").measures(scores, batch)
    assert {k: (float(a), float(b)) for k, (a, b) in metrics.items()} == {
        "accuracy": (pytest.approx(2 / 3 + 1), 2.0),
        "top1": (2.0, 2.0),
    }
    ties = ListRanking("grouped").measures(torch.zeros(5), batch)
    assert float(ties["accuracy"][0]) == 1.0


def test_the_order_of_rows_in_a_ranking_means_nothing() -> None:
    model = scored(KINDS["plackett_luce"], torch.float64)
    losses = []
    for turn in (1, -1):
        units = [unit[::turn] for unit in units_of("plackett_luce")]
        engine = engine_for(model, score_forward)
        metrics = engine.forward_backward("policy", units, objective_of("plackett_luce", model))
        losses.append(metrics["loss/plackett_luce"][0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_metrics_of_outcomes_and_steps() -> None:
    """The verdict of an outcome model is that of its last token; a label of 0.5 has no side."""
    from ridgeline.training.labelled import OutcomeClassification, ProcessClassification

    units = units_of("outcome")
    for (row,), label in zip(units, (1.0, 0.0, 1.0, 0.5), strict=True):
        row.values["label"] = label
    batch = MicroBatch.of(units)
    logits_BN = torch.full(batch.mask_BN.shape, -9.0)
    for line, (row,) in enumerate(units):
        logits_BN[line, len(row.targets) - 1] = (2.0, 1.0, -1.0, 3.0)[line]
    metrics = OutcomeClassification(pooled=False).terms({"heads": logits_BN[..., None]}, batch).metrics
    assert tuple(map(float, metrics["accuracy"])) == (1.0, 3.0)
    right = [1 / (1 + math.exp(-x)) for x in (2.0, -1.0)]
    assert float(metrics["score/right"][0]) == pytest.approx(sum(right), abs=1e-5)
    assert float(metrics["score/right"][1]) == 2.0

    steps = MicroBatch.of(units_of("process_3class"))  # labels 1 -1 0 | 1 | -1 1 | 0 0 -1
    heads_BNK = torch.zeros(*steps.mask_BN.shape, 3)
    heads_BNK[..., 1] = 1.0  # always neutral
    metrics = ProcessClassification(three_classes=True).terms({"heads": heads_BNK}, steps).metrics
    assert tuple(map(float, metrics["accuracy"])) == (3.0, 9.0)


def test_a_penalty_needs_its_head() -> None:
    from ridgeline.training.labelled import OutcomeClassification

    for make in (PairwiseRanking, lambda penalty: OutcomeClassification(pooled=True, penalty=penalty)):
        with pytest.raises(ValueError, match="needs the head"):
            make(penalty=0.1)


def test_rows_without_a_scored_token_count_for_nothing() -> None:
    from ridgeline.models.batch import Row

    for name in ("outcome", "pooled_outcome", "process", "process_3class"):
        model, units = scored(KINDS[name], torch.float64), units_of(name)
        empty = [Row(np.arange(2, 8), np.empty(0, dtype=np.int64), values={"label": 1.0},
                     fields={"label": np.empty(0, dtype=np.float32)})]  # fmt: skip
        engine = engine_for(model, score_forward, tokens=15)
        metrics = engine.forward_backward("policy", [empty, *units, empty], objective_of(name, model))
        assert metrics[f"loss/{name}"] == pytest.approx(run(name)[0][f"loss/{name}"], rel=1e-9)
        scores = engine.score("policy", [empty, units[0]])
        assert scores[0]["token_score"].shape == (0,) and scores[0]["score"] == 0
        assert len(scores[1]["token_score"]) == len(flat(units)[0].targets)
