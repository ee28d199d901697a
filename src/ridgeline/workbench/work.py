"""Batch arithmetic of a stage: how many rows, steps and tokens, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ridgeline.schema.stages import PreferenceStage, Stage
from ridgeline.workbench import work_distill, work_given, work_sampled
from ridgeline.workbench.costs import Setting, StageWork


def _preference(stage: PreferenceStage, setting: Setting) -> StageWork:
    made = work_given.preference if stage.online is None else work_sampled.preference
    return made(stage, setting)


WORK: dict[str, Callable[[Any, Setting], StageWork]] = {
    "sft": work_given.sft,
    "collect": work_sampled.collect,
    "reward_model": work_given.reward_model,
    "preference": _preference,
    "unpaired": work_given.unpaired,
    "rl": work_sampled.rl,
    "reject": work_sampled.reject,
    "distill": work_distill.distill,
    "merge": work_sampled.merge,
    "evaluate": work_sampled.evaluate,
}


def stage_work(stage: Stage, setting: Setting) -> StageWork:
    """Arithmetic of ``stage``, whose sources are in ``setting.data``; times of 0 are left out."""
    work = WORK[stage.type](stage, setting)
    work.seconds = {kind: seconds for kind, seconds in work.seconds.items() if seconds}
    return work
