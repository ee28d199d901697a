"""Rejection sampling: the difference to the random control, what best-of-n gives, and what was selected."""

from __future__ import annotations

from typing import Any

from ridgeline.workbench.report import reject_pictures as pictures
from ridgeline.workbench.report.markup import (
    facts,
    grid,
    interval,
    note,
    number,
    percent,
    table,
    text,
    whole,
)
from ridgeline.workbench.report.rl_view import plain
from ridgeline.workbench.report.source import RunData, StageData, number_in

SELECTIONS = {
    "top_per_prompt": "the best of every prompt",
    "top_k": "the best of all prompts",
    "threshold": "whatever reaches the threshold",
    "statistical": "statistical rejection sampling",
}


def reject(run: RunData, stage: StageData) -> str:
    """Numbers, held-out curves of policy and control, best-of-n curves, histogram, rounds as a table."""
    names = _names(stage)
    last = _last(stage)
    figures = [pictures.heldout(stage, name) for name in names[:2]]
    figures.append(pictures.difference(stage, names))
    if last is not None:
        figures += [pictures.best_of_n(last, name, k) for k, name in enumerate(names[:2])]
        figures += [pictures.by_kl(last, names), pictures.histogram(last)]
    figures.append(pictures.loss(stage))
    return (
        _facts(stage, last) + _verdict(stage, names) + grid(f for f in figures if f) + _rounds(stage, names)
    )


def _last(stage: StageData) -> dict[str, Any] | None:
    """What is told of the last round."""
    rounds = (stage.result or {}).get("rounds")
    return rounds[-1] if isinstance(rounds, list) and rounds and isinstance(rounds[-1], dict) else None


def _names(stage: StageData) -> list[str]:
    """As they are recorded: what was selected by, then what was watched."""
    last = _last(stage)
    recorded = list(last["rewards"]) if last is not None else []
    for line in stage.evaluations[:1]:
        recorded = recorded or [k.removeprefix("reward/") for k in line if k.startswith("reward/")]
    if not recorded:
        return []
    selecting = len(stage.config.get("reward", [])) or 1
    by = recorded[0] if selecting == 1 else "total"
    return [by, *(name for name in recorded[selecting:] if name != "total")]


def _facts(stage: StageData, last: dict[str, Any] | None) -> str:
    config, result = stage.config, stage.result or {}
    pairs = [
        ("Selection", text(SELECTIONS.get(str(config.get("selection")), "the best of every prompt"))),
        ("Completions", whole(number_in(result, "samples"))),
        ("Selected", whole(number_in(result, "selected"))),
        ("Rounds", whole(number_in(config, "repeat"))),
        ("Pairs written", whole(number_in(result, "pairs"))),
    ]
    if last is not None:
        of = f"{whole(number_in(last, 'selected_prompts'))} of {whole(number_in(last, 'prompts'))}"
        pairs.append(("Prompts with a selected completion", of))
        left_out = last.get("left_out")
        for reason, count in left_out.items() if isinstance(left_out, dict) else ():
            pairs.append((text(reason[0].upper() + reason[1:]), whole(count)))
        pairs += _decidable(last.get("decidable"))
    if (bound := number_in(result, "kl_bound")) is not None:
        pairs.append(("KL of best-of-N, at most", f"{number(bound)} nats"))
    return facts(pairs)


def _decidable(found: Any) -> list[tuple[str, str]]:
    if not isinstance(found, dict) or "fraction" not in found:
        return []
    name = text(plain(str(found.get("reward"))))
    pairs = [(f"Prompts with good and bad completions ({name})", interval(found["fraction"]))]
    if "hit_rate" in found:
        chance = percent(number_in(found, "chance", "value"))
        pairs.append(
            ("There, the best by reward is good", f"{interval(found['hit_rate'])}, by chance {chance}")
        )
    return pairs


def _verdict(stage: StageData, names: list[str]) -> str:
    """The one sentence that counts (markup)."""
    against = (stage.result or {}).get("against_control")
    if not isinstance(against, dict):
        if stage.config.get("train", True):
            return note(
                "No control was trained: what fine-tuning on own samples does by itself is in the curves."
            )
        return ""
    parts = [
        f"{text(plain(name))} {interval(against[f'reward/{name}'], signed=True)}"
        for name in names
        if f"reward/{name}" in against
    ]
    return (
        '<p class="verdict">Against the same fine-tuning on completions chosen at random: '
        f"{'; '.join(parts)} (paired by prompt). Read only these differences.</p>"
    )


def _rounds(stage: StageData, names: list[str]) -> str:
    rounds = (stage.result or {}).get("rounds")
    if not isinstance(rounds, list) or not rounds:
        return note("Nothing has been selected yet.")
    head = ["round", "selected"]
    for name in names:
        head += [f"{plain(name)}: pool", "selected", "gain"]
    rows = []
    for each in rounds:
        row = [whole(number_in(each, "round")), whole(number_in(each, "selected"))]
        for name in names:
            row += [
                interval(each["rewards"].get(name, {}).get(part)) for part in ("pool", "selected", "gain")
            ]
        rows.append(row)
    reading = note(
        "What was selected beside what it was selected from; 95 % intervals over prompts. A gain here is a "
        "property of the choice, not yet of the model."
    )
    return table(head, rows, label=f"Rounds of {stage.name}") + reading
