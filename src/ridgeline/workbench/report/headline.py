"""The top of the page: what was run, where the time went, what came out, and what to be wary of."""

from __future__ import annotations

import math
from collections import Counter

from ridgeline.workbench.report.clock import date, duration
from ridgeline.workbench.report.markup import facts, text
from ridgeline.workbench.report.sentences import stage_sentences
from ridgeline.workbench.report.source import RunData, StageData

KINDS = {
    "sft": "instruction tuning",
    "collect": "preference collection",
    "reward_model": "reward model",
    "preference": "direct alignment",
    "unpaired": "alignment on single labels",
    "rl": "policy optimisation",
    "reject": "rejection sampling",
    "distill": "distillation",
    "merge": "model merging",
    "evaluate": "evaluation",
}


def headline(run: RunData) -> str:
    """Header, strip of stages, key results, warnings."""
    total = sum(stage.seconds for stage in run.stages)
    environment = run.environment
    machine = " · ".join(
        text(environment[key]) for key in ("device", "cpu", "cpu_capability") if environment.get(key)
    )
    if environment.get("threads"):
        machine += f" · {text(environment['threads'])} threads"
    pairs = [
        ("Model", text(run.recipe.get("model", ""))),
        ("Seed", text(run.recipe.get("seed", ""))),
        ("Started", text(date(run.events) or "")),
        ("Machine", machine),
        ("Weights", text(environment.get("dtype", ""))),
        ("Time in stages", duration(total) if total else ""),
    ]
    return (
        f'<header>{_ridge()}<p class="brand">Ridgeline · run report</p><h1>{text(run.name)}</h1>{_state(run)}'
        f'{facts(pairs)}</header>\n<div class="top">{_strip(run)}{_results(run)}{_warnings(run)}</div>\n'
    )


def _state(run: RunData) -> str:
    done = sum(stage.result is not None for stage in run.stages)
    if run.stages and done == len(run.stages):
        return ""
    return (
        f'<p class="state">Unfinished: {done} of {len(run.stages)} stages have a result. '
        "The page shows what is there.</p>"
    )


def _ridge() -> str:
    """Three ridge lines behind the title: sums of sines, the same for every run."""
    paths = []
    for layer in range(3):
        points = []
        for k in range(0, 121):
            x = k * 10
            height = sum(
                a * math.sin(x * f + p + layer * 1.7)
                for a, f, p in ((26, 0.0052, 0.4), (11, 0.0131, 2.1), (5, 0.031, 0.7), (2.2, 0.083, 1.3))
            )
            points.append(f"{x} {92 + 27 * layer - height * (1 - 0.18 * layer):.1f}")
        paths.append(f'<path class="ridge r{layer}" d="M{"L".join(points)}V200H0Z"/>')
    size = 'viewBox="0 0 1200 190" preserveAspectRatio="none"'
    return f'<svg class="ridges" {size} aria-hidden="true">{"".join(paths)}</svg>'


def _strip(run: RunData) -> str:
    if not run.stages:
        return '<p class="note">No stages were found in this folder.</p>'
    total = sum(stage.seconds for stage in run.stages) or 1.0
    bar = "".join(
        f'<i class="k-{text(stage.kind)}" style="flex-grow:{max(stage.seconds / total, 0.004):.4f}"></i>'
        for stage in run.stages
    )
    items = "".join(
        f'<li class="k-{text(stage.kind)}"><b>{text(stage.name)}</b>'
        f"<span>{text(KINDS.get(stage.kind, stage.kind))}</span><em>{_stage_state(stage)}</em></li>"
        for stage in run.stages
    )
    return (
        '<nav class="strip" aria-label="Stages and their time">'
        f'<div class="bar" aria-hidden="true">{bar}</div><ol>{items}</ol></nav>'
    )


def _stage_state(stage: StageData) -> str:
    if not stage.present:
        return "not started"
    time = duration(stage.seconds) if stage.seconds else "–"
    return time if stage.result is not None else f"{time}, unfinished"


def _results(run: RunData) -> str:
    sentences = [s for stage in run.stages for s in stage_sentences(run, stage)]
    if not sentences:
        return '<section><h2>Results</h2><p class="note">Nothing has been measured yet.</p></section>'
    items = "".join(f"<li>{sentence}</li>" for sentence in sentences)
    return (
        f'<section class="results"><h2>What came out</h2><ul>{items}</ul>'
        '<p class="fine">Brackets are 95 % intervals over prompts within this one run and seed; they do not '
        "cover "
        "what another seed would give.</p></section>"
    )


def _warnings(run: RunData) -> str:
    lines: Counter[str] = Counter()
    for event in run.events:
        where = f"{event['stage']}: " if event.get("stage") else ""
        if event.get("kind") == "warning":
            lines[where + str(event.get("text", ""))] += 1
        elif event.get("kind") == "nonfinite":
            lines[
                f"{where}loss or gradient was not finite at step {event.get('step')}; training stopped"
            ] += 1
        elif event.get("kind") in ("interrupted", "resumed"):
            at = f" at step {event['step']}" if "step" in event else ""
            lines[f"{where}{event['kind']}{at}"] += 1
    for message in [*run.notes, *(f"{s.name}: {n}" for s in run.stages for n in s.notes)]:
        lines[message] += 1
    if not lines:
        return ""
    items = "".join(f"<li>{text(line)}{f' (×{n})' if n > 1 else ''}</li>" for line, n in lines.items())
    return f'<section class="warnings"><h2>To be wary of</h2><ul>{items}</ul></section>\n'
