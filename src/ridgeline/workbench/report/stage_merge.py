"""Model merging: what went in, how far each part is from the result, and what the result is worth."""

from __future__ import annotations

from ridgeline.workbench.report.dots import Dot, dot_plot
from ridgeline.workbench.report.markup import facts, figure, grid, interval, note, number, table, text
from ridgeline.workbench.report.rl_view import plain
from ridgeline.workbench.report.source import RunData, StageData, number_in

MEASURES = {"kl_k1": "KL to the first (nats, k1)", "length": "length (tokens)", "stopped": "stopped (share)"}


def merge(run: RunData, stage: StageData) -> str:
    """The parts as a table, the comparison with the first model as a table and a picture."""
    result = stage.result
    if result is None:
        return note("Nothing has been merged yet.")
    config = stage.config
    pairs = [("Method", text(result.get("method", ""))), ("Task vectors start at", text(_start(stage)))]
    pairs += [
        (name.capitalize(), number(value))
        for name in ("density", "scale")
        if (value := number_in(config, name)) is not None
    ]
    return facts(pairs) + _parts(stage) + _comparison(stage)


def _start(stage: StageData) -> str:
    tasks = stage.config.get("method") in ("task_arithmetic", "ties", "dare")
    return str(stage.config.get("start") or "base") if tasks else ""


def _parts(stage: StageData) -> str:
    result = stage.result or {}
    distances = result.get("distance")
    names = list(distances) if isinstance(distances, dict) else []
    rows = [
        [text(name), number(number_in(result, "weights", name)), _small(number_in(result, "distance", name))]
        for name in names
    ]
    reading = note("Distance: root mean square difference of a weight to the merged one.")
    return table(["model", "weight", "distance"], rows, label="Merged models") + reading if rows else ""


def _small(value: float | None) -> str:
    return "–" if value is None else f"{value:.2e}".replace("-", "−")


def _comparison(stage: StageData) -> str:
    result = stage.result or {}
    before, after, difference = (result.get(key) for key in ("before", "after", "difference"))
    if not (isinstance(before, dict) and isinstance(after, dict) and isinstance(difference, dict)):
        return note("The merged model was not compared; give the stage heldout and rewards.")
    rewards = [key for key in after if key.startswith("reward/")]
    rows = [
        [
            text(MEASURES.get(key) or _name(key)),
            interval(before.get(key)),
            interval(after.get(key)),
            interval(difference.get(key), signed=True),
        ]
        for key in [*rewards, *MEASURES]
        if key in after
    ]
    head = ["held-out", "first model", "merged", "difference"]
    dots = [
        Dot(_name(key), value, number_in(estimate, "low"), number_in(estimate, "high"), "gain")
        for key in rewards
        if (value := number_in(estimate := difference.get(key), "value")) is not None
    ]
    title = "Merged minus first model"
    caption = "Right of the line the merged model is better. Paired by prompt, 95 % intervals over prompts."
    plot = (
        figure(title, dot_plot(title, "difference, held-out", dots, reference=0.0), caption) if dots else ""
    )
    return table(head, rows, label=f"Comparison of {stage.name}") + grid([plot] if plot else [])


def _name(key: str) -> str:
    return plain(key.removeprefix("reward/"))
