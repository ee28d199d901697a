"""Direct alignment: are the pairs told apart, and at whose expense; on the way, what the judge made of it."""

from __future__ import annotations

from typing import Any

from ridgeline.workbench.report.chart import Rule, Series
from ridgeline.workbench.report.curves import (
    counted,
    heldout,
    learning_facts,
    loss_picture,
    objective_words,
    picture,
    small,
    training,
)
from ridgeline.workbench.report.markup import facts, grid, interval, note, text, whole
from ridgeline.workbench.report.rl_pictures import Small, pictures
from ridgeline.workbench.report.rl_view import METHODS, RlView, function_names, plain, rl_views
from ridgeline.workbench.report.source import RunData, StageData, number_in
from ridgeline.workbench.report.stage_rl import LENGTH, STOPPED

SIDES = (("chosen", "gain", ""), ("rejected", "control", "6 4"))
SMALL = (
    Small("kl_k1", "KL to the reference", "nats per completion (k1)", "how far the policy has gone"),
    Small("preferred", "Preferred over the mixture", "share of duels", "a half is as good", share=True),
    Small("discriminator_agrees", "Judge agrees with gold", "share of pairs", "before it learns", share=True),
    Small("labels", "New labels", "pairs per step", "what the judge was taught by"),
    Small("accuracy", "Winner ahead", "share of pairs", "by log-ratio, before the step", share=True),
    Small("margin", "Margin", "nats", "log-ratio of winner minus loser"),
    Small("log_ratio/chosen", "Log-ratio of winners", "nats per completion", "above 0: likelier than before"),
    Small("log_ratio/rejected", "Log-ratio of losers", "nats per completion", "both below 0: displacement"),
    Small("ties", "No pair", "share of prompts", "equal texts or rewards teach nothing", share=True),
    LENGTH,
    STOPPED,
    Small("gradient_norm", "Gradient norm", "before clipping", "spikes are a warning"),
)


def preference(run: RunData, stage: StageData) -> str:
    """Pairs that were given, or rewards and KL by step where they were made on the way."""
    view = next((view for view in rl_views(run) if view.stage is stage), None)
    return _offline(stage) if view is None else _online(view)


def _offline(stage: StageData) -> str:
    result = stage.result or {}
    dropped = result.get("dropped")
    last = stage.evaluations[-1] if stage.evaluations else {}
    numbers = [
        ("Objective", objective_words(stage.config.get("objective"), "dpo")),
        ("Pairs", whole(number_in(result, "pairs"))),
        ("Held-out pairs", whole(number_in(result, "heldout_pairs"))),
        ("Dropped pairs", text(sum(dropped.values())) if isinstance(dropped, dict) and dropped else ""),
        ("Held-out accuracy", interval(last["accuracy"]) if "accuracy" in last else ""),
        ("Margin", f"{interval(last['margin'])} {_margin_unit(stage)}" if "margin" in last else ""),
        ("Compared with", _reference(stage)),
        *learning_facts(stage),
    ]
    if not stage.metrics and not stage.evaluations:
        return facts(numbers) + note("No training steps have been logged.")
    figures = [
        _accuracy(stage),
        _log_probs(stage),
        _margin(stage),
        loss_picture(stage, "loss (mean per pair)", rules=_start(stage)),
    ]
    sides = SIDES if _has_reference(stage) else ()
    smalls = [
        small(
            stage, f"logp/{side}", f"Log-prob of {side}", "nats per completion", "Training batches, as it is"
        )
        for side, _, _ in sides
    ]
    smalls.append(small(stage, "gradient_norm", "Gradient norm", "before clipping", "Spikes are a warning"))
    drawn = grid(f for f in figures if f) + grid((s for s in smalls if s), "small")
    return facts(numbers) + displacement(stage) + drawn


def _has_reference(stage: StageData) -> bool:
    named = [name for line in stage.evaluations[:1] for name in line] or list(stage.names())
    return "log_ratio/chosen" in named


def _reference(stage: StageData) -> str:
    if not _has_reference(stage):
        return "nothing" if stage.metrics else ""
    refresh = stage.config.get("refresh")
    moved = f", moved every {whole(number_in(refresh, 'every'))} steps" if isinstance(refresh, dict) else ""
    return text(stage.config.get("reference") or "its own start") + moved


def _margin_unit(stage: StageData) -> str:
    return "nats" if _has_reference(stage) else "nats per token"


