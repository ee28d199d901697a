"""A run on the exact world, written as a run folder of kind exact: metrics, and a recorded landscape.

out/  world.toml           terrain and settings, resolved: what the run was started with
      environment.json     versions, and the machine
      metrics.jsonl        a line for every iteration, (sum, count) pairs
      landscape/           manifest, terrain and frames (`landscape.record`)
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch

from ridgeline.landscape.record import Altitude, Axes, Axis, Corridor, Kl, Manifest, RecordWriter, Value
from ridgeline.landscape.world import scene
from ridgeline.landscape.world.learning import Iteration, Learner
from ridgeline.landscape.world.measures import Measures
from ridgeline.landscape.world.paths import Paths
from ridgeline.landscape.world.reference import clone_route
from ridgeline.landscape.world.settings import Settings
from ridgeline.landscape.world.terrain import BOUND, Terrain
from ridgeline.landscape.world.terrain_file import terrain_to_dict
from ridgeline.schema.errors import UsageError
from ridgeline.schema.run_folder import append_line, write_atomic

RESOLUTION = 65
SHOWN_PATHS = 64
SCALARS = (
    "return_gold",
    "return_proxy",
    "kl",
    "entropy",
    "clip_fraction",
    "outside_fraction",
    "ratio_max",
    "gradient_norm",
    "gradient_cosine",
    "advantage_std",
    "dead_groups",
    "success",
)
TUBE = "the reference's own cloud of paths: exact mean and covariance at every step, no wall"


def train(
    terrain: Terrain,
    settings: Settings,
    iterations: int,
    every: int,
    out: str | Path,
    report: Callable[[Iteration], None] | None = None,
) -> Learner:
    """Learn, and write the run into the folder `out`; returns the learner as it ended.

    A frame is recorded before the first iteration, after every `every` iterations and after the last one. The
    metrics of an iteration are those of its update; the exact figures are in those that get a frame. All but
    `environment.json` and the date in the manifest is a function of terrain and settings. report: is called
    with every iteration that got a frame.

    Raises UsageError when the folder holds something, cannot be made, or a number is below 1; RunError when
    the disk is full, or the policy ran away.
    """
    if iterations < 1 or every < 1:
        raise UsageError(f"iterations = {iterations} and every = {every} must be at least 1.")
    reference = clone_route(terrain.route, terrain, seed=settings.seed)
    learner = Learner(terrain, reference.copy(), reference, settings, resolution=RESOLUTION)
    folder = _vacant(Path(out))
    _describe(folder, terrain, learner.settings)
    writer = _record(folder / "landscape", learner)
    _frame(writer, learner, learner.walk(), None)
    for number in range(1, iterations + 1):
        shown = number % every == 0 or number == iterations
        done = learner.step(exact=shown)
        metrics = {name: [value, 1.0] for name, value in done.scalars.items() if value is not None}
        append_line(folder / "metrics.jsonl", {"step": number - 1, "metrics": metrics})
        if shown:
            _frame(writer, learner, done.paths, done)
            if report is not None:
                report(done)
    return learner


def _vacant(folder: Path) -> Path:
    """The folder, made where it is not there."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} is not empty; choose another folder with --out, or remove it.")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot make the folder {folder}: {error.strerror}; choose another --out."
        ) from None
    return folder


