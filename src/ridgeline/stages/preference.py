"""Direct alignment on preference pairs: given in a file, or made on the way by sampling and judging."""

from __future__ import annotations

from typing import Any

from ridgeline.objectives.pair_axes import PairObjective
from ridgeline.schema.errors import UsageError
from ridgeline.schema.stages import PreferenceStage
from ridgeline.stages import preference_offline, preference_online
from ridgeline.stages.context import StageContext
from ridgeline.stages.pair_objective import pair_objective


def run(context: StageContext, config: PreferenceStage) -> dict[str, Any]:
    """Train, save the policy, report before and after."""
    objective = objective_of(config)
    if config.online is None:
        return preference_offline.run(context, config, objective)
    return preference_online.run(context, config, config.online, objective)


def objective_of(config: PreferenceStage) -> PairObjective:
    """The losses that the stage names.

    Raises:
        UsageError: an unknown name or option, a combination that cannot work, or a loss that reads what pairs
            made on the way do not have.
    """
    where = f"stage '{config.name}': objective"
    objective = pair_objective(config.objective, where)
    if config.refresh is not None and not objective.needs_reference:
        raise UsageError(f"{where} compares with no reference, so refresh does nothing; remove it.")
    if config.reference is not None and config.online is None and not objective.needs_reference:
        raise UsageError(f"{where} compares with no reference, so reference does nothing; remove it.")
    if config.online is None:
        return objective
    if "gold" in objective.needs:
        raise UsageError(
            f"{where} learns from a demonstrated answer, which pairs made on the way do not have."
        )
    if config.online.method == "nash_md" and config.objective != "dpo":
        raise UsageError(
            f"{where} does nothing with method 'nash_md', which is a policy gradient; remove it."
        )
    if (
        config.online.temperature is not None
        and config.online.method != "nash_md"
        and not objective.takes_labels
    ):
        raise UsageError(
            f"{where} takes no soft labels; remove online.temperature, or choose dpo, ipo or hinge."
        )
    return objective
