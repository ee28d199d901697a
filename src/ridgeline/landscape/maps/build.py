"""``build``: from a run folder to the record of its landscape, ``landscape/`` in the folder of the stage."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ridgeline.landscape.maps.axes import Evidence, Method, Plane, fit
from ridgeline.landscape.maps.centring import Reference
from ridgeline.landscape.maps.collect import Table, collect, frame_files
from ridgeline.landscape.maps.density import corridor
from ridgeline.landscape.maps.encode import Progress
from ridgeline.landscape.maps.features import Halves, States, states_of
from ridgeline.landscape.maps.measured_kl import frame_kl
from ridgeline.landscape.maps.plane_file import load_plane, save_plane
from ridgeline.landscape.maps.publish import publish
from ridgeline.landscape.maps.scene import Scene, drifts_of, heights_of, projected, values_of
from ridgeline.landscape.maps.source import MapSource, find_source, short
from ridgeline.landscape.maps.split import HALVES, fitting_prompts
from ridgeline.landscape.maps.surface import Ground, bounds_of, surface
from ridgeline.landscape.maps.tokens import tokens_of
from ridgeline.landscape.record import Manifest, Record
from ridgeline.rewards.combine import TOTAL
from ridgeline.rollout.store import read_samples
from ridgeline.schema.errors import DataError, RidgelineError, UsageError, nearest

FOLDER = "landscape"
METHODS: tuple[Method, ...] = ("reward", "pca", "drift")
FEWEST_REWARDS = 8
_FORMAT = 2
"""Raised when maps of the same samples come out differently, so that old ones are made again."""


@dataclass(frozen=True)
class MapResult:
    """A map that stands in ``folder``. ``honesty`` is the line of its last frame."""

    folder: Path
    seconds: Mapping[str, float]
    honesty: str
    warnings: tuple[str, ...]
    manifest: Manifest


@dataclass(frozen=True)
class Options:
    """What a map depends on besides the run."""

    axes: Method
    layer: str | None
    resolution: int
    samples_per_frame: int
    seed: int
    raw: bool


def build(
    run: str | Path,
    stage: str | None = None,
    *,
    axes: Method = "reward",
    layer: str | None = None,
    resolution: int = 65,
    samples_per_frame: int = 512,
    seed: int = 1,
    raw: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> MapResult:
    """Map a stage that samples, finished or still being written.

    stage: its name; None: the last one that has samples. axes: what the plane shows (``maps.axes``). layer:
    the reward that is walked on, "gold", "proxy", "reward" or a recorded component; None: what training
    optimised. resolution: places of the terrain per side. samples_per_frame: completions of each step (four
    times as many of the reference). raw: altitudes without subtracting the reference's mean of the prompt.

    Axes are fitted once and kept while the run grows; ``force`` fits them again. Where nothing changed, the
    map that is there is returned. States that training did not save are computed once (by far the longest
    part) and kept.

    Raises:
        UsageError: no such run, stage, layer or option. DataError: damaged files, or too few samples.
    """
    options = Options(axes, layer, resolution, samples_per_frame, seed, raw)
    _check(options)
    source = _with_layer(find_source(run, stage), layer)
    folder = source.folder.path / FOLDER
    stamp = _stamp(source, options)
    if not force and (ready := _ready(folder, stamp)) is not None:
        return ready
    clock = _Clock()
    table = collect(source, per_frame=samples_per_frame, seed=seed)
    clock.lap("reading samples")
    states = states_of(source, table, folder, progress)
    clock.lap("reference states")
    reference = Reference.of(table.prompt_N, table.reference_N)
    plane, fitting_N = _plane(source, table, reference, states.states_NFH, folder, options, force)
    clock.lap("axes")
    scene = _scene(source, table, reference, fitting_N, plane, states, options)
    clock.lap("terrain and drift")
    details = {
        "stamp": stamp,
        "seconds": {name: round(spent, 2) for name, spent in clock.seconds.items()},
        "states_computed": states.computed,
    }
    manifest = publish(scene, folder, details, samples_per_frame, seed)
    clock.lap("writing")
    return MapResult(folder, clock.seconds, manifest.frames[-1].honesty, manifest.warnings, manifest)


def _scene(
    source: MapSource,
    table: Table,
    reference: Reference,
    fitting_N: np.ndarray,
    plane: Plane,
    states: States,
    options: Options,
) -> Scene:
    """Place everything on the plane and measure it there."""
    active = _active(source, options.layer)
    heights = heights_of(table, reference, dict(source.rewards), raw=options.raw)
    trained = table.reward(TOTAL)
    tokens = tokens_of(source, table, states, trained)
    directions = np.concatenate([plane.axes_2H, plane.basis_KH])
    along_NFK = projected(states.states_NFH, directions, reference)
    places_NF2 = along_NFK[..., :2] / plane.scale_2
    points_N2 = places_NF2[:, -1]
    bounds = bounds_of(points_N2)
    ground = Ground(points_N2, table.prompt_N, table.frame_N, fitting_N, options.seed)
    surfaces = {
        name: surface(ground, fitted_N, bounds, options.resolution)
        for name, fitted_N in heights.fitted.items()
        if np.isfinite(fitted_N).sum() >= FEWEST_REWARDS
    }
    if active not in surfaces:
        raise DataError(f"fewer than {FEWEST_REWARDS} samples have the reward '{source.rewards[active]}'.")
    cloud = corridor(points_N2[reference.cloud_N])
    judged_N = np.ones(len(table), dtype=bool) if plane.method == "pca" else ~fitting_N
    drifts = drifts_of(table, reference, points_N2, judged_N, cloud, frame_kl(source, table, tokens))
    values = values_of(table, tokens, heights, active, along_NFK, source.rewards[active])
    heights = replace(heights, shown={name: heights.shown[name] for name in surfaces})
    return Scene(
        source, table, reference, fitting_N, plane, tokens, active, heights, places_NF2, values, bounds,
        surfaces, cloud, drifts, options.raw,
    )  # fmt: skip


def _plane(
    source: MapSource,
    table: Table,
    reference: Reference,
    states_NFH: Halves,
    folder: Path,
    options: Options,
    refit: bool,
) -> tuple[Plane, np.ndarray]:
    """The plane as saved, else fitted now; and which samples' prompts it was fitted on."""
    made_from = {
        "axes": options.axes,
        "layer": _active(source, options.layer),
        "model": source.model,
        "seed": options.seed,
        "samples_per_frame": options.samples_per_frame,
        "raw": options.raw,
    }
    saved = None if refit else load_plane(folder, made_from)
    halves = options.axes == "drift" if saved is None else saved.fitting == HALVES
    fitting_N, words = fitting_prompts(table, seed=options.seed, halves=halves)
    if saved is not None:
        return saved, fitting_N
    final_NH = states_NFH[:, -1].astype(np.float64)
    rewards = heights_of(table, reference, dict(source.rewards), raw=False)
    evidence = Evidence(
        states_NH=reference.centre(final_NH, stretch=True),
        raw_NH=final_NH,
        reward_N=rewards.fitted[_active(source, options.layer)],
        reference=reference,
        frame_N=table.frame_N,
        fitting_N=fitting_N,
        fitting=words,
    )
    plane = fit(options.axes, evidence)
    folder.mkdir(parents=True, exist_ok=True)
    save_plane(folder, plane, made_from, final_NH[reference.cloud_N].mean(0))
    # Read back, so that a later map of the same plane rounds the same.
    return load_plane(folder, made_from) or plane, fitting_N


