"""How the report speaks of each kind of reward model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ridgeline.workbench.report.markup import interval, number
from ridgeline.workbench.report.source import number_in

Curve = tuple[str, str, str, str]
"""Key of an interval in an evaluation, label, tone, dash."""


@dataclass(frozen=True)
class RewardKind:
    """Words and reference lines; ``measures`` are the numbers of an evaluation worth a place, by key."""

    loss: str
    units: str
    per: str
    judged: str
    title: str
    limit: str
    loss_title: str
    predicted: str
    curves: tuple[Curve, ...]
    measures: Mapping[str, str]
    guess: float | None = math.log(2)
    guess_label: str = "guessing (ln 2)"


ACCURACY: Curve = ("accuracy", "against the labels", "accent", "")
CALIBRATION = {"calibration_error": "Calibration error"}
HEADS = {
    "accuracy_members": "Accuracy of a single member",
    "accuracy_shared": "Accuracy of the shared head",
    "spread": "Spread between members",
}
PAIRS = RewardKind(
    loss="bradley_terry",
    units="pairs",
    per="pair",
    judged="pairs",
    title="share of held-out pairs ranked right",
    limit="Against noisy labels nobody can pass the upper line; against gold the limit is 1. Pairs of",
    loss_title="Bradley-Terry loss",
    predicted="predicted probability that the first shown wins",
    curves=(ACCURACY, ("accuracy_against_gold", "against gold", "gold", "6 4")),
    measures={
        "accuracy": "Accuracy against labels",
        "accuracy_against_gold": "Accuracy against gold",
        **HEADS,
        **CALIBRATION,
        "correlation_with_gold": "Correlation with gold",
        "correlation_with_length": "Correlation with length",
        "accuracy_longer_better": "Accuracy where the longer is better",
        "accuracy_shorter_better": "Accuracy where the shorter is better",
    },
)
OUTCOMES = RewardKind(
    loss="outcome",
    units="solutions",
    per="solution",
    judged="solutions",
    title="share of held-out solutions judged right",
    limit="Always giving the more frequent label gets the line. Solutions of",
    loss_title="outcome loss",
    predicted="predicted probability that the solution is right",
    curves=(ACCURACY, ("pairwise_accuracy", "right above wrong, within a prompt", "gain", "6 4")),
    measures={
        "accuracy": "Accuracy",
        "majority": "Always the more frequent label",
        "pairwise_accuracy": "Right above wrong, within a prompt",
        "top1": "Best of a prompt is right",
        "auc": "Right above wrong, over all (AUC)",
        **CALIBRATION,
    },
)
STEPS = RewardKind(
    loss="process",
    units="solutions",
    per="step",
    judged="steps",
    title="share of held-out steps judged right",
    limit="Always giving the more frequent label gets the line. Steps of",
    loss_title="process loss",
    predicted="predicted probability that the step is not wrong",
    curves=(ACCURACY, ("first_error", "first error found, per solution", "gain", "6 4")),
    measures={
        "accuracy": "Accuracy of steps",
        "majority": "Always the more frequent label",
        "accuracy_right": "Accuracy on right steps",
        "accuracy_wrong": "Accuracy on wrong steps",
        "accuracy_good": "Accuracy on good steps",
        "accuracy_neutral": "Accuracy on neutral steps",
        "accuracy_bad": "Accuracy on bad steps",
        "first_error": "First error found",
        **CALIBRATION,
    },
)


def _rankings(loss: str, title: str, *, guess: float | None) -> RewardKind:
    return RewardKind(
        loss=loss,
        units="rankings",
        per="prompt",
        judged="pairs (both ways round)",
        title="share of pairs within held-out rankings ordered right",
        limit="Each ranking weighs the same. Rankings of",
        loss_title=title,
        predicted="predicted probability that one beats the other",
        curves=(ACCURACY, ("top1", "best one on top", "gain", "6 4")),
        measures={"accuracy": "Pairs in the right order", "top1": "Best one on top", **HEADS, **CALIBRATION},
        guess=guess,
    )


KINDS = {
    "bradley_terry": PAIRS,
    "grouped": _rankings("grouped", "loss over all pairs of a prompt", guess=math.log(2)),
    # Its level depends on how many completions a prompt has, so there is no line for guessing.
    "plackett_luce": _rankings("plackett_luce", "Plackett-Luce loss", guess=None),
    "outcome": OUTCOMES,
    "pooled_outcome": replace(OUTCOMES, loss="pooled_outcome"),
    "process": STEPS,
    "process_3class": replace(STEPS, loss="process_3class", guess=math.log(3), guess_label="guessing (ln 3)"),
}


def reward_kind(config: Mapping[str, Any]) -> RewardKind:
    """The kind of a stage by its options; one of an older version has pairs."""
    return KINDS.get(str(config.get("loss", "bradley_terry")), PAIRS)


def judge_sentence(result: Mapping[str, Any]) -> str:
    """What a finished reward-model stage found, as one clause of the headline (markup)."""
    after = result.get("after")
    after = after if isinstance(after, dict) else {}
    kind = reward_kind(result)
    if number_in(after, "accuracy", "value") is None:
        return f"learned from {number(number_in(result, kind.units))} {kind.units}; nothing was held out."
    shown = interval(after["accuracy"])
    majority = number_in(after, "majority")
    against = f", where the more frequent label alone gets {number(majority)}" if majority is not None else ""
    if kind.units == "solutions" and kind.per == "solution":
        sentence = f"judges {shown} of held-out solutions as labelled{against}"
        if number_in(after, "top1", "value") is not None:
            sentence += f"; its favourite is right in {interval(after['top1'])} of prompts"
        return sentence + "."
    if kind.per == "step":
        return f"judges {shown} of held-out steps as labelled{against}."
    ceiling = number_in(result, "ceiling", "accuracy")
    limit = f", where label noise allows {number(ceiling)}" if ceiling is not None else ""
    sentence = f"ranks {shown} of held-out pairs as labelled{limit}"
    if "accuracy_against_gold" in after:
        sentence += f"; {interval(after['accuracy_against_gold'])} as gold does"
    if "accuracy_shared" in after:
        sentence += f"; one head for all groups ranks {interval(after['accuracy_shared'])}"
    return sentence + "."
