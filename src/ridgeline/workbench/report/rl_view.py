"""What the sections ask of a stage that samples and learns: its gold, its proxy, their held-out curves.

That is policy optimisation, and direct alignment on pairs made on the way, each of whose steps is a rollout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgeline.schema.records import Sample
from ridgeline.statistics.inputs import Floats
from ridgeline.statistics.intervals import Estimate
from ridgeline.statistics.paired import paired_difference
from ridgeline.workbench.report.chart import Series
from ridgeline.workbench.report.source import RunData, StageData, number_in
from ridgeline.workbench.results import plain as plain

METHODS = {"dpo": "DPO", "nash_md": "Nash-MD", "xpo": "XPO", "d2po": "D2PO"}


@dataclass(frozen=True)
class RlView:
    """Such a stage, with the names of its rewards as the run records them."""

    stage: StageData
    settings: dict[str, Any]
    """Where its prompts, rewards and sampling stand: the stage itself, or its table ``online``."""
    gold: str | None
    """The reward that is watched and never trained on; None where there is none."""
    proxy: str
    """The reward that is trained on."""
    per_rollout: int
    """Steps of the loop per rollout."""

    @property
    def judge_moves(self) -> bool:
        """Whether the proxy learns along, so that its values at two times cannot be compared."""
        return self.settings.get("method") == "d2po"

    @property
    def leash(self) -> str:
        """What holds it to its reference, in words: the KL coefficient, or a method that compares with it."""
        if self.stage.kind != "rl":
            return f"online {METHODS.get(str(self.settings.get('method')), 'DPO')}"
        value = number_in(self.stage.result, "kl", "coefficient")
        if value is None:
            value = number_in(self.stage.config, "kl", "coefficient")
        return "KL as in the preset" if value is None else f"KL leash {value:g}" if value else "no KL leash"

    def heldout(self, measure: str, *, label: str = "held-out", tone: str = "ink", dash: str = "") -> Series:
        """A measure of the held-out evaluations by rollout, with its interval."""
        points = [
            (self.rollout_of(line), line[measure]) for line in self.stage.evaluations if measure in line
        ]
        points = [(x, e) for x, e in points if number_in(e, "value") is not None]
        return Series(
            label,
            [x for x, _ in points],
            [float(e["value"]) for _, e in points],
            tone=tone,
            low=[number_in(e, "low") for _, e in points],
            high=[number_in(e, "high") for _, e in points],
            dash=dash,
            dots=True,
        )

    def training(self, metric: str, *, label: str = "", tone: str = "ink", thin: bool = False) -> Series:
        """A metric of the training steps, by rollout."""
        steps, values = self.stage.curve(metric)
        return Series(label, [step / self.per_rollout for step in steps], values, tone=tone, thin=thin)

    def rollout_of(self, line: dict[str, Any]) -> float:
        value = number_in(line, "rollout")
        return float(line["step"]) / self.per_rollout if value is None else value

    def evaluation_files(self) -> dict[int, list[Sample]]:
        """Samples of the held-out evaluations by rollout."""
        paths = sorted(self.stage.folder.samples.glob("evaluation-*.parquet"))
        read = {int(path.stem.rpartition("-")[2]): self.stage.sample_file(path) for path in paths}
        return {rollout: samples for rollout, samples in read.items() if samples}

    def per_prompt(self, reward: str) -> tuple[list[int], Floats] | None:
        """``[evaluations, prompts]``, means over each prompt's samples; None where prompts do not match."""
        rows: list[dict[str, float]] = []
        files = self.evaluation_files()
        for samples in files.values():
            groups: dict[str, list[float]] = {}
            for sample in samples:
                value = sample.rewards.get(reward)
                if value is not None:
                    groups.setdefault(sample.prompt_id, []).append(value)
            rows.append({prompt: float(np.mean(values)) for prompt, values in groups.items()})
        if not rows or not rows[0] or any(row.keys() != rows[0].keys() for row in rows):
            return None
        return list(files), np.array([[row[prompt] for prompt in rows[0]] for row in rows])

    def change(self, reward: str) -> Estimate | None:
        """Last held-out evaluation minus the first, on the same prompts."""
        table = self.per_prompt(reward)
        if table is None or len(table[0]) < 2 or table[1].shape[1] < 2:
            return None
        return paired_difference(table[1][0], table[1][-1])


def rl_views(run: RunData) -> list[RlView]:
    """The stages of the run that sample and learn, as far as they have left anything, in order."""
    golds = [
        str(stage.config["annotator"]["gold"])
        for stage in run.stages
        if stage.kind == "collect" and isinstance(stage.config.get("annotator"), dict)
    ]
    found = [(stage, settings_of(stage)) for stage in run.stages if stage.present]
    return [_view(stage, settings, golds) for stage, settings in found if settings is not None]


def settings_of(stage: StageData) -> dict[str, Any] | None:
    """Where a stage says what it samples; None: it does not learn from its own samples step by step."""
    online = stage.config.get("online")
    if stage.kind == "preference" and isinstance(online, dict):
        return online
    return stage.config if stage.kind == "rl" else None


def _view(stage: StageData, settings: dict[str, Any], golds: list[str]) -> RlView:
    monitors, rewards = (function_names(settings.get(key)) for key in ("monitor", "reward"))
    discriminator = settings.get("discriminator")
    if isinstance(discriminator, dict):
        rewards = [str(discriminator.get("start"))]
    gold = next((name for name in monitors if name in golds), None)
    proxy = rewards[0] if len(rewards) == 1 else "total"
    steps = [int(settings.get(key, 1)) for key in ("updates_per_rollout", "epochs_per_rollout")]
    return RlView(stage, settings, gold or next(iter(monitors), None), proxy, steps[0] * steps[1])


def function_names(specs: Any) -> list[str]:
    """Names under which the rewards of a recipe are recorded."""
    return [str(spec.get("function", "") if isinstance(spec, dict) else spec) for spec in specs or []]
