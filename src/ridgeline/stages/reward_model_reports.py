"""What held-out data say about a reward model, for every kind: order, right or wrong, probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ridgeline.models.batch import Unit
from ridgeline.models.score_heads import SHARED, HeadKind
from ridgeline.objectives.reward import grouped_bradley_terry, plackett_luce
from ridgeline.schema.records import Preference
from ridgeline.stages.reward_model_data import Judged
from ridgeline.stages.reward_model_labelled import outcome_report, process_report
from ridgeline.statistics.agreement import (
    expected_calibration_error,
    pairwise_accuracy_interval,
    pearson,
    reliability_table,
)
from ridgeline.statistics.bradley_terry import probability
from ridgeline.statistics.intervals import clustered_share_interval
from ridgeline.training.engine import RowScores

Floats = npt.NDArray[np.float64]
Report = dict[str, Any]


def heldout_report(judged: Judged, scores: Sequence[RowScores], kind: HeadKind) -> Report:
    """The report of this kind of model; ``scores`` hold ``heads`` ``[S, K]`` of every row of ``judged``."""
    rows = [row for unit in judged.units for row in unit]
    if kind.per_token:
        heads = [
            score["heads"][: len(row.targets)].astype(float) for row, score in zip(rows, scores, strict=True)
        ]
        report = process_report if kind.has_steps else outcome_report
        return report(rows, judged.prompts, heads, kind)
    heads_RK = np.array([score["heads"][0] for score in scores], dtype=float)
    return ranking_report(judged, heads_RK, kind)


def ranking_report(judged: Judged, heads_RK: Floats, kind: HeadKind) -> Report:
    """Of one head, of the mean of an ensemble's members, or of each unit's own group's head.

    An ensemble adds ``accuracy_members``, the mean of each member's own, and ``spread``, how far the members
    differ about the order of two completions. Groups add ``accuracy_shared`` of the head that all share, and
    ``groups``, both accuracies by group.
    """
    if SHARED in kind.heads:
        return _by_group(judged, heads_RK, kind)
    report = _order_report(judged, heads_RK.mean(1), kind)
    if len(kind.heads) > 1:
        alone = [
            _order_report(judged, heads_RK[:, k], kind)["accuracy"]["value"] for k in range(len(kind.heads))
        ]
        report["accuracy_members"] = float(np.mean(alone))
        report["spread"] = _spread(judged.units, heads_RK)
    return report


def combined_report(judged: Judged, scores: Sequence[RowScores], kind: HeadKind) -> Report:
    """Accuracy of the reward as the saved model gives it, its heads standardised and combined."""
    heads = torch.from_numpy(np.array([score["heads"] for score in scores], dtype=float))
    reward_R = kind.combined(heads)[:, 0].numpy()
    return {"how": kind.combine, "accuracy": _order_report(judged, reward_R, kind)["accuracy"]}


def _by_group(judged: Judged, heads_RK: Floats, kind: HeadKind) -> Report:
    sizes = [len(unit) for unit in judged.units]
    groups_U = np.array([entry.group for entry in judged.entries])
    columns_R = np.repeat([kind.heads.index(group) for group in groups_U], sizes)
    own_R = heads_RK[np.arange(len(heads_RK)), columns_R]
    shared_R = heads_RK[:, kind.heads.index(SHARED)]
    report = _order_report(judged, own_R, kind)
    report["accuracy_shared"] = _order_report(judged, shared_R, kind)["accuracy"]
    report["groups"] = {}
    for group in sorted(set(groups_U)):
        part = judged.only([group], "")
        here_R = np.repeat(groups_U == group, sizes)
        report["groups"][group] = {
            "units": len(part.units),
            "accuracy": _order_report(part, own_R[here_R], kind)["accuracy"],
            "accuracy_shared": _order_report(part, shared_R[here_R], kind)["accuracy"],
        }
    return report


def _order_report(judged: Judged, scores_R: Floats, kind: HeadKind) -> Report:
    if kind.loss == "bradley_terry":
        pairs = [entry.item for entry in judged.entries if isinstance(entry.item, Preference)]
        lengths = np.array([len(row.targets) for unit in judged.units for row in unit], dtype=float)
        report = pair_report(scores_R[0::2], scores_R[1::2], pairs, judged.prompts)
        return report | _length_report(scores_R, lengths, pairs, judged.prompts)
    return _list_report(judged, scores_R, kind)


def pair_report(
    chosen: Floats, rejected: Floats, pairs: Sequence[Preference], prompts: Sequence[str]
) -> Report:
    """Accuracy against the labels (interval over prompts), loss, calibration; the same against known gold.

    A label below 0.5 says that rejected is better; one of 0.5 takes no side and counts for the loss only.
    Calibration looks at each pair in the order it was shown: with the chosen one always first every outcome
    would be 1 and nothing could be miscalibrated.
    """
    labels = np.array([pair.label for pair in pairs])
    probabilities = probability(chosen - rejected)
    first_is_chosen = np.array([pair.first_shown == "chosen" for pair in pairs])
    shown_first = np.where(first_is_chosen, probabilities, 1 - probabilities)
    outcomes = np.where(first_is_chosen, labels, 1 - labels)
    losses = labels * np.logaddexp(0, rejected - chosen) + (1 - labels) * np.logaddexp(0, chosen - rejected)
    report: Report = {
        **_accuracy("accuracy", chosen, rejected, labels - 0.5, prompts),
        "nll": float(losses.mean()),
        "calibration_error": expected_calibration_error(shown_first, outcomes),
        "reliability": [asdict(bin_) for bin_ in reliability_table(shown_first, outcomes)],
    }
    if all({"chosen", "rejected"} <= pair.scores.keys() for pair in pairs):
        gold = np.array([[pair.scores["chosen"], pair.scores["rejected"]] for pair in pairs])
        report |= _against_gold(chosen, rejected, gold, prompts)
    return report


def _accuracy(
    name: str, chosen: Floats, rejected: Floats, side: Floats, prompts: Sequence[str]
) -> dict[str, Any]:
    """Nothing where no pair takes a side; ``side`` is above 0 where chosen is better."""
    better, worse = np.where(side > 0, chosen, rejected), np.where(side > 0, rejected, chosen)
    decided = side != 0
    if not decided.any():
        return {}
    names = [prompt for prompt, keep in zip(prompts, decided, strict=True) if keep]
    return {name: pairwise_accuracy_interval(better[decided], worse[decided], names).as_dict()}


def _against_gold(chosen: Floats, rejected: Floats, gold: Floats, prompts: Sequence[str]) -> Report:
    correlation = pearson(np.concatenate([chosen, rejected]), gold.T.flatten())
    accuracy = _accuracy("accuracy_against_gold", chosen, rejected, gold[:, 0] - gold[:, 1], prompts)
    if not accuracy:  # every pair ties, so there is no order to agree with
        return {}
    return {**accuracy, "correlation_with_gold": None if math.isnan(correlation) else correlation}


def _length_report(
    scores_R: Floats, lengths_R: Floats, pairs: Sequence[Preference], prompts: Sequence[str]
) -> Report:
    """Does it pay for length? Correlation with tokens, and accuracy where the better one is the longer or the
    shorter of the two."""
    correlation = pearson(scores_R, lengths_R)
    longer = (lengths_R[0::2] - lengths_R[1::2]) * np.sign([pair.label - 0.5 for pair in pairs])
    report: Report = {"correlation_with_length": None if math.isnan(correlation) else correlation}
    for name, sign in (("longer", 1), ("shorter", -1)):
        side = np.where(np.sign(longer) == sign, [pair.label - 0.5 for pair in pairs], 0.0)
        report |= _accuracy(f"accuracy_{name}_better", scores_R[0::2], scores_R[1::2], side, prompts)
    return report


def _list_report(judged: Judged, scores_R: Floats, kind: HeadKind) -> Report:
    """Pairs of a ranking in the right order (each ranking weighs the same), the best on top, loss, and the
    calibration of all its pairs, entered both ways round."""
    accuracies, tops, losses = [], [], []
    predicted: list[Floats] = []
    happened: list[Floats] = []
    start = 0
    for unit in judged.units:
        scores = scores_R[start : start + len(unit)]
        ranks = np.array([row.values["rank"] for row in unit])
        start += len(unit)
        i, j = np.nonzero(ranks[:, None] < ranks[None, :])
        accuracies.append(float(np.mean((np.sign(scores[i] - scores[j]) + 1) / 2)))
        tops.append(float(np.mean(ranks[scores == scores.max()] == ranks.min())))
        losses.append(_list_loss(scores, ranks, kind))
        predicted += [probability(scores[i] - scores[j]), probability(scores[j] - scores[i])]
        happened += [np.ones(len(i)), np.zeros(len(i))]
    chances, outcomes = np.concatenate(predicted), np.concatenate(happened)
    return {
        "accuracy": clustered_share_interval(accuracies, judged.prompts).as_dict(),
        "top1": clustered_share_interval(tops, judged.prompts).as_dict(),
        "nll": float(np.mean(losses)),
        "calibration_error": expected_calibration_error(chances, outcomes),
        "reliability": [asdict(bin_) for bin_ in reliability_table(chances, outcomes)],
    }


def _list_loss(scores: Floats, ranks: Floats, kind: HeadKind) -> float:
    if kind.loss == "grouped":
        return float(grouped_bradley_terry(torch.from_numpy(scores)[None], torch.from_numpy(ranks)[None]))
    return float(plackett_luce(torch.from_numpy(scores[np.argsort(ranks, kind="stable")])[None]))


def _spread(units: Sequence[Unit], heads_RK: Floats) -> float:
    """Deviation between members of the difference of two completions (their levels are free)."""
    spreads, start = [], 0
    for unit in units:
        own = heads_RK[start : start + len(unit)]
        i, j = np.triu_indices(len(unit), 1)
        spreads.append(float((own[i] - own[j]).std(1).mean()))
        start += len(unit)
    return float(np.mean(spreads))
