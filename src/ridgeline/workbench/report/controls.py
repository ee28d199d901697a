"""A stage and its control: the same prompts, another reward, one measure that both record."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ridgeline.workbench.report.chart import Chart, Rule, Series, draw, legend
from ridgeline.workbench.report.markup import figure, grid, interval, section, text
from ridgeline.workbench.report.rl_view import RlView, plain, rl_views
from ridgeline.workbench.report.source import RunData


@dataclass(frozen=True)
class Pair:
    """``main`` was trained on what it is measured by, or on an honest proxy of it; ``control`` was not."""

    main: RlView
    control: RlView
    measure: str
    binary: bool

    @property
    def measure_name(self) -> str:
        return "pass@1" if self.binary else plain(self.measure)


def controls(run: RunData) -> str:
    """A picture and a sentence for every pair found."""
    pairs = find_pairs(run)
    checkable = any(pair.binary for pair in pairs)
    return section(
        "What the reward itself did",
        grid(f(pair) for pair in pairs for f in (_picture, _training))
        + "".join(f'<p class="verdict">{sentence(p)}</p>' for p in pairs),
        kicker="Verifiable rewards and their control" if checkable else "Controls",
        anchor="controls",
    )


def find_pairs(run: RunData) -> list[Pair]:
    """Pairs of stages of one kind with the same prompts and start, another reward and a common measure."""
    views = rl_views(run)
    pairs = []
    for position, first in enumerate(views):
        for second in views[position + 1 :]:
            if _same_task(first, second) and first.proxy != second.proxy:
                pair = _pair(run, first, second)
                if pair is not None:
                    pairs.append(pair)
    return pairs


def _same_task(first: RlView, second: RlView) -> bool:
    keys = ("prompts", "heldout", "method")
    same_start = all(first.stage.config.get(key) == second.stage.config.get(key) for key in ("type", "model"))
    return same_start and all(first.settings.get(key) == second.settings.get(key) for key in keys)


def _pair(run: RunData, first: RlView, second: RlView) -> Pair | None:
    for main, control in ((first, second), (second, first)):
        if control.gold == main.proxy and main.heldout(f"reward/{main.proxy}").x:
            return Pair(main, control, main.proxy, _is_binary(main, main.proxy))
    if first.gold is None or first.gold != second.gold:
        return None
    # Both watch the same gold. Two honest rewards are not each other's control: one has to be known as it.
    first_is, second_is = (_is_control(run, view) for view in (first, second))
    if first_is == second_is:
        return None
    main, control = (second, first) if first_is else (first, second)
    return Pair(main, control, first.gold, _is_binary(main, first.gold))


def _is_control(run: RunData, view: RlView) -> bool:
    """Whether its reward was learned from shuffled labels, or its name says that it is a control."""
    judge = run.named(view.proxy)
    collected = run.named(str(judge.config.get("data"))) if judge is not None else None
    annotator = collected.config.get("annotator") if collected is not None else None
    shuffled = isinstance(annotator, dict) and bool(annotator.get("shuffle_labels"))
    return shuffled or any(word in view.stage.name for word in ("control", "shuffled", "random"))


def _is_binary(view: RlView, reward: str) -> bool:
    values = {
        sample.rewards.get(reward) for samples in view.evaluation_files().values() for sample in samples
    }
    return bool(values - {None}) and values <= {0.0, 1.0, None}


def _picture(pair: Pair) -> str:
    held = f"reward/{pair.measure}"
    series: list[Series] = []
    for view, tone, dash in ((pair.main, "gain", ""), (pair.control, "control", "6 4")):
        name = f"{view.stage.name}, trained on {plain(view.proxy)}"
        series.append(view.heldout(held, label=name, tone=tone, dash=dash))
    title = f"{pair.measure_name} by rollout: {pair.main.stage.name} and its control"
    rules = [Rule(series[0].y[0], "start")] if series[0].y else []
    chart = Chart(
        title=title,
        x_label="rollouts",
        y_label=f"{pair.measure_name}, held-out" + (" (share correct)" if pair.binary else " (reward)"),
        series=series,
        rules=rules,
        y_range=(0.0, 1.0) if pair.binary else None,
    )
    counts = {e[held].get("count") for e in pair.main.stage.evaluations if held in e}
    caption = (
        f"Both stages saw the same prompts and were measured by {plain(pair.measure)}; only the reward they "
        f"were trained on differs. If the dashed curve rose too, the gain would not come from the reward. "
        f"Held-out, {', '.join(str(count) for count in sorted(counts, key=str))} prompts; bars are 95 % "
        f"intervals over prompts."
    )
    return figure(title, draw(chart), caption, legend=legend(series))


def _training(pair: Pair) -> str:
    metric = f"reward/{pair.measure}"
    series = [
        replace(view.training(metric, label=view.stage.name, tone=tone), dash=dash)
        for view, tone, dash in ((pair.main, "gain", ""), (pair.control, "control", "6 4"))
    ]
    if not all(s.y for s in series):
        return ""
    title = f"{pair.measure_name} on training batches"
    chart = Chart(
        title=title,
        x_label="rollouts",
        y_label=f"{pair.measure_name}, training" + (" (share correct)" if pair.binary else " (reward)"),
        series=series,
        y_range=(0.0, 1.0) if pair.binary else None,
    )
    caption = (
        "The same measure on the batches that were trained on: a point each rollout, noisier, no interval."
    )
    return figure(title, draw(chart), caption, legend=legend(series))


def sentence(pair: Pair) -> str:
    """Before and after of both stages (markup)."""
    parts = []
    for view in (pair.main, pair.control):
        lines = [e[f"reward/{pair.measure}"] for e in view.stage.evaluations if f"reward/{pair.measure}" in e]
        if lines:
            parts.append(
                f"<b>{text(view.stage.name)}</b> (trained on {text(plain(view.proxy))}) "
                f"{interval(lines[0])} → {interval(lines[-1])}"
            )
    return f"{text(pair.measure_name)}: " + "; ".join(parts) + "." if parts else ""