def _describe(folder: Path, terrain: Terrain, settings: Settings) -> None:
    """What was run, and with which versions; settings without None, which TOML does not have."""
    world = {"kind": "exact", "settings": settings.as_dict(), "terrain": terrain_to_dict(terrain)}
    write_atomic(folder / "world.toml", tomli_w.dumps(world))
    environment: Mapping[str, Any] = {
        "ridgeline": metadata.version("ridgeline"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
    }
    write_atomic(folder / "environment.json", json.dumps(environment, indent=1) + "\n")


def _record(folder: Path, learner: Learner) -> RecordWriter:
    """The record with its manifest and its ground, before any frame."""
    terrain, settings = learner.terrain, learner.settings
    ground = scene.terrain_blocks(learner.measures)
    heights = np.concatenate([layer.ravel() for layer in ground.values()])
    low, high = float(heights.min()), float(heights.max())
    names = tuple(layer.name for layer in terrain.layers)
    sides = (-BOUND, BOUND)
    writer = RecordWriter(folder)
    writer.manifest(
        Manifest(
            kind="exact",
            title=_title(settings.algorithm, terrain.title),
            seeds=(settings.seed,),
            axes=Axes(method="state", x=Axis(name="x", range=sides), y=Axis(name="y", range=sides)),
            altitude=Altitude(
                name="reward",
                layers=names,
                active=settings.layer,
                range=(low, high if high > low else low + 1.0),
                r2=dict.fromkeys(names),
                residual=dict.fromkeys(names),
            ),
            value=Value(
                kind="exact", note=f"by the operator on a {RESOLUTION} x {RESOLUTION} grid, at time 0"
            ),
            kl=Kl(estimator="exact", unit="nats per path"),
            corridor=Corridor(kind="tube", note=TUBE),
            scalars=SCALARS,
            details=_details(terrain, settings),
        )
    )
    layers = {name: (ground[f"{name}.mean"], None, None) for name in names}
    writer.terrain(layers, (sides, sides))
    return writer


def _details(terrain: Terrain, settings: Settings) -> dict[str, Any]:
    goal = {} if terrain.goal is None else {"goal": list(terrain.goal)}
    return {
        "start": list(terrain.start),
        "route": [list(point) for point in terrain.route],
        "horizon": terrain.horizon,
        "terrain": terrain_to_dict(terrain),
        "settings": settings.as_dict(),
        **goal,
    }


def _frame(writer: RecordWriter, learner: Learner, paths: Paths, done: Iteration | None) -> None:
    """One frame: V, occupancy and arrows of the policy as it is, and the paths learned from."""
    measures, settings, policy = learner.measures, learner.settings, learner.policy
    shown = _first(paths, SHOWN_PATHS)
    advantages_BT = None if done is None else done.advantages[:SHOWN_PATHS]
    blocks = {
        **scene.path_blocks(measures, policy, settings, shown, advantages_BT),
        **scene.value_blocks(measures, policy, settings),
        **scene.corridor_blocks(measures),
        "arrows": scene.arrows(policy),
        "reference_arrows": scene.arrows(learner.reference),
    }
    scalars = _scalars(learner) if done is None else done.scalars
    named = {name: scalars.get(name) for name in SCALARS}
    writer.frame(learner.iteration, named, _honesty(learner, measures, named, len(shown.actions)), **blocks)


def _scalars(learner: Learner) -> dict[str, float | None]:
    exact = learner.measures.scalars(learner.policy, learner.gamma)
    return {**exact, "entropy": float(learner.policy.entropy().detach())}


def _first(paths: Paths, count: int) -> Paths:
    states, actions = paths.states[:count], paths.actions[:count]
    return Paths(states, actions, paths.rewards[:count], paths.logp[:count], paths.gamma)


def _honesty(learner: Learner, measures: Measures, scalars: Mapping[str, float | None], paths: int) -> str:
    settings = learner.settings
    return (
        f'exact world "{learner.terrain.name}", {settings.algorithm}, iteration {learner.iteration} | '
        f"map: the state itself, shows 100 % of the drift | altitude = reward, exact | "
        f"V, J and KL exact on a {measures.resolution} x {measures.resolution} grid | "
        f"KL {scalars['kl']:.2f} nats per path | {paths} of {settings.paths} paths | seed {settings.seed}"
    )


def _title(algorithm: str, terrain: str) -> str:
    """``PPO on the ravine``."""
    article, _, rest = terrain.partition(" ")
    place = f"{article.lower()} {rest}" if article in ("The", "A", "One", "Two", "You") and rest else terrain
    return f"{algorithm.upper()} on {place}"
