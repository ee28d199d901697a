"""What a replay reads: a file of samples, the run it lies in, and what that run says about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline.rewards.combine import TOTAL
from ridgeline.rollout.store import read_samples
from ridgeline.schema.errors import DataError, UsageError, nearest
from ridgeline.schema.records import Sample, reshaping
from ridgeline.schema.run_folder import RunFolder, StageFolder

STEPS = "step-*.parquet"


@dataclass(frozen=True)
class Rollouts:
    """Samples in prompt-major order, ``prompts`` groups of equal size.

    ``run`` is the run folder they lie in and ``stage`` their stage's table of its recipe; None and empty for
    a file that lies elsewhere.
    """

    path: Path
    samples: list[Sample]
    prompts: int
    run: RunFolder | None
    recipe: dict[str, Any]
    stage: dict[str, Any]

    @property
    def group(self) -> int:
        """Samples per prompt."""
        return len(self.samples) // self.prompts

    @property
    def temperature(self) -> float:
        """At which all of them were drawn."""
        return self.samples[0].temperature

    @property
    def start(self) -> str | None:
        """The model that the stage started from, as a user would name it."""
        return self._named(self.stage.get("model"))

    @property
    def reference(self) -> str | None:
        """The stage's own reference, where its recipe names one."""
        return self._named(self.stage.get("reference"))

    def _named(self, model: str | None) -> str | None:
        return None if self.run is None or model is None else f"{self.run.path}:{model}"


def find_rollouts(name: str, step: int | None = None) -> Rollouts:
    """Read ``name``: a file of samples, a stage folder or ``run:stage``, then the newest file or ``step``'s.

    Raises:
        UsageError: nothing of that name, or a stage without such a file.
        DataError: the file holds no samples that an objective could learn from.
    """
    path = Path(name)
    if path.is_file():
        if step is not None:
            raise UsageError(f"--step chooses among the files of a stage, but {name} is one file.")
        file = path
    else:
        file = _file_of(_stage_folder(name, path), step)
    samples = _read(file)
    run, recipe, stage = _surroundings(file)
    size = stage.get("samples_per_prompt") if file.match(STEPS) else None
    return Rollouts(file, samples, _prompts(file, samples, size), run, recipe, stage)


def _stage_folder(name: str, path: Path) -> StageFolder:
    if path.is_dir():
        if not RunFolder(path).has_recipe:
            return StageFolder(path)
        names = ", ".join(f"{name}:{stage.name}" for stage in _with_rollouts(RunFolder(path)))
        raise UsageError(f"{name} is a run; name one of its stages: {names or 'none has rollouts'}.")
    place, separator, stage = name.rpartition(":")
    run = RunFolder(place)
    if not separator or not run.has_recipe:
        raise UsageError(f"there is no samples file, stage folder or run:stage named {name}; check the path.")
    folders = {folder.name: folder for folder in run.stages()}
    if stage not in folders:
        raise UsageError(f"{place} has no stage '{stage}'; {nearest(stage, folders)}")
    return folders[stage]


def _with_rollouts(run: RunFolder) -> list[StageFolder]:
    return [stage for stage in run.stages() if any(stage.samples.glob(STEPS))]


def _file_of(stage: StageFolder, step: int | None) -> Path:
    files = {int(path.stem.rpartition("-")[2]): path for path in stage.samples.glob(STEPS)}
    if not files:
        raise UsageError(
            f"{stage.path} has no rollouts (samples/{STEPS}); name a file of samples, or a stage of type rl."
        )
    chosen = max(files) if step is None else step
    if chosen not in files:
        raise UsageError(f"{stage.path} has no step {step}; it has {min(files)} to {max(files)}.")
    return files[chosen]


def _surroundings(file: Path) -> tuple[RunFolder | None, dict[str, Any], dict[str, Any]]:
    """The run that ``file`` lies in as ``stages/NN-name/samples/file``, its recipe, and the stage's table."""
    # Relative where it was given so and reaches up to the run, so that names stay short.
    parents = file.parents if len(file.parents) > 3 else file.absolute().parents
    run = RunFolder(parents[3]) if len(parents) > 3 else None
    if run is None or parents[0].name != "samples" or not run.has_recipe:
        return None, {}, {}
    recipe = run.recipe_as_started()
    for number, stage in enumerate(recipe["stage"]):
        if run.stage(number, stage["name"]).path.name == parents[1].name:
            return run, recipe, stage
    return None, {}, {}


def _read(file: Path) -> list[Sample]:
    try:
        samples = read_samples(file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        kind = type(error).__name__
        raise DataError(f"{file} is not a file of samples as stages write them ({kind}).") from None
    if not samples:
        raise DataError(f"{file} holds no samples.")
    for number, sample in enumerate(samples, 1):
        _check(sample, f"{file}, row {number}")
    if len({sample.temperature for sample in samples}) > 1:
        raise DataError(f"{file}: its samples were drawn at different temperatures; a rollout has one.")
    if all(sample.rewards.get(TOTAL) is None for sample in samples):
        raise DataError(f"{file}: no row has a reward '{TOTAL}', so there is nothing to learn from.")
    return samples


def _check(sample: Sample, where: str) -> None:
    tokens = len(sample.completion_ids)
    if not tokens == len(sample.logprobs) == len(sample.generated):
        raise DataError(f"{where}: completion_ids, logprobs and generated differ in length.")
    if not all(isinstance(logp, float) and math.isfinite(logp) for logp in sample.logprobs):
        raise DataError(f"{where}: a log-prob is missing or not finite.")
    if sample.temperature == 0 or reshaping(sample):
        names = ["temperature", *reshaping(sample)]
        values = ", ".join(f"{name} = {getattr(sample, name)}" for name in names)
        raise DataError(
            f"{where}: {values}; a policy's log-probs do not compare with those of such a sampler."
        )


def _prompts(file: Path, samples: list[Sample], size: int | None) -> int:
    """Number of groups; one begins with another prompt, after ``size`` samples, or with a lower number."""
    sizes: list[int] = []
    for before, sample in zip([None, *samples], samples, strict=False):
        if (
            before is None
            or before.prompt_id != sample.prompt_id
            or sample.index <= before.index
            or sizes[-1] == size
        ):
            sizes.append(0)
        sizes[-1] += 1
    if len(set(sizes)) > 1:
        raise DataError(
            f"{file}: its prompts have {min(sizes)} to {max(sizes)} samples; groups have to be of equal size."
        )
    return len(sizes)
