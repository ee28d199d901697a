"""The reward model: accuracy and its ceiling, calibration, loss."""

from __future__ import annotations

from typing import Any

from ridgeline.workbench.report.chart import Chart, Rule, Series, draw, legend
from ridgeline.workbench.report.markup import facts, figure, grid, interval, note, number, text, whole
from ridgeline.workbench.report.smooth import with_running_mean
from ridgeline.workbench.report.source import RunData, StageData, number_in


def reward_model(run: RunData, stage: StageData) -> str:
    """Numbers and up to three pictures."""
    result, after = stage.result or {}, _after(stage)
    ceiling = number_in(result, "ceiling", "accuracy")
    rows = [
        ("Accuracy against labels", interval(after.get("accuracy")) if "accuracy" in after else ""),
        (
            "Accuracy against gold",
            interval(after["accuracy_against_gold"]) if "accuracy_against_gold" in after else "",
        ),
        ("Ceiling of label noise", number(ceiling) if ceiling is not None else ""),
        ("Held-out loss", _with_ceiling(number_in(after, "nll"), number_in(result, "ceiling", "nll"))),
        ("Calibration error", _shown(number_in(after, "calibration_error"))),
        ("Correlation with gold", _shown(number_in(after, "correlation_with_gold"))),
        ("Training pairs", whole(number_in(result, "pairs"))),
        ("Held-out pairs", whole(number_in(result, "heldout_pairs"))),
    ]
    dropped = result.get("dropped")
    if isinstance(dropped, dict) and dropped:
        rows.append(("Dropped pairs", text(sum(dropped.values()))))
    pictures = [
        _accuracy(stage, ceiling),
        _loss(stage, number_in(result, "ceiling", "nll")),
        _reliability(after),
    ]
    return facts(rows) + grid(pictures)


def _after(stage: StageData) -> dict[str, Any]:
    """What the result says, else the last evaluation so far."""
    after = (stage.result or {}).get("after")
    return after if isinstance(after, dict) else stage.evaluations[-1] if stage.evaluations else {}


def _shown(value: float | None) -> str:
    return "" if value is None else number(value)


def _with_ceiling(value: float | None, ceiling: float | None) -> str:
    if value is None:
        return ""
    limit = f" (noise allows {number(ceiling)})" if ceiling is not None else ""
    return f"{number(value)} nats/pair{limit}"


def _accuracy(stage: StageData, ceiling: float | None) -> str:
    series = []
    kinds = (
        ("accuracy", "against the labels", "accent", ""),
        ("accuracy_against_gold", "against gold", "gold", "6 4"),
    )
    for key, label, tone, dash in kinds:
        lines = [(float(line["step"]), line[key]) for line in stage.evaluations if key in line]
        lines = [(x, e) for x, e in lines if number_in(e, "value") is not None]
        if lines:
            series.append(
                Series(
                    label,
                    [x for x, _ in lines],
                    [float(e["value"]) for _, e in lines],
                    tone=tone,
                    low=[number_in(e, "low") for _, e in lines],
                    high=[number_in(e, "high") for _, e in lines],
                    dots=True,
                    dash=dash,
                )
            )
    if not series:
        return note("No held-out accuracy has been measured.")
    rules = [Rule(0.5, "guessing")]
    if ceiling is not None:
        rules.append(Rule(ceiling, "best possible against noisy labels", "accent"))
    title = f"{stage.name}: share of held-out pairs ranked right"
    chart = Chart(
        title=title, x_label="optimizer steps", y_label="accuracy (share)", series=series, rules=rules
    )
    prompts = {e["accuracy"].get("count") for e in stage.evaluations if isinstance(e.get("accuracy"), dict)}
    caption = (
        "Higher is better. Against noisy labels nobody can pass the upper line; against gold the limit is 1. "
        f"Pairs of {', '.join(str(p) for p in sorted(prompts, key=str))} held-out prompts; 95 % intervals "
        f"over prompts."
    )
    return figure(title, draw(chart), caption, legend=legend(series))


def _loss(stage: StageData, ceiling: float | None) -> str:
    steps, values = stage.curve("reward/loss/bradley_terry")
    series = with_running_mean(Series("training batches", steps, values, tone="accent")) if values else []
    known = [(float(e["step"]), v) for e in stage.evaluations if (v := number_in(e, "nll")) is not None]
    if known:
        held = Series("held-out pairs", [x for x, _ in known], [y for _, y in known], tone="gain", dots=True)
        series.append(held)
    if not series:
        return note("No losses have been logged.")
    rules = [Rule(0.6931, "guessing (ln 2)")] + (
        [Rule(ceiling, "label noise")] if ceiling is not None else []
    )
    chart = Chart(
        title=f"{stage.name}: Bradley-Terry loss",
        x_label="optimizer steps",
        y_label="loss (nats per pair)",
        series=series,
        rules=rules,
    )
    caption = (
        "Lower is better. Training far below held-out means memorised labels. Each training point is one "
        "batch."
    )
    return figure(chart.title, draw(chart), caption, legend=legend(series))


def _reliability(after: dict[str, Any]) -> str:
    """Predicted against observed, where the stage stored its reliability table."""
    bins = [
        (x, y, number_in(row, "count"))
        for row in after.get("reliability", [])
        if (x := number_in(row, "mean_predicted")) is not None
        and (y := number_in(row, "observed_share")) is not None
    ]
    if not bins:
        return ""
    series = [
        Series("perfectly calibrated", [0.0, 1.0], [0.0, 1.0], tone="muted", dash="2 4", thin=True),
        Series("this reward model", [b[0] for b in bins], [b[1] for b in bins], tone="accent", dots=True),
    ]
    chart = Chart(
        title="Does 70 % mean 70 %?",
        x_label="predicted probability that the first shown wins",
        y_label="observed share",
        series=series,
        y_range=(0.0, 1.0),
    )
    pairs = sum(int(count) for _, _, count in bins if count)
    caption = (
        f"On the diagonal is calibrated; flatter than it is over-confident. {pairs} held-out pairs in "
        f"{len(bins)} bins of equal width."
    )
    return figure(chart.title, draw(chart), caption, legend=legend(series))
