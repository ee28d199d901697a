"""Instruction tuning: training loss, held-out loss before and after."""

from __future__ import annotations

from ridgeline.workbench.report.chart import Chart, Series, draw, legend
from ridgeline.workbench.report.markup import facts, figure, grid, note, number, text, whole
from ridgeline.workbench.report.smooth import with_running_mean
from ridgeline.workbench.report.source import RunData, StageData, number_in


def sft(run: RunData, stage: StageData) -> str:
    """Numbers and the loss curve."""
    result = stage.result or {}
    counts = [
        (name, whole(number_in(result, key)))
        for name, key in (
            ("Rows", "rows"),
            ("Trained tokens", "trained_tokens"),
            ("Held-out rows", "heldout_rows"),
            ("Cut rows", "truncated"),
        )
        if number_in(result, key) is not None
    ]
    dropped = result.get("dropped")
    if isinstance(dropped, dict):
        counts.append(("Dropped rows", text(sum(dropped.values()) if dropped else 0)))
    losses = [
        (f"Held-out loss {when}", f"{number(value)} nats/token")
        for when in ("before", "after")
        if (value := number_in(result, f"heldout_nll_{when}")) is not None
    ]
    return facts([*losses, *counts]) + grid([_loss(stage), _norm(stage)])


def _loss(stage: StageData) -> str:
    steps, values = stage.curve("loss/nll")
    series = with_running_mean(Series("training batches", steps, values, tone="accent"))
    points = [(line["step"], number_in(line, "nll")) for line in stage.evaluations]
    known = [(float(step), value) for step, value in points if value is not None]
    if known:
        held = Series("held-out rows", [x for x, _ in known], [y for _, y in known], tone="gain", dots=True)
        series.append(held)
    if not values and not known:
        return note("No losses have been logged.")
    tokens = number_in(stage.evaluations[-1], "tokens") if stage.evaluations else None
    rests = f" Held-out points rest on {whole(tokens)} tokens each." if tokens else ""
    chart = Chart(
        title=f"{stage.name}: next-token loss",
        x_label="optimizer steps",
        y_label="loss (nats per trained token)",
        series=series,
    )
    caption = (
        "Lower is better. Each training point is one batch, so it jumps with the batch; the held-out points "
        "use "
        f"the same rows every time and can be compared.{rests}"
    )
    return figure(chart.title, draw(chart), caption, legend=legend(series))


def _norm(stage: StageData) -> str:
    steps, values = stage.curve("gradient_norm")
    if not values:
        return ""
    series = with_running_mean(Series("training batches", steps, values, tone="accent"))
    chart = Chart(
        title=f"{stage.name}: gradient norm",
        x_label="optimizer steps",
        y_label="gradient norm before clipping (L2)",
        series=series,
        include=[0.0],
    )
    limit = number_in(stage.config, "optimiser", "max_gradient_norm")
    clipped = f" Steps above {number(limit)} were scaled down to it." if limit is not None else ""
    caption = f"One point a step; lone spikes are a warning.{clipped}"
    return figure(chart.title, draw(chart), caption, legend=legend(series))
