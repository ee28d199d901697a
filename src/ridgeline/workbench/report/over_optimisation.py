"""The picture to remember: the proxy goes on rising with KL while gold turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ridgeline.statistics.inputs import Floats
from ridgeline.statistics.intervals import Estimate, mean_interval
from ridgeline.statistics.over_optimisation import Fall, fall_after_peak, rise
from ridgeline.workbench.report.chart import Chart, Pin, Series, draw, legend
from ridgeline.workbench.report.controls import find_pairs
from ridgeline.workbench.report.markup import figure, interval, number, section, text
from ridgeline.workbench.report.rl_view import RlView, rl_views
from ridgeline.workbench.report.source import RunData

DASHES = ("", "7 5", "2 4")


@dataclass(frozen=True)
class Ascent:
    """One stage on the way up: KL and the rise of both rewards at each held-out evaluation."""

    view: RlView
    rollouts: list[int]
    kl: list[float]
    gold: list[Estimate]
    proxy: list[Estimate]
    gold_SP: Floats
    standardised: bool

    @property
    def fall(self) -> Fall | None:
        """The drop of gold after its peak; None with too few prompts."""
        return fall_after_peak(self.rollouts, self.gold_SP) if self.gold_SP.shape[1] >= 4 else None

    @property
    def peak(self) -> int:
        return int(np.argmax([estimate.value for estimate in self.gold]))


def over_optimisation(run: RunData) -> str:
    """One picture for each set of stages that share a start, held-out prompts and rewards."""
    return section(
        "Proxy and gold part ways",
        "".join(_picture(group) + _verdicts(group) for group in ascents(run)),
        kicker="Over-optimisation",
        anchor="over-optimisation",
    )


def ascents(run: RunData) -> list[list[Ascent]]:
    """Comparable stages together, the one that walked farthest first."""
    groups: dict[tuple[object, ...], list[Ascent]] = {}
    controls = {pair.control.stage.name for pair in find_pairs(run)}
    for view in rl_views(run):
        # A control's reward is no proxy of anything, so it cannot be over-optimised.
        ascent = None if view.stage.name in controls else _ascent(view)
        if ascent is None:
            continue
        config = view.stage.config
        reference = config.get("reference") or config.get("model")
        key = (config.get("model"), reference, view.settings.get("heldout"), view.gold, view.proxy)
        groups.setdefault(key, []).append(ascent)
    return [sorted(group, key=lambda a: -max(a.kl))[: len(DASHES)] for group in groups.values()]


def _ascent(view: RlView) -> Ascent | None:
    if view.gold is None or view.gold == view.proxy or view.judge_moves:
        return None
    gold, proxy = view.per_prompt(view.gold), view.per_prompt(view.proxy)
    walked = view.heldout("kl_k1")
    kl_at = {int(x): max(0.0, y) for x, y in zip(walked.x, walked.y, strict=True)}
    if gold is None or proxy is None or gold[0] != proxy[0] or gold[1].shape[1] < 2:
        return None
    kept = [index for index, rollout in enumerate(gold[0]) if rollout in kl_at]
    if len(kept) < 2:
        return None
    rollouts = [gold[0][index] for index in kept]
    (gold_rise, scaled), (proxy_rise, also) = (_rise(table[1][kept]) for table in (gold, proxy))
    if not (scaled and also):
        gold_rise, proxy_rise = (table[1][kept] - table[1][kept[0]] for table in (gold, proxy))
    return Ascent(
        view,
        rollouts,
        [kl_at[rollout] for rollout in rollouts],
        [mean_interval(row) for row in gold_rise],
        [mean_interval(row) for row in proxy_rise],
        gold[1][kept],
        scaled and also,
    )


def _rise(values_SP: Floats) -> tuple[Floats, bool]:
    try:
        return rise(values_SP), True
    except ValueError:
        return values_SP, False


def _picture(group: Sequence[Ascent]) -> str:
    series, pins = _series(group), [_pin(group[0])]
    unit = (
        "Rise since the start (standard deviations over prompts)"
        if group[0].standardised
        else "Rise since the start (reward)"
    )
    wide = Chart(
        title="Proxy and gold reward against KL",
        x_label="KL to the reference (nats per completion, square-root scale)",
        y_label=unit,
        series=series,
        pins=pins,
        width=1080,
        height=520,
        right=150,
        root_x=True,
        between=(0, 1),
        include=[0.0],
        shade=_shade(group[0]),
    )
    narrow = replace(
        wide,
        width=440,
        height=430,
        right=14,
        x_label="KL to the reference (nats, square-root scale)",
        y_label="Rise since the start (sd over prompts)" if group[0].standardised else unit,
        series=[replace(s, end_label="") for s in series],
    )
    pictures = f'<div class="when-wide">{draw(wide)}</div><div class="when-narrow">{draw(narrow)}</div>'
    return figure(
        "How far each reward has risen", pictures, _caption(group), legend=legend(series), wide=True
    )


def _series(group: Sequence[Ascent]) -> list[Series]:
    series = []
    for ascent, dash in zip(group, DASHES, strict=False):
        for tone, name, estimates in (("proxy", "proxy", ascent.proxy), ("gold", "gold", ascent.gold)):
            # Bands of the first stage only: more than two would hide each other.
            first = ascent is group[0]
            label = f"{name} · {ascent.view.stage.name} ({ascent.view.leash})"
            series.append(
                Series(
                    label,
                    ascent.kl,
                    [e.value for e in estimates],
                    tone=tone,
                    low=[e.low for e in estimates] if first else (),
                    high=[e.high for e in estimates] if first else (),
                    dash=dash,
                    dots=True,
                    thin=not first,
                    end_label=f"{name}, {ascent.view.leash}" if len(group) > 1 else name,
                )
            )
    return series


def _pin(ascent: Ascent) -> Pin:
    at = ascent.peak
    where = "last rollout" if at == len(ascent.rollouts) - 1 else f"rollout {ascent.rollouts[at]}"
    words = f"highest gold\n{where}, {number(ascent.kl[at])} nats"
    return Pin(ascent.kl[at], ascent.gold[at].value, words)


def _shade(ascent: Ascent) -> tuple[float, str] | None:
    fall = ascent.fall
    if fall is None or not fall.over_optimised:
        return None
    return ascent.kl[ascent.peak], "past the peak: gold falls, proxy rises" if _proxy_rises(
        ascent
    ) else "gold falls"


def _proxy_rises(ascent: Ascent) -> bool:
    return ascent.proxy[-1].value > ascent.proxy[ascent.peak].value


def _caption(group: Sequence[Ascent]) -> str:
    prompts = group[0].gold_SP.shape[1]
    evaluated = group[0].view.stage.evaluations[-1].get("samples")
    samples = f" and {evaluated} samples an evaluation" if evaluated else ""
    scale = (
        "each reward in standard deviations of its per-prompt means at the start"
        if group[0].standardised
        else "rewards in their own units, since the start has no spread to scale by"
    )
    return (
        "Read from left to right: each dot is a held-out evaluation, and moving right means moving away from "
        "the "
        f"reference. The proxy is what training sees, gold is what was meant; the shading is the gap between "
        f"them. {scale[0].upper()}{scale[1:]}. Rests on {prompts} held-out prompts{samples}; bands are 95 % "
        "intervals over prompts of the rise since the first evaluation."
    )


def _verdicts(group: Sequence[Ascent]) -> str:
    return "".join(
        f'<p class="verdict"><b>{text(ascent.view.stage.name)}</b> ({text(ascent.view.leash)}): '
        f"{verdict(ascent)}</p>"
        for ascent in group
    )


def verdict(ascent: Ascent) -> str:
    """Whether gold fell after its peak, in one honest sentence (markup)."""
    fall = ascent.fall
    if fall is None:
        return "fewer than four held-out prompts, so nothing is said about a fall of gold."
    if fall.peak_step == fall.last_step:
        return "gold was highest at the last evaluation, so no over-optimisation was seen."
    drop = interval(fall.fall.as_dict())
    if fall.over_optimised:
        moved = number(ascent.proxy[-1].value - ascent.proxy[ascent.peak].value, signed=True)
        return (
            f"over-optimised. From its peak at rollout {fall.peak_step} to rollout {fall.last_step} gold "
            f"fell by "
            f"{drop} while the proxy moved by {moved} sd; the peak was chosen on one half of the prompts and "
            f"the "
            "fall measured on the other."
        )
    return (
        f"highest gold at rollout {fall.peak_step}; the drop to rollout {fall.last_step} is {drop}, an "
        f"interval "
        "that includes zero, so a fall is not shown."
    )
