"""Which stage of a run is mapped: its settings, its frozen reference, and which reward is gold or proxy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline.rewards.combine import TOTAL
from ridgeline.schema.errors import DataError, UsageError, nearest
from ridgeline.schema.run_folder import RunFolder, StageFolder

RewardName = str


@dataclass(frozen=True)
class MapSource:
    """A stage that samples from the policy it trains.

    settings: the table that names prompts, rewards and sampling (the stage's own, or its ``online``).
    model: where the weights of the frozen reference can be loaded; they are the encoder.
    rewards: terrain layer -> name under which samples record it.
    """

    run: str
    folder: StageFolder
    kind: str
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    model: str
    rewards: Mapping[str, RewardName]
    labels: Mapping[str, str]

    @property
    def reference_moves(self) -> bool:
        """Whether the reference follows the policy, so that states saved by the run have several encoders."""
        return bool(self.config.get("refresh"))

    @property
    def starts_elsewhere(self) -> bool:
        """Whether the first samples are not the reference's: the stage names another one."""
        other = self.config.get("reference")
        return other is not None and other != self.config.get("model", "base")

    @property
    def updates_per_rollout(self) -> int:
        """Lines of ``metrics.jsonl`` per rollout."""
        keys = ("updates_per_rollout", "epochs_per_rollout")
        return max(1, int(self.settings.get(keys[0], 1)) * int(self.settings.get(keys[1], 1)))

    @property
    def only_first_is_own(self) -> bool:
        """In duels against an opponent, the other completion is not the policy's."""
        return self.settings.get("method") in ("nash_md", "xpo")


def find_source(run: str | Path, stage: str | None) -> MapSource:
    """The stage called ``stage`` (its name or its folder), or the last one that has left samples.

    Raises:
        UsageError: no run, no such stage, or one that does not sample from what it trains.
        DataError: the recipe of the run is damaged.
    """
    folder = RunFolder(run)
    recipe = _recipe(folder)
    stages = list(recipe["stage"])
    numbers = [number for number, config in enumerate(stages) if _settings(config) is not None]
    names = [str(stages[number]["name"]) for number in numbers]
    if not names:
        raise UsageError(
            f"no stage of {run} samples from the policy it trains (rl, reject, online preference); "
            "a map needs such samples."
        )
    if stage is None:
        left = [number for number in numbers if _has_samples(folder.stage(number, stages[number]["name"]))]
        if not left:
            raise UsageError(
                f"{run} has no samples yet; wait for the first step of one of {', '.join(names)}."
            )
        return _source(folder, recipe, left[-1])
    for number, name in zip(numbers, names, strict=True):
        if stage in (name, folder.stage(number, name).path.name):
            if not _has_samples(folder.stage(number, name)):
                raise UsageError(f"stage '{name}' of {run} has no samples yet; wait for its first step.")
            return _source(folder, recipe, number)
    if any(stage == str(config["name"]) for config in stages):
        raise UsageError(f"stage '{stage}' does not sample from a policy it trains; {nearest('', names)}")
    raise UsageError(f"{run} has no stage '{stage}' that can be mapped; {nearest(stage, names)}")


def _recipe(run: RunFolder) -> dict[str, Any]:
    if not run.has_recipe:
        raise UsageError(f"{run.path} is not a run folder (it has no recipe); check the path.")
    try:
        recipe = run.recipe_as_started()
        if all(isinstance(stage["type"], str) and stage["name"] for stage in recipe["stage"]):
            return recipe
    except (json.JSONDecodeError, KeyError, TypeError):
        pass
    raise DataError(
        f"the recipe of {run.path} (.recipe.json) is damaged; restore the run folder from a copy."
    )


def _settings(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    online = config.get("online")
    if config["type"] == "preference" and isinstance(online, Mapping):
        return online
    return config if config["type"] in ("rl", "reject") else None


def _has_samples(stage: StageFolder) -> bool:
    return next(stage.samples.rglob("*.parquet"), None) is not None


def _source(run: RunFolder, recipe: Mapping[str, Any], number: int) -> MapSource:
    stages = list(recipe["stage"])
    config = stages[number]
    settings = _settings(config)
    assert settings is not None
    rewards, labels = _layers(settings, stages)
    return MapSource(
        run=run.path.resolve().name,
        folder=run.stage(number, config["name"]),
        kind=config["type"],
        config=config,
        settings=settings,
        model=_model(run, recipe, str(config.get("reference") or config.get("model", "base"))),
        rewards=rewards,
        labels=labels,
    )


def _model(run: RunFolder, recipe: Mapping[str, Any], name: str) -> str:
    if name == "base":
        return str(recipe["model"])
    for number, config in enumerate(recipe["stage"]):
        if config["name"] == name:
            return str(run.stage(number, name).model)
    raise DataError(f"the recipe of {run.path} refers to '{name}', which is none of its stages.")


def _layers(settings: Mapping[str, Any], stages: list[Any]) -> tuple[dict[str, RewardName], dict[str, str]]:
    """Gold is a reward that is watched and never trained on: what annotated, else the first monitor."""
    monitors, trained = (_names(settings.get(key)) for key in ("monitor", "reward"))
    label = trained[0] if len(trained) == 1 else TOTAL
    discriminator = settings.get("discriminator")
    if isinstance(discriminator, Mapping):
        label = str(discriminator.get("start"))
    annotated = [
        str(stage["annotator"].get("gold"))
        for stage in stages
        if stage["type"] == "collect" and isinstance(stage.get("annotator"), Mapping)
    ]
    gold = next((name for name in monitors if name in annotated), next(iter(monitors), None))
    if gold is None:
        return {"reward": TOTAL}, {"reward": short(label)}
    return {"gold": gold, "proxy": TOTAL}, {"gold": short(gold), "proxy": short(label)}


def _names(specs: Any) -> list[str]:
    return [str(spec["function"] if isinstance(spec, Mapping) else spec) for spec in specs or []]


def short(name: str) -> str:
    """A reward's name without the file it stands in."""
    return name.rpartition(":")[2]