def _check(options: Options) -> None:
    if options.axes not in METHODS:
        raise UsageError(f"unknown axes '{options.axes}'; {nearest(options.axes, METHODS)}")
    if not 9 <= options.resolution <= 513:
        raise UsageError(f"resolution = {options.resolution} must lie between 9 and 513.")
    if options.samples_per_frame < 16:
        raise UsageError(f"samples_per_frame = {options.samples_per_frame} must be at least 16.")


def _with_layer(source: MapSource, layer: str | None) -> MapSource:
    """The source with a layer for a recorded component, where ``layer`` names one."""
    if layer is None or layer in source.rewards:
        return source
    first = next(source.folder.samples.rglob("*.parquet"))
    recorded = {short(name): name for sample in read_samples(first)[:1] for name in sample.rewards}
    if layer not in recorded:
        raise UsageError(f"there is no layer '{layer}'; {nearest(layer, [*source.rewards, *recorded])}")
    return replace(
        source,
        rewards={**source.rewards, layer: recorded[layer]},
        labels={**source.labels, layer: layer},
    )


def _active(source: MapSource, layer: str | None) -> str:
    """The layer that is walked on: the one asked for, else what training optimised."""
    return layer or ("proxy" if "proxy" in source.rewards else "reward")


def _stamp(source: MapSource, options: Options) -> str:
    """Changes when a file that the map is made of does."""
    paths: list[Path] = [source.folder.evaluations, source.folder.metrics]
    for frame in frame_files(source):
        paths += frame.files
    facts = [
        (str(path.relative_to(source.folder.path)), path.stat().st_size, path.stat().st_mtime_ns)
        for path in paths
        if path.is_file()
    ]
    text = json.dumps([_FORMAT, vars(options), source.model, facts])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _ready(folder: Path, stamp: str) -> MapResult | None:
    """The map of an earlier call, where it is still true."""
    try:
        manifest = Record(folder).manifest
    except RidgelineError:
        return None
    if manifest.details.get("stamp") != stamp or not manifest.frames:
        return None
    return MapResult(folder, {}, manifest.frames[-1].honesty, manifest.warnings, manifest)


class _Clock:
    """Seconds since the last lap, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now
