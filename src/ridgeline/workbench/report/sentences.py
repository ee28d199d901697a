"""What came out of each stage, in a sentence or two (markup)."""

from __future__ import annotations

from collections.abc import Callable

from ridgeline.workbench.report.controls import find_pairs
from ridgeline.workbench.report.controls import sentence as control_sentence
from ridgeline.workbench.report.markup import interval, number, percent, strong, text
from ridgeline.workbench.report.over_optimisation import ascents, verdict
from ridgeline.workbench.report.reward_kind import judge_sentence
from ridgeline.workbench.report.rl_view import RlView, plain, rl_views, settings_of
from ridgeline.workbench.report.source import RunData, StageData, number_in
from ridgeline.workbench.report.stage_preference import displacement_clause


def stage_sentences(run: RunData, stage: StageData) -> list[str]:
    """The sentences of a stage; none where there is nothing to say yet."""
    if settings_of(stage) is not None:
        return _sampled(run, stage)
    build = SENTENCES.get(stage.kind)
    return build(run, stage) if build is not None and stage.result else []


def _name(stage: StageData) -> str:
    return f"<b>{text(stage.name)}</b>"


def _sft(run: RunData, stage: StageData) -> list[str]:
    before, after = (number_in(stage.result, f"heldout_nll_{when}") for when in ("before", "after"))
    return [f"{_name(stage)}: held-out loss {strong(before)} → {strong(after)} nats per token."]


def _collect(run: RunData, stage: StageData) -> list[str]:
    share = number_in(stage.result, "label_accuracy")
    agree = f"; {percent(share)} of the labels agree with gold" if share is not None else ""
    return [f"{_name(stage)}: {strong(number_in(stage.result, 'pairs'))} preference pairs{agree}."]


def _judge(run: RunData, stage: StageData) -> list[str]:
    return [f"{_name(stage)}: {judge_sentence(stage.result or {})}"]


def _preference(run: RunData, stage: StageData) -> list[str]:
    before, after = ((stage.result or {}).get(when) or {} for when in ("before", "after"))
    if "accuracy" not in after:
        return []
    shown = f"{_name(stage)}: tells {interval(after['accuracy'])} of held-out pairs apart"
    shown += f" ({number(number_in(before, 'accuracy', 'value'))} before)"
    return [shown + displacement_clause(stage) + "."]


def _unpaired(run: RunData, stage: StageData) -> list[str]:
    before, after = ((stage.result or {}).get(when) or {} for when in ("before", "after"))
    led = [number_in(line, "separation") for line in (before, after)]
    if led[1] is None:
        return []
    ratios = [after.get(f"log_ratio/{kind}") for kind in ("desirable", "undesirable")]
    return [
        f"{_name(stage)}: a liked completion leads a disliked one with probability {strong(led[1])} "
        f"({number(led[0])} before); log-ratios {interval(ratios[0], signed=True)} and "
        f"{interval(ratios[1], signed=True)} nats."
    ]


def _reject(run: RunData, stage: StageData) -> list[str]:
    result = stage.result or {}
    against, after = result.get("against_control"), result.get("after") or {}
    change = f"{_name(stage)}: " + _change(result.get("before") or {}, after, "reward/total", "reward")
    if not isinstance(against, dict):
        return [f"{change}, no control beside it."] if "reward/total" in after else []
    parts = [
        f"{text(plain(key.removeprefix('reward/')))} {interval(estimate, signed=True)}"
        for key, estimate in against.items()
        if key != "reward/total" or len(against) == 1
    ]
    return [f"{change}; against fine-tuning on a random choice {', '.join(parts)}."]


def _distill(run: RunData, stage: StageData) -> list[str]:
    before, after = ((stage.result or {}).get(when) or {} for when in ("before", "after"))
    measures = (
        ("divergence", "distance to the teacher on given text"),
        ("own_divergence", "distance to the teacher on its own text"),
        ("nll", "held-out NLL"),
    )
    parts = [
        f"{words} {strong(number_in(before, key))} → {strong(number_in(after, key))}"
        for key, words in measures
        if number_in(after, key) is not None
    ]
    return [f"{_name(stage)}: {'; '.join(parts)} (nats per token)."] if parts else []


def _merge(run: RunData, stage: StageData) -> list[str]:
    result = stage.result or {}
    parts, difference = ", ".join(result.get("distance") or {}), result.get("difference")
    first = f"{_name(stage)} ({text(result.get('method', ''))} of {text(parts)})"
    if not isinstance(difference, dict):
        return [f"{first}: not compared."]
    shown = [
        f"{text(plain(key.removeprefix('reward/')))} {interval(estimate, signed=True)}"
        for key, estimate in difference.items()
        if key.startswith("reward/") and (key != "reward/total" or len(difference) == 1)
    ]
    return [f"{first}: against the first of them {', '.join(shown)}."]


def _change(before: dict[str, object], after: dict[str, object], key: str, word: str) -> str:
    return f"{word} {interval(before.get(key))} → {interval(after.get(key))}"


def _sampled(run: RunData, stage: StageData) -> list[str]:
    """The stage's own sentence with its verdict; a stage told about as half of a pair is not told twice."""
    pairs = find_pairs(run)
    told = {pair.control.stage.name for pair in pairs}
    told |= {pair.main.stage.name for pair in pairs if pair.measure == pair.main.proxy}
    compared = [s for p in pairs if p.main.stage is stage and (s := control_sentence(p))]
    if stage.name in told:
        return compared
    sentences = [s for view in rl_views(run) if view.stage is stage and (s := _rewards(view))]
    verdicts = [verdict(a) for group in ascents(run) for a in group if a.view.stage is stage]
    own = [" ".join([*sentences, *(v[0].upper() + v[1:] for v in verdicts)])] if sentences else []
    return own + compared


def _rewards(view: RlView) -> str:
    """Held-out rewards before and after, and whether the change excludes zero (markup)."""
    lines, name = view.stage.evaluations, f"<b>{text(view.stage.name)}</b> ({text(view.leash)})"
    if len(lines) < 2:
        return ""
    parts = []
    for reward, word in ((view.gold, "gold"), (view.proxy, "proxy" if view.gold else "reward")):
        key = f"reward/{reward}"
        if reward is None or key not in lines[0] or key not in lines[-1]:
            continue
        if view.judge_moves and reward == view.proxy:
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


def _evaluate(run: RunData, stage: StageData) -> list[str]:
    result = stage.result or {}
    against, deciding = result.get("against_baseline"), text(plain(str(result.get("deciding_reward", ""))))
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


SENTENCES: dict[str, Callable[[RunData, StageData], list[str]]] = {
    "sft": _sft,
    "collect": _collect,
    "reward_model": _judge,
    "preference": _preference,
    "unpaired": _unpaired,
    "reject": _reject,
    "distill": _distill,
    "merge": _merge,
    "evaluate": _evaluate,
}
