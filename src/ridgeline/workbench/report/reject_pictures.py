"""The pictures of rejection sampling: held-out curves, best-of-n curves, histogram, loss."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ridgeline.workbench.report.chart import Chart, Series, draw, legend
from ridgeline.workbench.report.dots import Dot, dot_plot
from ridgeline.workbench.report.markup import figure, whole
from ridgeline.workbench.report.rl_view import plain
from ridgeline.workbench.report.smooth import with_running_mean
from ridgeline.workbench.report.source import StageData, number_in


def heldout(stage: StageData, name: str) -> str:
    """One reward of policy and control over the steps."""
    series = [
        _curve(stage, name, None, "policy", "gain", ""),
        _curve(stage, name, "control", "random control", "control", "6 4"),
    ]
    series = [each for each in series if each.y]
    if not series:
        return ""
    title = f"{plain(name)}, held-out"
    counts = {e[f"reward/{name}"].get("count") for e in stage.evaluations if f"reward/{name}" in e}
    chart = Chart(title, "optimizer steps", f"{plain(name)} (mean per completion)", series)
    caption = (
        "Policy and control start from the same weights, make the same steps and are measured on the same "
        f"draws. {', '.join(str(count) for count in sorted(counts, key=str))} prompts; bars are 95 % "
        "intervals over prompts."
    )
    return figure(title, draw(chart), caption, legend=legend(series))


def _curve(stage: StageData, name: str, part: str | None, label: str, tone: str, dash: str) -> Series:
    points: list[tuple[float, Any]] = []
    for line in stage.evaluations:
        estimate = (line if part is None else line.get(part, {})).get(f"reward/{name}")
        if part is not None and line["step"] == 0:
            estimate = line.get(f"reward/{name}")  # before the first step they are one model
        if number_in(estimate, "value") is not None:
            points.append((float(line["step"]), estimate))
    if part is not None and len(points) < 2:
        points = []
    return Series(
        label,
        [x for x, _ in points],
        [float(e["value"]) for _, e in points],
        tone=tone,
        low=[number_in(e, "low") for _, e in points],
        high=[number_in(e, "high") for _, e in points],
        dash=dash,
        dots=True,
    )


def difference(stage: StageData, names: list[str]) -> str:
    """What the choice by reward did, reward by reward."""
    against = (stage.result or {}).get("against_control")
    if not isinstance(against, dict):
        return ""
    dots = [
        Dot(plain(name), value, number_in(e, "low"), number_in(e, "high"), "gain" if k == 0 else "gold")
        for k, name in enumerate(names)
        if (value := number_in(e := against.get(f"reward/{name}"), "value")) is not None
    ]
    if not dots:
        return ""
    title = "Policy minus random control"
    caption = "Right of the line the choice by reward did something. Paired by prompt, 95 % intervals."
    return figure(title, dot_plot(title, "difference, held-out", dots, reference=0.0), caption)


def best_of_n(last: dict[str, Any], name: str, position: int) -> str:
    """One reward of the best of n; at a ``position`` above 0 it is only watched."""
    curves = last.get("best_of_n")
    if not isinstance(curves, dict) or name not in curves:
        return ""
    watched = position > 0
    series = [_estimates(curves["n"], curves[name], plain(name), "gold" if watched else "proxy")]
    title = f"Best of n: {plain(name)}"
    chart = Chart(title, "n, samples to choose from", f"{plain(name)} of the best by reward", series)
    read = (
        "What is watched, of the completion that the reward ranks first"
        if watched
        else "What the reward gains"
    )
    caption = f"{read}. Over all choices of n among the samples of a prompt; 95 % intervals over prompts."
    return figure(title, draw(chart), caption)


def by_kl(last: dict[str, Any], names: list[str]) -> str:
    """The watched reward over the distance that best-of-n may go, as over-optimisation is drawn."""
    curves = last.get("best_of_n")
    name = names[1] if len(names) > 1 else names[0] if names else ""
    if not isinstance(curves, dict) or name not in curves:
        return ""
    series = [
        _estimates(curves["kl_bound"], curves[name], plain(name), "gold" if len(names) > 1 else "proxy")
    ]
    title = f"Best of n: {plain(name)} by KL"
    chart = Chart(title, "KL to the sampler, at most (nats, root scale)", plain(name), series, root_x=True)
    caption = "From n = 1 at the left; KL of best-of-n is at most log n − (n − 1)/n."
    return figure(title, draw(chart), caption)


def _estimates(xs: list[float], estimates: list[Any], label: str, tone: str) -> Series:
    return Series(
        label,
        [float(x) for x in xs],
        [float(e["value"]) for e in estimates],
        tone=tone,
        low=[number_in(e, "low") for e in estimates],
        high=[number_in(e, "high") for e in estimates],
        dots=True,
    )


def histogram(last: dict[str, Any]) -> str:
    """Rewards of the pool, of what was selected, and of the control."""
    found = last.get("histogram")
    if not isinstance(found, dict) or not found.get("pool"):
        return ""
    parts = (
        ("pool", "whole pool", "muted", ""),
        ("selected", "selected", "gain", ""),
        ("control", "random control", "control", "6 4"),
        ("good", "good ones", "gold", "2 3"),
        ("bad", "bad ones", "pin", "2 3"),
    )
    edges = [float(edge) for edge in found["edges"]]
    series = [
        _steps(edges, found[key], label, tone, dash) for key, label, tone, dash in parts if key in found
    ]
    title = "Rewards by selection"
    chart = Chart(title, "reward", "share of completions", series, include=(0.0,))
    caption = "Each outline holds all of its completions. Selected should stand to the right of the control."
    return figure(title, draw(chart), caption, legend=legend(series))


def _steps(edges: list[float], counts: list[int], label: str, tone: str, dash: str) -> Series:
    total = sum(counts) or 1
    xs = [x for left, right in pairwise(edges) for x in (left, right)]
    ys = [count / total for count in counts for _ in range(2)]
    return Series(label, xs, ys, tone=tone, dash=dash, thin=tone == "muted")


def loss(stage: StageData) -> str:
    """Next-token loss of both arms."""
    steps, values = stage.curve("loss/nll")
    if not values:
        return ""
    series = with_running_mean(Series("selected completions", steps, values, tone="accent"))
    control = Series("random control", *stage.curve("control/loss/nll"), tone="control", dash="6 4")
    series += [control] if control.y else []
    title = f"{stage.name}: next-token loss"
    firsts = {number_in(line, "round"): float(line["step"]) for line in reversed(stage.evaluations)}
    ends = sorted(step for done, step in firsts.items() if done)
    chart = Chart(title, "optimizer steps", "loss (nats per token)", series)
    rounds = f" Rounds end at step {', '.join(whole(end) for end in ends)}." if len(ends) > 1 else ""
    caption = f"Each point is one batch of completions of the model itself.{rounds}"
    return figure(title, draw(chart), caption, legend=legend(series))
