"""The top of the page: what was run, where the time went, what came out, and what to be wary of."""

from __future__ import annotations

import math
from collections import Counter

from ridgeline.workbench.report.clock import date, duration
from ridgeline.workbench.report.controls import find_pairs
from ridgeline.workbench.report.controls import sentence as control_sentence
from ridgeline.workbench.report.markup import facts, interval, number, percent, strong, text
from ridgeline.workbench.report.over_optimisation import ascents, verdict
from ridgeline.workbench.report.rl_view import RlView, rl_views
from ridgeline.workbench.report.source import RunData, StageData, number_in

KINDS = {
    "sft": "instruction tuning",
    "collect": "preference collection",
    "reward_model": "reward model",
    "rl": "policy optimisation",
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
    sentences = [s for stage in run.stages for s in _stage_sentences(run, stage)]
    if not sentences:
        return '<section><h2>Results</h2><p class="note">Nothing has been measured yet.</p></section>'
    items = "".join(f"<li>{sentence}</li>" for sentence in sentences)
    return (
        f'<section class="results"><h2>What came out</h2><ul>{items}</ul>'
        '<p class="fine">Brackets are 95 % intervals over prompts within this one run and seed; they do not '
        "cover "
        "what another seed would give.</p></section>"
    )


def _stage_sentences(run: RunData, stage: StageData) -> list[str]:
    result = stage.result or {}
    name = f"<b>{text(stage.name)}</b>"
    if stage.kind == "rl":
        return _rl_sentences(run, stage)
    if stage.kind == "sft" and result:
        before, after = (number_in(result, f"heldout_nll_{when}") for when in ("before", "after"))
        return [f"{name}: held-out loss {strong(before)} → {strong(after)} nats per token."]
    if stage.kind == "collect" and result:
        share = number_in(result, "label_accuracy")
        agree = f"; {percent(share)} of the labels agree with gold" if share is not None else ""
        return [f"{name}: {strong(number_in(result, 'pairs'))} preference pairs{agree}."]
    if stage.kind == "reward_model" and result:
        return [_judge_sentence(name, result)]
    if stage.kind == "evaluate" and result:
        return _evaluate_sentences(result)
    return []


def _rl_sentences(run: RunData, stage: StageData) -> list[str]:
    """The stage's own sentence with its verdict; a stage told about as half of a pair is not told twice."""
    pairs = find_pairs(run)
    told = {pair.control.stage.name for pair in pairs}
    told |= {pair.main.stage.name for pair in pairs if pair.measure == pair.main.proxy}
    compared = [s for p in pairs if p.main.stage is stage and (s := control_sentence(p))]
    if stage.name in told:
        return compared
    sentences = [s for view in rl_views(run) if view.stage is stage and (s := rl_sentence(view))]
    verdicts = [verdict(a) for group in ascents(run) for a in group if a.view.stage is stage]
    own = [" ".join([*sentences, *(v[0].upper() + v[1:] for v in verdicts)])] if sentences else []
    return own + compared


def _judge_sentence(name: str, result: dict[str, object]) -> str:
    after = result.get("after")
    after = after if isinstance(after, dict) else {}
    ceiling = number_in(result, "ceiling", "accuracy")
    limit = f", where label noise allows {number(ceiling)}" if ceiling is not None else ""
    sentence = f"{name}: ranks {interval(after.get('accuracy'))} of held-out pairs as labelled{limit}"
    if "accuracy_against_gold" in after:
        sentence += f"; {interval(after['accuracy_against_gold'])} as gold does"
    return sentence + "."


def rl_sentence(view: RlView) -> str:
    """Held-out rewards before and after, and whether the change excludes zero (markup)."""
    lines, name = view.stage.evaluations, f"<b>{text(view.stage.name)}</b> ({text(view.leash)})"
    if len(lines) < 2:
        return ""
    parts = []
    for reward, word in ((view.gold, "gold"), (view.proxy, "proxy" if view.gold else "reward")):
        key = f"reward/{reward}"
        if reward is None or key not in lines[0] or key not in lines[-1]:
            continue
        change = view.change(reward)
        verdict = ""
        if change is not None:
            shown = interval(change.as_dict(), signed=True)
            verdict = f" (change {shown}" + (
                ")" if change.excludes(0) else ", not distinguishable from none)"
            )
        parts.append(f"{word} {interval(lines[0][key])} → {interval(lines[-1][key])}{verdict}")
    if not parts:
        return ""
    kl = number_in(lines[-1], "kl_k1", "value")
    return f"{name}: " + "; ".join(parts) + (f", at {strong(kl)} nats of KL." if kl is not None else ".")


def _evaluate_sentences(result: dict[str, object]) -> list[str]:
    against, deciding = result.get("against_baseline"), text(result.get("deciding_reward", ""))
    sentences = []
    for name, compared in against.items() if isinstance(against, dict) else []:
        if isinstance(compared, dict) and "win_rate" in compared:
            sentences.append(
                f"<b>{text(name)}</b> against <b>{text(result.get('baseline', ''))}</b>: win rate "
                f"{interval(compared['win_rate'])}, difference "
                f"{interval(compared.get('difference'), signed=True)} "
                f"by {deciding}."
            )
    return sentences


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
