"""What held-out labels say about outcome and process models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ridgeline.models.batch import Row
from ridgeline.models.score_heads import HeadKind
from ridgeline.objectives.reward import outcome_bce, pooled_outcome_bce, process_bce, process_ce
from ridgeline.statistics.agreement import expected_calibration_error, reliability_table
from ridgeline.statistics.intervals import clustered_share_interval

Floats = npt.NDArray[np.float64]
Report = dict[str, Any]
CLASSES = {-1: "bad", 0: "neutral", 1: "good"}


def outcome_report(
    rows: Sequence[Row], prompts: Sequence[str], heads: Sequence[Floats], kind: HeadKind
) -> Report:
    """Of one probability per solution, aggregated over tokens as the reward is.

    ``accuracy``: on the right side of 0.5; ``majority``: what always giving the more frequent answer would
    get. ``pairwise_accuracy``: right above wrong, among the solutions of a prompt, and ``top1``: the best
    scored one is right, both over prompts that have right and wrong ones. ``auc``: right above wrong, over
    all. ``nll``: the loss that is trained, nats per solution.
    """
    labels = np.array([row.values["label"] for row in rows])
    chances = np.array([_reward(each, kind) for each in heads])
    loss = [_outcome_loss(each, label, kind) for each, label in zip(heads, labels, strict=True)]
    report: Report = {
        **_right_or_wrong(chances, labels, prompts),
        "nll": float(np.mean(loss)),
        **_calibration(chances, labels),
    }
    right, wrong = chances[labels > 0.5], chances[labels < 0.5]
    if len(right) and len(wrong):
        report["auc"] = _above(right, wrong)
    places: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        places.setdefault(prompt, []).append(place)
    shares, tops, names = [], [], []
    for prompt, here in places.items():
        own, truth = chances[here], labels[here]
        if (truth > 0.5).any() and (truth < 0.5).any():
            names.append(prompt)
            shares.append(_above(own[truth > 0.5], own[truth < 0.5]))
            tops.append(float(np.mean(truth[own == own.max()] > 0.5)))
    if names:
        report["pairwise_accuracy"] = clustered_share_interval(shares, names).as_dict()
        report["top1"] = clustered_share_interval(tops, names).as_dict()
    return report


def process_report(
    rows: Sequence[Row], prompts: Sequence[str], heads: Sequence[Floats], kind: HeadKind
) -> Report:
    """Of every labelled step.

    ``accuracy`` and ``majority`` as for outcomes, of steps; accuracy by class; ``first_error``: the first
    step judged wrong is the first labelled wrong, or both find none, per solution. ``nll``: nats per step.
    """
    labels = np.concatenate([row.fields["label"] for row in rows]).astype(float)
    steps = np.concatenate(heads)
    names = [prompt for prompt, row in zip(prompts, rows, strict=True) for _ in row.targets]
    chances = _probabilities(steps, kind)
    if kind.loss == "process_3class":
        report = _classes(steps, labels, names)
        loss = process_ce(torch.from_numpy(steps)[None], torch.from_numpy(labels)[None].long())
        fine = (labels >= 0).astype(float)
    else:
        report = _right_or_wrong(chances, labels, names)
        for name, chosen in (("right", labels > 0.5), ("wrong", labels < 0.5)):
            if chosen.any():
                kept = [prompt for prompt, keep in zip(names, chosen, strict=True) if keep]
                side = _on_side(chances[chosen], labels[chosen])
                report[f"accuracy_{name}"] = clustered_share_interval(side, kept).as_dict()
        loss = process_bce(torch.from_numpy(steps[:, 0])[None], torch.from_numpy(labels)[None])
        fine = labels
    found, start = [], 0
    for row in rows:
        here = slice(start, start + len(row.targets))
        found.append(float(_first(chances[here] < 0.5) == _first(fine[here] < 0.5)))
        start += len(row.targets)
    return {
        **report,
        "nll": float(loss.mean()),
        "first_error": clustered_share_interval(found, prompts).as_dict(),
        **_calibration(chances, fine),
    }


def _reward(heads_NK: Floats, kind: HeadKind) -> float:
    tensor = torch.from_numpy(heads_NK)[None]
    return float(kind.reward(tensor, torch.ones(tensor.shape[:2])))


def _probabilities(heads_NK: Floats, kind: HeadKind) -> Floats:
    result: Floats = kind.token_scores(torch.from_numpy(heads_NK)[None])[0].numpy()
    return result


def _outcome_loss(heads_NK: Floats, label: float, kind: HeadKind) -> float:
    logits, labels = torch.from_numpy(heads_NK[:, 0])[None], torch.tensor([label])
    if kind.loss == "pooled_outcome":
        return float(pooled_outcome_bce(logits, labels, torch.ones_like(logits)))
    return float(outcome_bce(logits, labels).mean())


def _right_or_wrong(chances: Floats, labels: Floats, clusters: Sequence[str]) -> Report:
    sided = labels != 0.5
    if not sided.any():
        return {}
    names = [cluster for cluster, keep in zip(clusters, sided, strict=True) if keep]
    right = float((labels[sided] > 0.5).mean())
    return {
        "accuracy": clustered_share_interval(_on_side(chances[sided], labels[sided]), names).as_dict(),
        "majority": max(right, 1 - right),
    }


def _classes(steps_SK: Floats, labels: Floats, clusters: Sequence[str]) -> Report:
    said = steps_SK.argmax(1) - 1
    correct = (said == labels).astype(float)
    report: Report = {
        "accuracy": clustered_share_interval(correct, clusters).as_dict(),
        "majority": max(float((labels == number).mean()) for number in CLASSES),
    }
    for number, name in CLASSES.items():
        chosen = labels == number
        if chosen.any():
            names = [cluster for cluster, keep in zip(clusters, chosen, strict=True) if keep]
            report[f"accuracy_{name}"] = clustered_share_interval(correct[chosen], names).as_dict()
    return report


def _on_side(chances: Floats, labels: Floats) -> Floats:
    """1 on the label's side of 0.5, 0 on the other, 0.5 on it."""
    return (np.sign((chances - 0.5) * (labels - 0.5)) + 1) / 2


def _above(right: Floats, wrong: Floats) -> float:
    """Share of pairs with the right one above, ties counting half."""
    ordered = np.sort(wrong)
    below = np.searchsorted(ordered, right, side="left")
    upto = np.searchsorted(ordered, right, side="right")
    return float((below + upto).mean() / (2 * len(wrong)))


def _first(flags: npt.NDArray[np.bool_]) -> int:
    """Index of the first True, -1 for none."""
    return int(np.argmax(flags)) if flags.any() else -1


def _calibration(chances: Floats, outcomes: Floats) -> Report:
    return {
        "calibration_error": expected_calibration_error(chances, outcomes),
        "reliability": [asdict(bin_) for bin_ in reliability_table(chances, outcomes)],
    }
