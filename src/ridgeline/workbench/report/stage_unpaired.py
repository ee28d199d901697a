"""Alignment on single completions: how far what people liked has moved from what they did not."""

from __future__ import annotations

from ridgeline.workbench.report.chart import Rule, Series
from ridgeline.workbench.report.curves import (
    counted,
    heldout,
    learning_facts,
    objective_words,
    picture,
    small,
    training,
)
from ridgeline.workbench.report.markup import facts, grid, interval, note, number, percent, whole
from ridgeline.workbench.report.source import RunData, StageData, number_in

KINDS = (("desirable", "liked", "gain", ""), ("undesirable", "disliked", "control", "6 4"))


def unpaired(run: RunData, stage: StageData) -> str:
    """Numbers, the log-ratios of both kinds in one picture, how well they are separated, the loss."""
    result = stage.result or {}
    last = stage.evaluations[-1] if stage.evaluations else {}
    numbers = [
        ("Objective", objective_words(stage.config.get("objective"), "kto")),
        ("Completions", whole(number_in(result, "rows"))),
        ("Liked", percent(share) if (share := number_in(result, "desirable_share")) is not None else ""),
        ("Held-out completions", whole(number_in(result, "heldout_rows"))),
        ("Dropped", whole(dropped) if (dropped := number_in(result, "dropped")) else ""),
        ("Separation", _separated(stage)),
        *(
            (f"Log-ratio, {word}", f"{interval(last[f'log_ratio/{kind}'])} nats")
            for kind, word, _, _ in KINDS
            if f"log_ratio/{kind}" in last
        ),
        *learning_facts(stage),
    ]
    if not stage.metrics and not stage.evaluations:
        return facts(numbers) + note("No training steps have been logged.")
    figures = [_log_ratios(stage), _separation(stage)]
    smalls = [
        small(stage, "loss", "Loss", "mean per completion", "Lower is better; one batch a point"),
        small(
            stage, "kl_mismatched", "KL, mismatched", "nats per completion", "What KTO compares each row with"
        ),
        small(stage, "shift", "Shift", "reward", "What BCO compares each row with"),
        small(stage, "gradient_norm", "Gradient norm", "before clipping", "Spikes are a warning"),
    ]
    return facts(numbers) + grid(f for f in figures if f) + grid((s for s in smalls if s), "small")


def _separated(stage: StageData) -> str:
    values = heldout(stage, "separation").y
    return " → ".join(number(value) for value in (values[0], values[-1])) if values else ""


def _log_ratios(stage: StageData) -> str:
    series: list[Series] = []
    for kind, word, tone, dash in KINDS:
        name = f"log_ratio/{kind}"
        series.append(training(stage, name, label="", tone=tone, thin=True, dash=dash))
        series.append(heldout(stage, name, label=f"{word}, held-out", tone=tone, dash=dash))
    caption = (
        "Log-prob of whole completions against the reference: what people liked should rise above what they "
        f"did not. Liked completions of {counted(stage, 'log_ratio/desirable')}; bars are 95 % intervals "
        "over prompts. Thin: training batches."
    )
    unit = "log-ratio (nats per completion)"
    return picture("Liked and disliked", unit, series, caption, rules=[Rule(0.0, "reference")])


def _separation(stage: StageData) -> str:
    caption = (
        "Probability that a liked completion has the higher log-ratio than a disliked one, over all held-out "
        "prompts; 1 is perfect."
    )
    series = [heldout(stage, "separation", label="held-out completions")]
    rules = [Rule(0.5, "guessing")]
    return picture("Separation", "probability", series, caption, rules=rules, y_range=(0.0, 1.0))