def _accuracy(stage: StageData) -> str:
    series = [
        training(stage, "accuracy", thin=True),
        heldout(stage, "accuracy", label="held-out pairs"),
    ]
    way = "by its log-ratio to the reference" if _has_reference(stage) else "by its log-prob per token"
    caption = (
        f"Share of pairs whose chosen side is ahead {way}; ties count half. Pairs of "
        f"{counted(stage, 'accuracy')}; bars are 95 % intervals over prompts."
    )
    return picture(
        "Pairs told apart",
        "accuracy (share)",
        series,
        caption,
        rules=[Rule(0.5, "guessing")],
        y_range=(0.0, 1.0),
    )


def _log_probs(stage: StageData) -> str:
    """Both sides in one picture: a margin alone does not show that both fall."""
    relative = _has_reference(stage)
    name = "log_ratio" if relative else "logp"
    series: list[Series] = []
    for side, tone, dash in SIDES:
        series.append(training(stage, f"{name}/{side}", label="", tone=tone, thin=True, dash=dash))
        series.append(heldout(stage, f"{name}/{side}", label=f"{side}, held-out", tone=tone, dash=dash))
    what = "Log-prob against the reference" if relative else "Log-prob"
    caption = (
        f"{what} of whole completions. The gap between the curves is the margin; where both sink, the "
        "probability goes to texts that are neither (likelihood displacement). Thin: training batches."
    )
    rules = [Rule(0.0, "reference")] if relative else []
    unit = "log-ratio (nats per completion)" if relative else "log-prob (nats per completion)"
    return picture("Chosen and rejected", unit, series, caption, rules=rules)


def _margin(stage: StageData) -> str:
    series = [training(stage, "margin", thin=True), heldout(stage, "margin", label="held-out pairs")]
    ahead = "log-ratio" if _has_reference(stage) else "log-prob per token"
    caption = f"{ahead[0].upper()}{ahead[1:]} of the chosen side minus that of the rejected one."
    return picture(
        "Margin", f"margin ({_margin_unit(stage)})", series, caption, rules=[Rule(0.0, "no preference")]
    )


def _start(stage: StageData) -> list[Rule]:
    return [Rule(0.6931, "no preference (ln 2)")] if stage.config.get("objective") == "dpo" else []


def displacement(stage: StageData) -> str:
    """Whether what was chosen became less likely too, as a paragraph (markup)."""
    clause = displacement_clause(stage)
    return f'<p class="verdict">Held-out{clause.removeprefix(";")}.</p>' if clause else ""


def displacement_clause(stage: StageData) -> str:
    """The same as a clause that follows another; nothing where the interval includes no change (markup)."""
    change = _chosen_change(stage)
    if change is None or change["low"] is None or change["high"] is None:
        return ""
    shown = f"{interval(change, signed=True)} nats"
    if change["high"] < 0:
        return f"; chosen completions became less likely too, by {shown} <b>(likelihood displacement)</b>"
    return f"; chosen completions became likelier, by {shown}" if change["low"] > 0 else ""


def _chosen_change(stage: StageData) -> dict[str, Any] | None:
    """Change of the log-prob of held-out chosen completions since the start, where an interval is known."""
    lines = [line["log_ratio/chosen"] for line in stage.evaluations if "log_ratio/chosen" in line]
    if len(lines) < 2 or number_in(lines[0], "value") not in (0.0, -0.0):
        return None
    last = {key: number_in(lines[-1], key) for key in ("value", "low", "high")}
    return last if last["value"] is not None else None


def _online(view: RlView) -> str:
    config, settings = view.stage.config, view.settings
    batch = [number_in(settings, key) for key in ("prompts_per_step", "samples_per_prompt")]
    judges = [plain(name) for name in function_names(settings.get("reward"))]
    discriminator = settings.get("discriminator")
    if isinstance(discriminator, dict):
        judges = [f"{discriminator.get('start')}, taught by {_gold_of(discriminator)}"]
    method = METHODS.get(str(settings.get("method")), "DPO")
    nash = settings.get("method") == "nash_md"
    numbers = [
        ("Method", f"online {method}"),
        ("Objective", "policy gradient" if nash else objective_words(config.get("objective"), "dpo")),
        ("Judged by", text(" + ".join(judges))),
        ("Watched, not judged by", text(plain(view.gold or ""))),
        ("A step", f"{whole(batch[0])} prompts × {whole(batch[1])} samples" if None not in batch else ""),
        *learning_facts(view.stage),
    ]
    absent = "" if view.stage.metrics else note("No training steps have been logged.")
    return facts(numbers) + pictures(view, SMALL) + absent


def _gold_of(discriminator: dict[str, Any]) -> str:
    return plain(next(iter(function_names([discriminator.get("gold", "")])), ""))
