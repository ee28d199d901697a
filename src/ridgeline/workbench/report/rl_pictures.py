"""The pictures of a stage that samples and learns: rewards, small multiples, evaluations as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ridgeline.workbench.report.chart import Chart, Series, draw, legend
from ridgeline.workbench.report.markup import (
    details,
    figure,
    grid,
    interval,
    note,
    number,
    table,
    whole,
)
from ridgeline.workbench.report.rl_view import RlView, plain
from ridgeline.workbench.report.source import number_in


@dataclass(frozen=True, slots=True)
class Small:
    """A small picture of one metric."""

    metric: str
    title: str
    unit: str
    reading: str
    share: bool = False


def pictures(view: RlView, small: Sequence[Small]) -> str:
    """The reward curves, then those of ``small`` that have been logged, then the evaluations as a table."""
    rewards = [_reward(view, name, tone) for name, tone in _named(view)]
    shown = [each for each in small if _moves(view, each)]
    if len(rewards) == 1 and shown:
        # With a single reward there is room beside it for how far the policy has gone.
        rewards.append(_small(view, shown.pop(0), large=True))
    smalls = [_small(view, each) for each in shown]
    speed = _speed(view)
    return grid(rewards) + grid([*smalls, *([speed] if speed else [])], "small") + _table(view)


def _named(view: RlView) -> list[tuple[str, str]]:
    """Gold first, then what was trained on, in the page's colours."""
    if view.gold is None:
        return [(view.proxy, "gain")]
    return [(view.gold, "gold"), (view.proxy, "proxy")]


def _reward(view: RlView, name: str, tone: str) -> str:
    held = view.heldout(f"reward/{name}", label="held-out prompts", tone=tone)
    train = view.training(f"reward/{name}", label="training batches", tone=tone, thin=True)
    series = [s for s in (train, held) if s.y]
    role = "reward" if view.gold is None else "gold reward" if name == view.gold else "proxy reward"
    title = f"{role.capitalize()}: {plain(name)}"
    if not series:
        return note(f"{title}: nothing has been logged.")
    trained = "what the policy is trained on" if name == view.proxy else "watched, never trained on"
    if view.judge_moves and name == view.proxy:
        trained = "what pairs are judged by; the judge learns along, so its scale moves"
    counts = {e[f"reward/{name}"].get("count") for e in view.stage.evaluations if f"reward/{name}" in e}
    chart = Chart(title=title, x_label="rollouts", y_label=f"{role} (mean per completion)", series=series)
    rests = f" Held-out: {', '.join(str(c) for c in sorted(counts, key=str))} prompts" if counts else ""
    samples = {e.get("samples") for e in view.stage.evaluations} - {None}
    rests += f", {samples.pop()} samples an evaluation" if len(samples) == 1 and counts else ""
    ends = "; bars are 95 % intervals over prompts." if counts else ""
    caption = f"{trained[0].upper()}{trained[1:]}.{rests}{ends}"
    return figure(title, draw(chart), caption, legend=legend(series))


def _moves(view: RlView, small: Small) -> bool:
    values = [*view.training(small.metric).y, *view.heldout(small.metric).y]
    return bool(values) and (small.metric != "kl_coefficient" or len(set(values)) > 1)


def _small(view: RlView, small: Small, *, large: bool = False) -> str:
    train = view.training(small.metric, label="training batches", tone="ink")
    held = view.heldout(small.metric, label="held-out", tone="accent")
    series = [each for each in (train, held) if each.y]
    rules = (0.0,) if small.share else ()
    top = max((value for s in series for value in s.y), default=1.0)
    chart = Chart(
        title=small.title,
        x_label="rollouts",
        y_label=small.unit,
        series=series,
        width=460 if large else 270,
        height=290 if large else 176,
        include=rules,
        y_range=(0.0, 1.0) if small.share and top > 0.25 else None,
    )
    caption = (
        small.reading[0].upper()
        + small.reading[1:]
        + ("; blue dots: held-out, with 95 % intervals." if held.y else ".")
    )
    return figure(small.title, draw(chart), caption, legend=legend(series) if large else "")


def _speed(view: RlView) -> str:
    """Completion tokens per second of a whole rollout: sampling, scoring and learning."""
    tokens = {
        int(line["step"]) // view.per_rollout: line["metrics"]["length"][0]
        for line in view.stage.metrics
        if isinstance(line["metrics"].get("length"), list)
    }
    spent: dict[int, float] = {}
    for line in view.stage.timings:
        rollout = int(line["step"]) // view.per_rollout
        seconds = [number_in(line["seconds"], key) or 0.0 for key in ("collect", "learn")]
        spent[rollout] = spent.get(rollout, 0.0) + sum(seconds)
    rollouts = [r for r in sorted(tokens) if spent.get(r)]
    if not rollouts:
        return ""
    chart = Chart(
        title="Speed",
        x_label="rollouts",
        y_label="completion tokens per second",
        series=[Series("", [float(r) for r in rollouts], [tokens[r] / spent[r] for r in rollouts])],
        width=270,
        height=176,
        include=(0.0,),
    )
    return figure(chart.title, draw(chart), "Of the whole rollout: sampling, scoring and learning.")


def _table(view: RlView) -> str:
    lines = view.stage.evaluations
    if not lines:
        return note("No held-out evaluations.")
    columns = [(f"reward/{name}", plain(name)) for name, _ in _named(view)]
    columns += [("kl_k1", "KL (nats)"), ("length", "length (tokens)"), ("stopped", "stopped (share)")]
    columns = [(key, name) for key, name in columns if any(key in line for line in lines)]
    rows = [
        [whole(view.rollout_of(line)), *(interval(line.get(key)) for key, _ in columns)] for line in lines
    ]
    head = ["rollout", *(name for _, name in columns)]
    body = table(head, rows, label=f"Held-out evaluations of {view.stage.name}")
    # How far it was from the start to the end, in one line for who reads only the table.
    kl = number(number_in(lines[-1], "kl_k1", "value"))
    return details(f"The {len(lines)} held-out evaluations as a table, up to {kl} nats", body)
