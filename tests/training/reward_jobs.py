"""A reward model of every kind with units it can learn from, small enough for exact comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tests.models.families import group, ids, make_model
from tests.tiny import make_tokenizer

from ridgeline.models.batch import Row, Unit
from ridgeline.models.load import LanguageModel
from ridgeline.models.score_heads import SHARED, HeadKind
from ridgeline.models.score_model import Pooling, ScoreModel, score_model_from
from ridgeline.training.labelled import OutcomeClassification, ProcessClassification
from ridgeline.training.objective import Objective
from ridgeline.training.pairwise import PairwiseRanking
from ridgeline.training.rankings import ListRanking
from ridgeline.training.reward_heads import weight_name

MEMBERS = ("member-1", "member-2", "member-3")
KINDS: dict[str, HeadKind] = {
    "bradley_terry": HeadKind(),
    "soft labels and margins": HeadKind(),
    "grouped": HeadKind("grouped"),
    "plackett_luce": HeadKind("plackett_luce"),
    "outcome": HeadKind("outcome", aggregate="mean"),
    "pooled_outcome": HeadKind("pooled_outcome", aggregate="pooled"),
    "process": HeadKind("process", aggregate="min"),
    "process_3class": HeadKind("process_3class", aggregate="product"),
    "members": HeadKind(heads=MEMBERS, combine="mean_minus_spread", spread_weight=0.5),
    "groups": HeadKind("grouped", heads=("ann", "bob", SHARED)),
}
CASES = list(KINDS)


def scored(kind: HeadKind, dtype: torch.dtype = torch.float32, pooling: Pooling = "last") -> ScoreModel:
    """A score model whose heads and constants are not those it starts with."""
    language_model = LanguageModel(make_model("llama", dtype), make_tokenizer(), "test")
    model = score_model_from(language_model, layer=None, pooling=pooling, kind=kind)
    model.head.draw(2.0, seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        model.head.linear.bias.normal_(generator=generator)
        model.head.shift.normal_(generator=generator)
        model.head.scale.fill_(1.7)
    return model.to(dtype) if dtype == torch.float64 else model


def solution(prompt: int, tokens: int, ends: list[int], labels: list[float], seed: int) -> Unit:
    """A row whose targets are the ends of its steps."""
    row_ids = np.asarray(ids(prompt + tokens, seed))
    targets = np.asarray([prompt + end for end in ends])
    return [Row(row_ids, targets, prefix=prompt, fields={"label": np.asarray(labels, dtype=np.float32)})]


def units_of(name: str) -> list[Unit]:
    """Units of unequal sizes and lengths."""
    if name.startswith("process"):
        bad = -1.0 if name == "process_3class" else 0.25
        return [
            solution(4, 9, [2, 5, 8], [1, bad, 0], 1),
            solution(2, 5, [4], [1], 2),
            solution(6, 8, [0, 7], [bad, 1], 3),
            solution(3, 6, [1, 2, 5], [0, 0, bad], 4),
        ]
    if "outcome" in name:
        units = [group(5, [3], 1), group(2, [6], 2), group(7, [1], 3), group(3, [5], 4)]
        for (row,), label in zip(units, (1.0, 0.0, 1.0, 0.25), strict=True):
            row.values["label"] = label
        return units
    if name in ("grouped", "plackett_luce", "groups"):
        units = [group(5, [3, 1, 4], 1), group(2, [6, 2], 2), group(7, [4, 5, 1, 2], 3), group(3, [1, 5], 4)]
        for unit in units:
            for rank, row in enumerate(unit):
                row.values["rank"] = float(rank if name == "plackett_luce" or rank < 3 else 2)
    else:
        units = [group(5, [3, 1], 1), group(2, [6, 2], 2), group(7, [4, 4], 3), group(3, [1, 5], 4)]
    if name == "soft labels and margins":
        for number, unit in enumerate(units[:3]):
            unit[0].values |= {"margin": 0.5 * number, "soft_label": (1.0, 0.5, 0.8)[number]}
    _weigh(units, {"members": MEMBER_WEIGHTS, "groups": GROUP_WEIGHTS}.get(name, ()))
    return units


MEMBER_WEIGHTS = ((1, 0, 2, 1), (0, 3, 1, 0), (2, 1, 0, 1))
GROUP_WEIGHTS = ((1, 0, 1, 0), (0, 1, 0, 1), (1, 1, 1, 1))


def _weigh(units: list[Unit], weights: tuple[tuple[int, ...], ...]) -> None:
    for number, counts in enumerate(weights):
        for unit, count in zip(units, counts, strict=True):
            for row in unit:
                row.values[weight_name(number)] = float(count)


def objective_of(name: str, model: ScoreModel) -> Objective:
    penalty: dict[str, Any] = {"penalty": 0.2, "head": model.head}
    heads: dict[str, Any] = {"names": model.kind.heads, "measured": model.kind.combining}
    if name in ("bradley_terry", "members"):
        return PairwiseRanking(centering=0.1, **penalty, **heads)
    if name == "soft labels and margins":
        return PairwiseRanking(label_smoothing=0.1, **penalty)
    if name in ("grouped", "groups"):
        return ListRanking("grouped", **penalty, **heads)
    if name == "plackett_luce":
        return ListRanking("plackett_luce", **penalty)
    if "outcome" in name:
        return OutcomeClassification(pooled=name == "pooled_outcome", **penalty)
    return ProcessClassification(three_classes=name == "process_3class", **penalty)
