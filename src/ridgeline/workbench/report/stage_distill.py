"""Distillation: how far the student still is from its teacher, and what its text costs both of them."""

from __future__ import annotations

from typing import Any

from ridgeline.workbench.report.curves import heldout, learning_facts, picture, small, training
from ridgeline.workbench.report.markup import facts, grid, note, number, text, whole
from ridgeline.workbench.report.rl_view import plain
from ridgeline.workbench.report.smooth import with_running_mean
from ridgeline.workbench.report.source import RunData, StageData, number_in

MODES = {
    "offline": "given demonstrations",
    "sequence": "what the teacher wrote",
    "on_policy": "what the student writes",
    "policy_gradient": "what the student writes, by policy gradient",
    "minillm": "what student and teacher write, MiniLLM",
    "self": "what the student writes, with a hint for itself as the teacher",
}
DIVERGENCES = {
    "forward_kl": "forward KL",
    "reverse_kl": "reverse KL",
    "jsd": "generalised JSD",
    "top_k": "KL over the likeliest tokens",
}


def distill(run: RunData, stage: StageData) -> str:
    """Numbers, the divergence to the teacher, the negative log-likelihoods, small multiples."""
    config, result = stage.config, stage.result or {}
    numbers = [
        ("Learns from", text(MODES.get(str(config.get("mode")), config.get("mode", "")))),
        ("Teacher", text(", ".join(_teachers(stage)))),
        ("Divergence", text(_divergence(stage))),
        ("Rows", whole(number_in(result, "rows"))),
        ("Held-out rows", whole(number_in(result, "heldout_rows"))),
        ("Passes", number(passes) if (passes := number_in(result, "epochs")) is not None else ""),
        *(
            (name, f"{_ends(values)} nats/token")
            for name, measure in (
                ("Divergence, given text", "divergence"),
                ("Divergence, own text", "own_divergence"),
                ("Held-out NLL", "nll"),
            )
            if (values := heldout(stage, measure).y)
        ),
        *learning_facts(stage),
    ]
    if not stage.metrics and not stage.evaluations:
        return facts(numbers) + note("No training steps have been logged.")
    figures = [_closeness(stage), _likelihood(stage), *_rewards(stage)]
    smalls = [
        small(stage, "length", "Completion length", "tokens", "Watch for growth or collapse"),
        small(stage, "stopped", "Stopped by itself", "share of completions", "The rest was cut at the limit"),
        small(stage, "on_policy", "Written by the student", "share of rows", "The rest was taken from data"),
        small(stage, "importance_weight", "Importance weight", "per token", "Near 1 is close to the sampler"),
        small(stage, "skipped_prompts", "Nothing to show", "share of prompts", "Prompts without a hint"),
        small(stage, "gradient_norm", "Gradient norm", "before clipping", "Spikes are a warning"),
    ]
    return facts(numbers) + grid(f for f in figures if f) + grid((s for s in smalls if s), "small")


def _teachers(stage: StageData) -> list[str]:
    """As the recipe names them, a path by its last part."""
    given: list[Any] = stage.config.get("teacher") or []
    names = [str(each.get("model") if isinstance(each, dict) else each) for each in given]
    if not names:
        return ["itself"] if stage.config.get("mode") == "self" else ["a file of its answers"]
    return [name.rstrip("/").rpartition("/")[2] if name.startswith("/") else name for name in names]


def _divergence(stage: StageData) -> str:
    found = (stage.result or {}).get("divergence") or stage.config.get("divergence")
    kind = str(found.get("kind") if isinstance(found, dict) else found or "")
    temperature = number_in(found, "temperature")
    at = f" at temperature {temperature:g}" if temperature not in (None, 1.0) else ""
    return DIVERGENCES.get(kind, kind) + at


def _ends(values: Any) -> str:
    return " → ".join(number(value) for value in (values[0], values[-1]))


def _closeness(stage: StageData) -> str:
    name = "divergence" if "divergence" in stage.names() else "loss/divergence"
    train = training(stage, name)
    series = [
        *(with_running_mean(train) if train.y else []),
        heldout(stage, "divergence", label="given text, held-out"),
        heldout(
            stage, "own_divergence", label="the student's own text, held-out prompts", tone="gold", dash="6 4"
        ),
    ]
    kind = _divergence(stage)
    caption = (
        f"{kind[:1].upper()}{kind[1:]} between teacher and student at a position, mean over positions; 0 is "
        "the same distribution. Evaluations use the same rows and draws every time."
    )
    return picture("Distance to the teacher", "divergence (nats per token)", series, caption, include=[0.0])


def _likelihood(stage: StageData) -> str:
    series = [
        training(stage, "nll", label="student, training text", thin=True),
        training(stage, "teacher_nll", label="teacher, training text", tone="muted", thin=True, dash="2 4"),
        heldout(stage, "nll", label="student, given text held-out"),
    ]
    caption = (
        "Negative log-likelihood of the text at hand. Of text that the student writes its own is lower, by "
        "the reverse KL; of given text it falls toward the teacher's."
    )
    return picture("Likelihood", "nll (nats per token)", series, caption)


def _rewards(stage: StageData) -> list[str]:
    names = {key for line in stage.evaluations for key in line if key.startswith("reward/")}
    names |= {name for name in stage.names() if name.startswith("reward/")}
    shown = sorted(names - {"reward/total"}) or sorted(names)
    return [
        picture(
            f"Reward: {plain(name.removeprefix('reward/'))}",
            "reward (mean per completion)",
            [training(stage, name, thin=True), heldout(stage, name, label="held-out prompts")],
            "Of the completions that the student learned from; bars are 95 % intervals over prompts.",
        )
        for name in shown
    ]
