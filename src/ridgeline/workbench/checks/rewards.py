"""Checks of what surrounds the model in a recipe: reward functions, their spread, and memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from ridgeline.rewards.combine import RewardSet, function_reward
from ridgeline.schema.config import FUNCTION, inner_configs, marked
from ridgeline.schema.recipe import Recipe
from ridgeline.schema.records import Sample
from ridgeline.schema.stages.common import RewardSpec
from ridgeline.workbench.checks.result import Check

SIGNAL_LIMIT = 0.25
"""Fewer groups than this with unequal rewards: most of the sampling would be wasted."""


def function_specs(recipe: Recipe) -> list[RewardSpec]:
    """Every reward of the recipe that is a function (reward models do not exist yet), once each."""
    stages = {stage.name for stage in recipe.stage}
    specs: dict[str, RewardSpec] = {}
    for stage in recipe.stage:
        named = [table for table in inner_configs(stage) if isinstance(table, RewardSpec)]
        named += [RewardSpec(function=gold) for gold in marked(stage, FUNCTION)]
        for spec in named:
            if spec.function not in stages:
                specs.setdefault(spec.function, spec)
    return list(specs.values())


def works(spec: RewardSpec, samples: Sequence[Sample]) -> Check:
    """The function is found, runs on samples, and gives a number for at least one."""
    component = function_reward(spec.function, timeout=spec.timeout)
    try:
        values = component(copy.deepcopy(list(samples)))
    finally:
        component.close()
    known = [value for value in values if value is not None]
    name = f"reward {spec.function}"
    if not known:
        reason = component.first_failure or "it gave None for every completion"
        return Check(name, False, reason, 0.0)
    mean = sum(known) / len(known)
    detail = (
        f"mean {mean:.3f}, {min(known):.3f} to {max(known):.3f}, on {len(known)} of {len(values)} completions"
    )
    return Check(
        name, not component.counts, detail if not component.counts else str(component.first_failure), mean
    )


def has_total(reward: Sequence[RewardSpec], recipe: Recipe) -> bool:
    """Whether the whole reward can be computed before anything is trained."""
    stages = {each.name for each in recipe.stage}
    return all(spec.function not in stages for spec in reward)


def spread(reward: Sequence[RewardSpec], samples: Sequence[Sample], group: int) -> Check:
    """Share of groups whose completions do not all get the same reward: the others teach nothing."""
    scored = copy.deepcopy(list(samples))
    scorer = RewardSet(
        [(function_reward(spec.function, timeout=spec.timeout), spec.weight) for spec in reward]
    )
    try:
        scorer.score(scored)
    finally:
        scorer.close()
    groups = [scored[start : start + group] for start in range(0, len(scored), group)]
    alive = sum(len({sample.rewards["total"] for sample in each} - {None}) > 1 for each in groups)
    share = alive / len(groups)
    detail = f"{alive} of {len(groups)} groups of {group} have unequal rewards"
    if share < SIGNAL_LIMIT:
        detail += (
            "; make the task easier, raise samples_per_prompt, or tune the model on demonstrations first"
        )
    return Check("groups carry signal", share >= SIGNAL_LIMIT, detail, share)


def memory(recipe: Recipe) -> Check:
    """The plan's peak estimate against what is available now (this process already holds one model)."""
    from ridgeline.workbench.plan import make_plan

    plan = make_plan(recipe, timed=False)
    needed = plan.peak / 1e9
    if plan.available is None:
        return Check(
            "memory suffices", True, f"about {needed:.2f} GB needed; available memory is unknown", needed
        )
    detail = f"about {needed:.2f} GB needed (estimate), {plan.available / 1e9:.2f} GB available"
    return Check("memory suffices", plan.peak <= plan.available, detail, needed)
