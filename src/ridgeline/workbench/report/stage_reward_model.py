"""The reward model: what it gets right, how far that can go, calibration, loss; for every kind of model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ridgeline.workbench.report.chart import Chart, Rule, Series, draw, legend
from ridgeline.workbench.report.heatmap import heatmap
from ridgeline.workbench.report.markup import facts, figure, grid, interval, note, number, table, text, whole
from ridgeline.workbench.report.reward_kind import RewardKind, reward_kind
from ridgeline.workbench.report.smooth import with_running_mean
from ridgeline.workbench.report.source import Curve, RunData, StageData, number_in


def reward_model(run: RunData, stage: StageData) -> str:
    """Numbers, up to three pictures, groups where there are some, and completions token by token."""
    result, after, kind = stage.result or {}, _after(stage), reward_kind(stage.config)
    ceiling = number_in(result, "ceiling", "accuracy")
    pictures = [
        _accuracy(stage, kind, ceiling),
        _loss(stage, kind, number_in(result, "ceiling", "nll")),
        _reliability(after, kind),
    ]
    return facts(_rows(kind, result, after)) + grid(pictures) + _groups(after) + heatmap(stage)


def _rows(kind: RewardKind, result: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str]]:
    ceiling = number_in(result, "ceiling", "accuracy")
    rows = [(label, _value(after.get(key))) for key, label in kind.measures.items()]
    if ceiling is not None:
        rows.append(("Ceiling of label noise", number(ceiling)))
    combined = result.get("combined")
    if isinstance(combined, dict):
        rows.append((f"Accuracy of {combined.get('how', 'the reward')}", _value(combined.get("accuracy"))))
    loss, limit = number_in(after, "nll"), number_in(result, "ceiling", "nll")
    allowed = f" (noise allows {number(limit)})" if limit is not None else ""
    rows += [
        ("Held-out loss", "" if loss is None else f"{number(loss)} nats/{kind.per}{allowed}"),
        (f"Training {kind.units}", whole(number_in(result, kind.units))),
        (f"Held-out {kind.units}", whole(number_in(result, f"heldout_{kind.units}"))),
    ]
    dropped = result.get("dropped")
    if isinstance(dropped, dict) and dropped:
        rows.append((f"Dropped {kind.units}", text(sum(dropped.values()))))
    return rows


def _value(value: Any) -> str:
    """A number or an interval; nothing where neither is there."""
    if isinstance(value, dict):
        return interval(value) if number_in(value, "value") is not None else ""
    found = number_in({"value": value}, "value")
    return "" if found is None else number(found)


def _after(stage: StageData) -> dict[str, Any]:
    """What the result says, else the last evaluation so far."""
    after = (stage.result or {}).get("after")
    return after if isinstance(after, dict) else stage.evaluations[-1] if stage.evaluations else {}


def _accuracy(stage: StageData, kind: RewardKind, ceiling: float | None) -> str:
    series = []
    for key, label, tone, dash in kind.curves:
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
    majority = number_in(_after(stage), "majority")
    guess = Rule(0.5, "guessing") if majority is None else Rule(majority, "always the more frequent label")
    rules = [guess]
    if ceiling is not None:
        rules.append(Rule(ceiling, "best possible against noisy labels", "accent"))
    title = f"{stage.name}: {kind.title}"
    chart = Chart(
        title=title, x_label="optimizer steps", y_label="accuracy (share)", series=series, rules=rules
    )
    prompts = {e["accuracy"].get("count") for e in stage.evaluations if isinstance(e.get("accuracy"), dict)}
    counts = ", ".join(str(prompt) for prompt in sorted(prompts, key=str))
    caption = f"Higher is better. {kind.limit} {counts} held-out prompts; 95 % intervals over prompts."
    return figure(title, draw(chart), caption, legend=legend(series))


def _loss(stage: StageData, kind: RewardKind, ceiling: float | None) -> str:
    steps, values = _training_loss(stage, kind)
    series = with_running_mean(Series("training batches", steps, values, tone="accent")) if values else []
    known = [(float(e["step"]), v) for e in stage.evaluations if (v := number_in(e, "nll")) is not None]
    if known:
        label = f"held-out {kind.units}"
        series.append(Series(label, [x for x, _ in known], [y for _, y in known], tone="gain", dots=True))
    if not series:
        return note("No losses have been logged.")
    rules = [Rule(kind.guess, kind.guess_label)] if kind.guess is not None else []
    if ceiling is not None:
        rules.append(Rule(ceiling, "label noise"))
    chart = Chart(
        title=f"{stage.name}: {kind.loss_title}",
        x_label="optimizer steps",
        y_label=f"loss (nats per {kind.per})",
        series=series,
        rules=rules,
    )
    caption = (
        "Lower is better. Training far below held-out means memorised labels. Each training point is one "
        "batch."
    )
    return figure(chart.title, draw(chart), caption, legend=legend(series))


def _training_loss(stage: StageData, kind: RewardKind) -> Curve:
    """By step; of several heads their mean."""
    heads = [stage.curve(name) for name in stage.names() if name.startswith(f"reward/loss/{kind.loss}")]
    by_step: dict[float, list[float]] = {}
    for steps, values in heads:
        for step, value in zip(steps, values, strict=True):
            by_step.setdefault(step, []).append(value)
    ordered = sorted(by_step)
    return ordered, [sum(by_step[step]) / len(by_step[step]) for step in ordered]


def _reliability(after: Mapping[str, Any], kind: RewardKind) -> str:
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
        x_label=kind.predicted,
        y_label="observed share",
        series=series,
        y_range=(0.0, 1.0),
    )
    judged = sum(int(count) for _, _, count in bins if count)
    caption = (
        f"On the diagonal is calibrated; flatter than it is over-confident. {judged} held-out {kind.judged} "
        f"in {len(bins)} bins of equal width."
    )
    return figure(chart.title, draw(chart), caption, legend=legend(series))


def _groups(after: Mapping[str, Any]) -> str:
    """A head of its own against the one that all groups share."""
    groups = after.get("groups")
    if not isinstance(groups, dict) or not groups:
        return ""
    rows = [
        [
            text(name),
            whole(number_in(group, "units")),
            _value(group.get("accuracy")),
            _value(group.get("accuracy_shared")),
        ]
        for name, group in groups.items()
        if isinstance(group, dict)
    ]
    head = ["group", "held out", "accuracy of its own head", "of the shared head"]
    return "<h3>By group</h3>" + table(head, rows, label="Held-out accuracy by group")
