"""Evaluation: models by measures, win rates."""

from __future__ import annotations

from typing import Any

from ridgeline.workbench.report.dots import Dot, dot_plot
from ridgeline.workbench.report.markup import figure, grid, interval, note, table
from ridgeline.workbench.report.rl_view import plain
from ridgeline.workbench.report.source import RunData, StageData, number_in

MEASURES = {
    "kl_k1": "KL, k1 (nats)",
    "kl_k3": "KL, k3 (nats)",
    "length": "length (tokens)",
    "stopped": "stopped (share)",
}
TONES = ("muted", "accent", "gold", "proxy", "gain", "control")


def evaluate(run: RunData, stage: StageData) -> str:
    """A table of everything, then a dot plot for each reward and for the win rate."""
    result = stage.result
    models = result.get("models") if result else None
    if not result or not isinstance(models, dict) or not models:
        return note("No models have been measured yet.")
    measures = [key for values in models.values() for key in values]
    rewards = [key for key in dict.fromkeys(measures) if key.startswith("reward/")]
    rewards = _without_copies(models, rewards)
    ordered = [*rewards, *(key for key in MEASURES if key in measures)]
    head = ["model", *(MEASURES.get(key, plain(key.removeprefix("reward/"))) for key in ordered), "win rate"]
    against = result.get("against_baseline")
    wins = against if isinstance(against, dict) else {}
    rows = [
        [
            _name(name, result),
            *(interval(values.get(key)) for key in ordered),
            interval(wins.get(name, {}).get("win_rate")) if name in wins else "baseline",
        ]
        for name, values in models.items()
    ]
    reading = note(
        f"{result.get('prompts', 'Some')} held-out prompts; brackets are 95 % intervals over prompts. KL is "
        f"to "
        f"{result.get('reference', 'the reference')}; wins are decided by {_deciding(result)} "
        f"against "
        f"{result.get('baseline')}, ties counting half."
    )
    plots = [_plot(models, key, result) for key in rewards[:3]] + [_wins(wins, result)]
    return table(head, rows, label="Models and measures") + reading + grid(plots)


def _name(name: str, result: dict[str, Any]) -> str:
    from ridgeline.workbench.report.markup import text

    return text(name) + (" ◂ reference" if name == result.get("reference") else "")


def _deciding(result: dict[str, Any]) -> str:
    return plain(str(result.get("deciding_reward")))


def _without_copies(models: dict[str, Any], rewards: list[str]) -> list[str]:
    """``total`` says nothing where it equals the one reward there is."""
    others = [key for key in rewards if key != "reward/total"]
    copies = any(
        all(values.get(key) == values.get("reward/total") for values in models.values()) for key in others
    )
    return others if copies else rewards


def _plot(models: dict[str, Any], key: str, result: dict[str, Any]) -> str:
    dots = [
        Dot(name, value, number_in(values, key, "low"), number_in(values, key, "high"), TONES[k % len(TONES)])
        for k, (name, values) in enumerate(models.items())
        if (value := number_in(values, key, "value")) is not None
    ]
    reward = plain(key.removeprefix("reward/"))
    title = f"{reward} by model"
    caption = (
        f"Further right is better by {reward}. Mean over {result.get('prompts', '?')} held-out prompts; bars "
        f"are "
        "95 % intervals over prompts."
    )
    return figure(title, dot_plot(title, f"{reward} (mean reward)", dots), caption)


def _wins(wins: dict[str, Any], result: dict[str, Any]) -> str:
    dots = [
        Dot(name, value, number_in(w, "win_rate", "low"), number_in(w, "win_rate", "high"), "accent")
        for name, w in wins.items()
        if (value := number_in(w, "win_rate", "value")) is not None
    ]
    if not dots:
        return ""
    title = f"Win rate against {result.get('baseline')}"
    caption = (
        f"Right of the line beats {result.get('baseline')} by {_deciding(result)}. All pairs of "
        f"samples "
        f"of {result.get('prompts', '?')} held-out prompts, ties counting half; bars are 95 % intervals over "
        f"prompts."
    )
    return figure(title, dot_plot(title, "win rate (share)", dots, reference=0.5), caption)
