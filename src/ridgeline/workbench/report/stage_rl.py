"""Policy optimisation: rewards, held-out and in training, and what else moved."""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline.workbench.report.chart import Chart, Series, draw, legend
from ridgeline.workbench.report.markup import (
    details,
    facts,
    figure,
    grid,
    interval,
    note,
    number,
    table,
    text,
    whole,
)
from ridgeline.workbench.report.rl_view import RlView, plain, rl_views
from ridgeline.workbench.report.source import RunData, StageData, number_in


@dataclass(frozen=True, slots=True)
class Small:
    """A small picture of one metric."""

    metric: str
    title: str
    unit: str
    reading: str
    share: bool = False


SMALL = (
    Small(
        "kl_k1",
        "KL to the reference",
        "nats per completion (k1)",
        "distance walked; may dip below 0 by noise",
    ),
    Small("kl_k3_per_token", "KL per token", "nats per token (k3)", "same distance, never negative"),
    Small("entropy", "Entropy", "nats per token", "a fall means less exploration"),
    Small("length", "Completion length", "tokens", "watch for growth or collapse without reward"),
    Small(
        "stopped", "Stopped by itself", "share of completions", "the rest was cut at the limit", share=True
    ),
    Small("clip_fraction", "Clip fraction", "share of tokens", "0 when strictly on-policy", share=True),
    Small(
        "dead_groups", "Dead groups", "share of prompts", "all samples equal: nothing to learn", share=True
    ),
    Small("reward_spread", "Reward spread", "sd within a group", "what advantages are made of"),
    Small("gradient_norm", "Gradient norm", "before clipping", "spikes are a warning"),
    Small("kl_coefficient", "KL coefficient", "reward per nat", "moves only when adaptive"),
    Small("critic/value_error", "Critic error", "squared reward", "should fall, then level"),
)


def rl(run: RunData, stage: StageData) -> str:
    """Numbers, the two reward curves, small multiples, and the held-out evaluations as a table."""
    view = next(view for view in rl_views(run) if view.stage is stage)
    rewards = [_reward(view, name, tone) for name, tone in _named(view)]
    shown = [small for small in SMALL if _moves(view, small)]
    if len(rewards) == 1 and shown:
        # With a single reward there is room beside it for how far the policy has gone.
        rewards.append(_small(view, shown.pop(0), large=True))
    smalls = [_small(view, small) for small in shown]
    speed = _speed(view)
    pictures = grid(rewards) + grid([*smalls, *([speed] if speed else [])], "small")
    missing = [s.title.lower() for s in SMALL[:9] if s.metric not in stage.names()]
    absent = note(f"Not logged: {', '.join(missing)}.") if stage.metrics and missing else ""
    if not stage.metrics:
        absent = note("No training steps have been logged.")
    return _facts(view) + pictures + absent + _table(view)


def _named(view: RlView) -> list[tuple[str, str]]:
    """Gold first, then what was trained on, in the page's colours."""
    if view.gold is None:
        return [(view.proxy, "gain")]
    return [(view.gold, "gold"), (view.proxy, "proxy")]


def _facts(view: RlView) -> str:
    config, result = view.stage.config, view.stage.result or {}
    objective = result.get("objective") or config.get("objective")
    if isinstance(objective, dict):
        objective = objective.get("preset", "custom")
    estimator = " ".join(
        str(kl[key])
        for kl in [result.get("kl")]
        if isinstance(kl, dict)
        for key in ("estimator", "placement")
    )
    batch = [number_in(config, key) for key in ("prompts_per_step", "samples_per_prompt")]
    size = f"{whole(batch[0])} prompts × {whole(batch[1])} samples" if None not in batch else ""
    rate = number_in(config, "optimiser", "learning_rate")
    return facts(
        [
            ("Objective", text(objective or "")),
            (
                "Leash",
                text(view.leash) + (f" ({text(estimator)})" if estimator and view.leash[0] == "K" else ""),
            ),
            ("Trained on", text(plain(view.proxy))),
            ("Watched, not trained on", text(plain(view.gold or ""))),
            ("A rollout", size),
            ("Rollouts", whole(number_in(config, "steps"))),
            (
                "Learning rate",
                f"{rate:.0e}".replace("e-0", "e-").replace("-", "−") if rate is not None else "",
            ),
        ]
    )


def _reward(view: RlView, name: str, tone: str) -> str:
    held = view.heldout(f"reward/{name}", label="held-out prompts", tone=tone)
    train = view.training(f"reward/{name}", label="training batches", tone=tone, thin=True)
    series = [s for s in (train, held) if s.y]
    role = "reward" if view.gold is None else "gold reward" if name == view.gold else "proxy reward"
    title = f"{role.capitalize()}: {plain(name)}"
    if not series:
        return note(f"{title}: nothing has been logged.")
    trained = "what the policy is trained on" if name == view.proxy else "watched, never trained on"
    counts = {e[f"reward/{name}"].get("count") for e in view.stage.evaluations if f"reward/{name}" in e}
    chart = Chart(title=title, x_label="rollouts", y_label=f"{role} (mean per completion)", series=series)
    rests = f" Held-out: {', '.join(str(c) for c in sorted(counts, key=str))} prompts" if counts else ""
    samples = {e.get("samples") for e in view.stage.evaluations} - {None}
    rests += f", {samples.pop()} samples an evaluation" if len(samples) == 1 and counts else ""
    ends = "; bars are 95 % intervals over prompts." if counts else ""
    caption = f"{trained[0].upper()}{trained[1:]}.{rests}{ends}"
    return figure(title, draw(chart), caption, legend=legend(series))


def _moves(view: RlView, small: Small) -> bool:
    values = view.training(small.metric).y
    return bool(values) and (small.metric != "kl_coefficient" or len(set(values)) > 1)


def _small(view: RlView, small: Small, *, large: bool = False) -> str:
    series = [view.training(small.metric, label="training batches", tone="ink")]
    held = view.heldout(small.metric, label="held-out", tone="accent")
    if held.y:
        series.append(held)
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
