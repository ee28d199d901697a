"""A section for every stage, in the order of the recipe."""

from __future__ import annotations

from collections.abc import Callable

from ridgeline.workbench.report.clock import duration
from ridgeline.workbench.report.headline import KINDS
from ridgeline.workbench.report.markup import note, section
from ridgeline.workbench.report.source import RunData, StageData
from ridgeline.workbench.report.stage_collect import collect
from ridgeline.workbench.report.stage_distill import distill
from ridgeline.workbench.report.stage_evaluate import evaluate
from ridgeline.workbench.report.stage_merge import merge
from ridgeline.workbench.report.stage_preference import preference
from ridgeline.workbench.report.stage_reject import reject
from ridgeline.workbench.report.stage_reward_model import reward_model
from ridgeline.workbench.report.stage_rl import rl
from ridgeline.workbench.report.stage_sft import sft
from ridgeline.workbench.report.stage_unpaired import unpaired

BUILDERS: dict[str, Callable[[RunData, StageData], str]] = {
    "sft": sft,
    "collect": collect,
    "reward_model": reward_model,
    "preference": preference,
    "unpaired": unpaired,
    "rl": rl,
    "reject": reject,
    "distill": distill,
    "merge": merge,
    "evaluate": evaluate,
}


def stage_sections(run: RunData) -> str:
    """Sections of all stages that have left anything."""
    return "".join(_section(run, stage) for stage in run.stages if stage.present)


def _section(run: RunData, stage: StageData) -> str:
    kicker = KINDS.get(stage.kind, stage.kind) + (f" · {duration(stage.seconds)}" if stage.seconds else "")
    unfinished = (
        "" if stage.result is not None else note("This stage has not finished; what is here may change.")
    )
    builder = BUILDERS.get(stage.kind)
    if builder is None:
        body = note(f"The report knows no stage of type '{stage.kind}'.")
    else:
        # One damaged stage must not take the others with it.
        try:
            body = builder(run, stage)
        except Exception as error:
            body = note(f"This stage could not be drawn: {type(error).__name__}: {error}")
    return section(stage.name, unfinished + body, kicker=kicker, anchor=f"stage-{stage.name}")
