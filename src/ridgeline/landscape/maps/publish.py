"""Writing a scene into the record: manifest, terrain and frames, with every estimate named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.landscape.maps.bounds import reads_as, sigma_equivalent
from ridgeline.landscape.maps.density import LEVELS
from ridgeline.landscape.maps.frames import frame_blocks, frame_scalars
from ridgeline.landscape.maps.plane_file import NAME
from ridgeline.landscape.maps.scene import Scene
from ridgeline.landscape.maps.words import Facts, honesty_line, map_line, warnings_of
from ridgeline.landscape.record import Altitude, Axes, Axis, Corridor, Kl, Manifest, RecordWriter, Value
from ridgeline.schema.records import reshaping

_METHODS: dict[str, Any] = {"reward": "reward_axis", "pca": "pca", "drift": "drift"}
_X = {
    "reward": "direction of reward (uphill to the right by construction)",
    "pca": "main direction of the reference",
    "drift": "direction of the drift (last step to the right by construction)",
}
_UNIT = "standard deviations of the reference"


def publish(scene: Scene, folder: Path, details: dict[str, Any], most_points: int, seed: int) -> Manifest:
    """Replace the record in ``folder``; returns its manifest."""
    writer = RecordWriter(folder)
    manifest = _manifest(scene, details, seed)
    writer.manifest(manifest)
    layers = {name: (s.mean, s.error, s.shown) for name, s in scene.surfaces.items()}
    writer.terrain(layers, scene.bounds)
    for frame, step in enumerate(scene.table.steps):
        line = honesty_line(
            scene.source, step, scene.plane, scene.surfaces[scene.active], _altitude_words(scene),
            scene.drifts[frame], _counts(scene, frame),
        )  # fmt: skip
        entry = writer.frame(
            step, frame_scalars(scene, frame), line, **frame_blocks(scene, frame, most_points)
        )
        manifest = manifest.model_copy(update={"frames": (*manifest.frames, entry)})
    names = tuple(dict.fromkeys(name for entry in manifest.frames for name in entry.scalars))
    return manifest.model_copy(update={"scalars": names})


def _manifest(scene: Scene, details: dict[str, Any], seed: int) -> Manifest:
    plane, surfaces = scene.plane, scene.surfaces
    last = scene.drifts[-1]
    (low_x, high_x), (low_y, high_y) = scene.bounds
    return Manifest(
        kind="lm",
        title=f"{scene.source.run} / {scene.source.config['name']}",
        seeds=(seed,),
        axes=Axes(
            method=_METHODS[plane.method],
            x=Axis(name=_X[plane.method], unit=_UNIT, range=(low_x, high_x)),
            y=Axis(name="main direction of the rest", unit=_UNIT, range=(low_y, high_y)),
            fitted_on=map_line(plane).partition("fitted on ")[2],
            samples=plane.samples,
            file=NAME,
        ),
        altitude=Altitude(
            name=_altitude_words(scene),
            unit="reward",
            layers=tuple(surfaces),
            active=scene.active,
            range=_range(scene),
            r2={name: _number(s.r2) for name, s in surfaces.items()},
            residual={name: _number(s.residual) for name, s in surfaces.items()},
        ),
        value=Value(kind=scene.values.kind, note=scene.values.note),
        kl=Kl(estimator="k1", unit="nats per completion"),
        corridor=Corridor(
            kind="contours",
            levels=LEVELS,
            note=f"50, 90 and 99 % of the reference's cloud; last step: {last.sentence()}. Bound: "
            "kl(outside || 1 %) <= KL, for held-out prompts only.",
        ),
        warnings=tuple(warnings_of(scene.source, _facts(scene), plane, surfaces[scene.active], scene.drifts)),
        details={**_details(scene), **details},
    )


def _details(scene: Scene) -> dict[str, Any]:
    last = scene.drifts[-1].kl
    judged = "every prompt" if scene.plane.method == "pca" else "prompts that the axes were not fitted on"
    return {
        "layers": dict(scene.source.labels),
        "encoder": f"last hidden states of {scene.source.model}, averaged over the completion",
        "centred": "position and altitude minus the reference's mean for the prompt",
        "raw_altitude": scene.raw,
        "judged_on": judged,
        "plane_share_of_reference_variance": round(scene.plane.share, 4),
        "axis_fit_r2": _number(scene.plane.fit_r2),
        "r2_within_step": {name: _number(s.r2_within) for name, s in scene.surfaces.items()},
        "bandwidth": {name: s.bandwidth for name, s in scene.surfaces.items()},
        "samples": len(scene.table),
        "reference_samples": int(scene.reference.cloud_N.sum()),
        "samples_without_reference_prompt": int((~scene.reference.placed_N).sum()),
        "share_of_samples_with_traced_advantage": round(float(scene.tokens.traced_N.mean()), 4),
        "advantage": "as training used it, mean over tokens; without a trace: reward minus its group's mean",
        "kl_reads_as": reads_as(last) if np.isfinite(last) else None,
        "sigma_equivalent": round(sigma_equivalent(last), 2) if np.isfinite(last) else None,
        "prompts": list(scene.table.prompts),
    }


def _facts(scene: Scene) -> Facts:
    table, placed = scene.table, scene.reference.placed_N
    samples = table.samples
    return Facts(
        samples=len(table),
        prompts=len(table.prompts),
        reference=int(scene.reference.cloud_N.sum()),
        unplaced=int((~placed).sum()),
        unplaced_prompts=len(np.unique(table.prompt_N[~placed])),
        truncated_sampling=any(reshaping(sample) for sample in samples),
        greedy=any(sample.temperature == 0 for sample in samples),
    )


def _altitude_words(scene: Scene) -> str:
    name = scene.source.labels[scene.active]
    return name if scene.raw else f"{name} - reference mean"


def _counts(scene: Scene, frame: int) -> str:
    inside = scene.table.frame_N == frame
    return f"{inside.sum():,} samples, {len(np.unique(scene.table.prompt_N[inside])):,} prompts"


def _range(scene: Scene) -> tuple[float, float]:
    """Of the ground that is shown and of the samples' middle 98 %: one scale for all frames."""
    heights = scene.heights.shown[scene.active]
    values = [*np.nanquantile(heights, [0.01, 0.99])]
    for each in scene.surfaces.values():
        if each.shown.any():
            values += [each.mean[each.shown].min(), each.mean[each.shown].max()]
    low, high = float(min(values)), float(max(values))
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def _number(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
