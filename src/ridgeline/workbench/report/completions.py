"""The same prompts before and after, side by side. Every text is hostile input and is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ridgeline.schema.records import Sample
from ridgeline.workbench.report.markup import details, note, number, section, text
from ridgeline.workbench.report.rl_view import RlView, plain, rl_views
from ridgeline.workbench.report.source import RunData, StageData, number_in

PROMPTS = 12
OPEN = 4
"""How many prompts stand open; the others are folded away."""


ENDS: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "reject": {
        "start": ("evaluation-[0-9]*.parquet", 0),
        "random control": ("evaluation-control-*.parquet", -1),
        "end": ("evaluation-[0-9]*.parquet", -1),
    },
    "distill": {"start": ("evaluation-*.parquet", 0), "end": ("evaluation-*.parquet", -1)},
    "merge": {"first model": ("before/part-*.parquet", 0), "merged": ("after/part-*.parquet", 0)},
}
"""Which files to lay side by side: of those that a pattern finds, the first or the last."""


def completions(run: RunData) -> str:
    """A block for each evaluate stage, and one for each stage that learned from its own samples."""
    blocks = [_evaluate(stage) for stage in run.of_kind("evaluate")]
    blocks += [_rl(view) for view in rl_views(run)]
    blocks += [_ends(stage) for kind in ENDS for stage in run.of_kind(kind)]
    rule = (
        '<p class="lead">Not picked: the first prompts of the file, the first sample of each. Small numbers '
        "are "
        "the rewards of that one text.</p>"
    )
    body = "".join(blocks)
    return section(
        "What the models say", rule + body if body else "", kicker="Completions", anchor="completions"
    )


def _evaluate(stage: StageData) -> str:
    names = [str(name) for name in stage.config.get("models", [])]
    columns = {name: [s for part in stage.samples(f"{name}/part-*.parquet") for s in part] for name in names}
    columns = {name: samples for name, samples in columns.items() if samples}
    if not columns:
        return note(f"{stage.name}: no samples have been stored yet.")
    return f"<h3>{text(stage.name)}: {text(', '.join(columns))}</h3>" + side_by_side(columns)


def _rl(view: RlView) -> str:
    files = view.evaluation_files()
    if len(files) < 2:
        return ""
    rollouts = list(files)
    chosen = {rollouts[0]: "start", rollouts[-1]: "end"}
    held = view.heldout(f"reward/{view.gold}") if view.gold else None
    if held is not None and held.y:
        top = int(held.x[int(np.argmax(held.y))])
        if top in files and top not in chosen:
            chosen[top] = "highest gold"
    columns = {f"rollout {rollout} · {chosen[rollout]}": files[rollout] for rollout in sorted(chosen)}
    body = side_by_side(columns, prompts=6, standing=6)
    return details(f"{view.stage.name}: the same prompts during training", body)


def _ends(stage: StageData) -> str:
    columns: dict[str, Sequence[Sample]] = {}
    for label, (pattern, place) in ENDS[stage.kind].items():
        if files := [samples for samples in stage.samples(pattern) if samples]:
            columns[label] = files[place]
    if len(columns) < 2:
        return ""
    body = side_by_side(columns, prompts=6, standing=6)
    return details(f"{stage.name}: the same prompts, {' and '.join(columns)}", body)


def side_by_side(
    columns: Mapping[str, Sequence[Sample]], *, prompts: int = PROMPTS, standing: int = OPEN
) -> str:
    """One card a prompt, one column a model, the first sample of each."""
    firsts = {name: _first_of_each(samples) for name, samples in columns.items()}
    order = list(next(iter(firsts.values())))[:prompts]
    cards = [_card(prompt, {name: first.get(prompt) for name, first in firsts.items()}) for prompt in order]
    rest = "".join(cards[standing:])
    return "".join(cards[:standing]) + (
        details(f"{len(cards) - standing} more prompts", rest) if rest else ""
    )


def _first_of_each(samples: Sequence[Sample]) -> dict[str, Sample]:
    first: dict[str, Sample] = {}
    for sample in samples:
        first.setdefault(sample.prompt_id, sample)
    return first


def _card(prompt: str, samples: Mapping[str, Sample | None]) -> str:
    shown = next((prompt_text(sample.row) for sample in samples.values() if sample is not None), None)
    cells = "".join(_cell(name, sample) for name, sample in samples.items())
    return (
        f'<article class="card"><p class="prompt">{text(shown or prompt)}</p>'
        f'<div class="cells" style="--n:{len(samples)}">{cells}</div></article>'
    )


def _cell(name: str, sample: Sample | None) -> str:
    if sample is None:
        return f'<div><p class="who">{text(name)}</p><p class="note">no sample</p></div>'
    rewards = " ".join(
        f"<span>{text(plain(key))} <b>{number(number_in(sample.rewards, key))}</b></span>"
        for key in _rewards_worth_showing(sample)
    )
    cut = ' <span class="cut" title="cut at the length limit">✂ truncated</span>' if sample.truncated else ""
    return (
        f'<div><p class="who">{text(name)}</p><blockquote>{text(sample.text)}{cut}</blockquote>'
        f'<p class="scores">{rewards}</p></div>'
    )


def _rewards_worth_showing(sample: Sample) -> list[str]:
    """All components; the total too where it says something that no component does."""
    names = [name for name in sample.rewards if name != "total"]
    known = [sample.rewards[name] for name in names]
    return names if "total" not in sample.rewards or sample.rewards["total"] in known else [*names, "total"]


def prompt_text(row: Mapping[str, Any]) -> str | None:
    """The last thing the user says in a prompt row, plain or conversational."""
    for key in ("prompt", "messages"):
        value = row.get(key)
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            turns = [
                turn.get("content") for turn in value if isinstance(turn, dict) and turn.get("role") == "user"
            ]
            if turns:
                return str(turns[-1])
    return None
