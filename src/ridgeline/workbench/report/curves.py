"""Curves of a stage by optimizer step: on its training batches, and on what was held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ridgeline.workbench.report.chart import Chart, Rule, Series, draw, legend
from ridgeline.workbench.report.markup import figure, text, whole
from ridgeline.workbench.report.smooth import with_running_mean
from ridgeline.workbench.report.source import StageData, is_pair, number_in

BATCHES = "training batches"
HELD = "held-out"


def heldout(
    stage: StageData, measure: str, *, label: str = HELD, tone: str = "gain", dash: str = ""
) -> Series:
    """A measure of the evaluations, with its interval where it has one."""
    points: list[tuple[float, float, Any]] = []
    for line in stage.evaluations:
        found = line.get(measure)
        value = number_in(found, "value") if isinstance(found, dict) else number_in(line, measure)
        if value is not None:
            points.append((float(line["step"]), value, found))
    return Series(
        label,
        [x for x, _, _ in points],
        [y for _, y, _ in points],
        tone=tone,
        low=[number_in(e, "low") for _, _, e in points],
        high=[number_in(e, "high") for _, _, e in points],
        dash=dash,
        dots=True,
    )


def training(
    stage: StageData,
    metric: str,
    *,
    label: str = BATCHES,
    tone: str = "accent",
    thin: bool = False,
    dash: str = "",
) -> Series:
    """A metric of the steps."""
    steps, values = stage.curve(metric)
    return Series(label, steps, values, tone=tone, thin=thin, dash=dash)


def losses(stage: StageData, role: str = "") -> Series:
    """The loss of every step: all that is named ``loss/...`` of a role, added up."""
    points = []
    for line in stage.metrics:
        named = [
            v for k, v in line["metrics"].items() if k.startswith(f"{role}loss/") and is_pair(v) and v[1]
        ]
        if named:
            points.append((float(line["step"]), sum(total / count for total, count in named)))
    return Series(BATCHES, [x for x, _ in points], [y for _, y in points], tone="accent")


def picture(
    title: str,
    unit: str,
    series: Sequence[Series],
    caption: str,
    *,
    rules: Sequence[Rule] = (),
    include: Sequence[float] = (),
    y_range: tuple[float, float] | None = None,
) -> str:
    """A figure with its legend; nothing where no curve has a point."""
    series = [each for each in series if each.y]
    if not series:
        return ""
    chart = Chart(title, "optimizer steps", unit, series, rules=rules, include=include, y_range=y_range)
    return figure(title, draw(chart), caption, legend=legend(series) if len(series) > 1 else "")


def small(stage: StageData, metric: str, title: str, unit: str, reading: str) -> str:
    """A small multiple of one training metric (``loss``: all of them); nothing where it was not logged."""
    series = losses(stage) if metric == "loss" else training(stage, metric)
    if not series.y:
        return ""
    series = replace(series, label="", tone="ink")
    chart = Chart(title, "optimizer steps", unit, [series], width=270, height=176)
    return figure(title, draw(chart), f"{reading}.")


def loss_picture(stage: StageData, unit: str, *, rules: Sequence[Rule] = ()) -> str:
    """Training loss under its running mean, and the held-out loss."""
    train = losses(stage)
    raw = with_running_mean(train) if train.y else []
    caption = "Lower is better. Each training point is one batch; held-out points use the same rows."
    return picture("Loss", unit, [*raw, heldout(stage, "loss")], caption, rules=rules)


def counted(stage: StageData, measure: str) -> str:
    """``48 held-out prompts``, as the intervals of a measure have it."""
    counts = {e[measure].get("count") for e in stage.evaluations if isinstance(e.get(measure), dict)}
    shown = ", ".join(str(count) for count in sorted(counts - {None}, key=str))
    return f"{shown} held-out prompts" if shown else "the held-out prompts"


def learning_facts(stage: StageData) -> list[tuple[str, str]]:
    """How the weights were moved, for every stage that learns."""
    rate = number_in(stage.config, "optimiser", "learning_rate")
    adapter = stage.config.get("adapter")
    kind = {"lora": "LoRA", "dora": "DoRA"}.get(str((adapter or {}).get("kind")), "adapter")
    return [
        ("Optimizer steps", whole(float(len(stage.metrics))) if stage.metrics else ""),
        ("Learning rate", rate_words(rate)),
        ("Trained", f"{kind}, rank {whole(number_in(adapter, 'rank'))}" if adapter else "every weight"),
    ]


def rate_words(rate: float | None) -> str:
    """A learning rate as people write it: ``2.5e−5``."""
    if rate is None:
        return ""
    mantissa, exponent = f"{rate:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}".replace("-", "−") if rate else "0"


def objective_words(given: Any, otherwise: str) -> str:
    """What a recipe calls its objective, escaped: a preset, a table around one, or a list to add up."""
    if isinstance(given, list):
        return " + ".join(objective_words(term, otherwise) for term in given)
    if not isinstance(given, dict):
        return text(given or otherwise)
    options = [f"{key} {value:g}" for key, value in given.items() if isinstance(value, int | float)]
    inside = f" ({text(', '.join(options))})" if options else ""
    return text(given.get("preset", otherwise)) + inside
