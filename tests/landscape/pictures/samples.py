"""Records to draw: a walker between two hills and a map of a language-model run, both made up by formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.landscape.record import (
    Altitude,
    Axes,
    Axis,
    Corridor,
    Kl,
    Manifest,
    Record,
    RecordWriter,
    Value,
)

Array = NDArray[Any]
GOLD = (
    (1.4, 1.5, 0.85, 1.0),
    (-1.6, 1.5, 0.60, 0.55),
    (0.0, 0.2, 0.45, -0.6),
    (2.2, -0.2, 0.55, -0.9),
)
SPIKE = (2.2, -0.2, 0.60, 3.2)
START = np.array([-2.0, -1.6])
HORIZON, STEP, SIGMA = 24, 0.30, 0.6
ROUTE = ((-2.0, -1.6), (-0.9, -1.3), (0.1, -0.9), (0.9, -0.1), (1.1, 0.7))


def height(states: Array, bumps: tuple[tuple[float, ...], ...]) -> Array:
    return sum(
        h * np.exp(-((states[..., 0] - x) ** 2 + (states[..., 1] - y) ** 2) / (2 * w * w))
        for x, y, w, h in bumps
    )


def walk(target: Array, paths: int, generator: np.random.Generator) -> Array:
    """States [paths, T + 1, 2] of walkers that round the ravine, then head for ``target``."""
    state = START + 0.15 * generator.standard_normal((paths, 2))
    states = [state]
    for _ in range(HORIZON):
        state = np.clip(
            state + STEP * (mean(state, target) + SIGMA * generator.standard_normal((paths, 2))), -3, 3
        )
        states.append(state)
    return np.stack(states, axis=1)


def mean(state: Array, target: Array) -> Array:
    """The mean action: towards a waypoint below the ravine, from there to the target."""
    waypoint = np.array([0.5, -0.9])
    goal = np.where(state[..., :1] < 0.2, waypoint, target)
    way = goal - state
    return way / np.maximum(1.0, np.linalg.norm(way, axis=-1, keepdims=True))


def exact(
    folder: Path, *, layers: tuple[str, ...] = ("gold",), n: int = 65, frames: int = 3, paths: int = 24
) -> Record:
    """A walker that learns, frame by frame, to climb the summit."""
    axis = np.linspace(-3, 3, n)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    bumps = {"gold": GOLD, "proxy": (*GOLD, SPIKE)}
    heights = {name: height(grid, bumps[name]) for name in layers}
    low, high = min(h.min() for h in heights.values()), max(h.max() for h in heights.values())
    plane = [Axis(name=name, unit="", range=(-3, 3)) for name in ("x", "y")]
    writer = RecordWriter(folder)
    writer.manifest(
        Manifest(
            kind="exact",
            title="Ravine",
            seeds=(0,),
            axes=Axes(method="state", x=plane[0], y=plane[1]),
            altitude=Altitude(
                name="reward", unit="per step", layers=layers, active="gold", range=(low, high)
            ),
            value=Value(kind="exact", note="65 x 65 operator"),
            kl=Kl(estimator="exact", unit="nats per path"),
            corridor=Corridor(kind="tube", note="of the reference's own cloud"),
            details={"start": START.tolist(), "route": [list(p) for p in ROUTE], "horizon": HORIZON},
        )
    )
    writer.terrain({name: (h, None, None) for name, h in heights.items()}, ((-3, 3), (-3, 3)))
    generator = np.random.default_rng(0)
    cloud = walk(np.array([1.1, 0.7]), 400, generator)
    tube = {
        "corridor_mean": cloud.mean(0),
        "corridor_cov": np.stack([np.cov(cloud[:, t].T) for t in range(HORIZON + 1)]),
    }
    lattice = np.stack(np.meshgrid(np.linspace(-2.8, 2.8, 15), np.linspace(-2.8, 2.8, 15)), -1).reshape(-1, 2)
    for number in range(frames):
        share = number / max(1, frames - 1)
        target = np.array([1.1, 0.7]) * (1 - share) + np.array([1.4, 1.5]) * share
        states = walk(target, paths, generator)
        points = _path_points(states, bumps["gold"])
        returns = points[:, 1:, 2].sum(1)
        distance = np.linalg.norm(grid - target, axis=-1)
        writer.frame(
            20 * number,
            {
                "return_gold": float(returns.mean()),
                **({"return_proxy": float(returns.mean() * (1 + share))} if "proxy" in layers else {}),
                "kl": 3.1 * share**2,
                "entropy": 1.8 - share,
            },
            f'exact world "ravine", step {20 * number} | plane = the state itself | '
            f"altitude = reward, exact | KL {3.1 * share**2:.2f} nats per path (exact) | "
            f"V exact on 65 x 65 | {paths} paths, seed 0",
            path_offsets=np.arange(paths + 1) * (HORIZON + 1),
            path_points=points.reshape(-1, 6),
            value=14 * np.exp(-distance / 2.2),
            arrows=_arrows(lattice, target, SIGMA * (1 - 0.5 * share)),
            reference_arrows=_arrows(lattice, np.array([1.1, 0.7]), SIGMA),
            **tube,
        )
    return Record(folder)


def _path_points(states: Array, bumps: tuple[tuple[float, ...], ...]) -> Array:
    altitude = height(states, bumps)
    togo = np.cumsum(altitude[:, ::-1], axis=1)[:, ::-1]
    advantage = np.zeros_like(altitude)
    advantage[:, 1:] = togo[:, 1:] - togo[:, 1:].mean(0)
    return np.concatenate(
        [states, np.stack([altitude, togo - altitude, advantage, np.zeros_like(altitude)], -1)], -1
    )


def _arrows(lattice: Array, target: Array, sigma: float) -> Array:
    return np.concatenate([lattice, mean(lattice, target), np.full((len(lattice), 2), sigma)], 1)


def language_model(folder: Path, *, n: int = 65, points: int = 384, frames: int = 3) -> Record:
    """A cloud of completions that drifts along the reward axis out of the reference's contours."""
    generator = np.random.default_rng(1)
    axis = np.linspace(-4, 6, n)
    x, y = np.meshgrid(axis, axis)
    seen = np.exp(-(((x - 1) / 3.2) ** 2 + (y / 2.6) ** 2)) * 200
    heights = 0.35 * x + 0.6 * np.exp(-((x - 2.5) ** 2 + (y - 1.5) ** 2) / 2) - 0.04 * y**2
    layer = (heights, 0.9 / np.sqrt(seen + 1e-9), seen > 8)
    writer = RecordWriter(folder)
    writer.manifest(
        Manifest(
            kind="lm",
            title="quickstart: policy",
            seeds=(1,),
            axes=Axes(
                method="reward_axis",
                x=Axis(name="reward axis", unit="sd of the reference", range=(-4, 6)),
                y=Axis(name="first remaining component", unit="sd of the reference", range=(-4, 6)),
                fitted_on="reference samples",
                samples=2048,
            ),
            altitude=Altitude(
                name="reward minus reference mean",
                unit="",
                layers=("reward",),
                active="reward",
                range=(-1.8, 2.2),
                r2={"reward": 0.41},
                residual={"reward": 0.7},
            ),
            value=Value(kind="regression", note="of the final reward on prefixes"),
            kl=Kl(estimator="k1", unit="nats per completion"),
            corridor=Corridor(kind="contours", note="highest-density regions of the reference cloud"),
            warnings=("The picture shows 9 % of the drift: most of what changed lies off this plane.",),
        )
    )
    writer.terrain({"reward": layer}, ((-4, 6), (-4, 6)))
    circle = np.linspace(0, 2 * np.pi, 60)
    rings = [np.stack([1.2 * r * np.cos(circle), r * np.sin(circle)], 1) for r in (1.18, 2.15, 3.03)]
    for number in range(frames):
        share = number / max(1, frames - 1)
        ends = generator.standard_normal((points, 2)) * (1.1, 0.9) + (2.2 * share, 0.8 * share)
        reward = 0.35 * ends[:, 0] + 0.5 * generator.standard_normal(points)
        rows = np.zeros((points, 8))
        rows[:, :2], rows[:, 2], rows[:, 3] = ends, reward, np.nan
        rows[:, 4], rows[:, 5], rows[:, 6] = reward - reward.mean(), 2.1 * share, 40
        rows[:, 7] = np.arange(points) % 16
        routes = np.linspace(0, 1, 9)[:, None] * ends[:10, None] + 0.15 * generator.standard_normal(
            (10, 9, 2)
        )
        routes[:, -1] = ends[:10]
        flight = np.full((10, 9, 6), np.nan)
        flight[..., :2], flight[..., 3] = routes, 0.35 * routes[..., 0]
        flight[:, -1, 2], flight[:, 1:, 4] = reward[:10], np.diff(0.35 * routes[..., 0])
        writer.frame(
            200 * number,
            {"reward": float(reward.mean()), "kl": 2.1 * share, "outside_99": 0.12 * share},
            f'LM run "quickstart", step {200 * number} | map: ref-hidden PCA, reward axis x, '
            f"fitted on 2,048 reference samples | altitude = reward - reference mean, R2 0.41, residual "
            f"+-0.7 | KL {2.1 * share:.1f} nats/seq (k1) | shows 9 % of the drift | "
            f"{points} samples, 16 prompts",
            points=rows,
            point_ids=np.stack([rows[:, 7], np.arange(points)], 1),
            path_offsets=np.arange(11) * 9,
            path_points=flight.reshape(-1, 6),
            contour_offsets=np.arange(4) * 60,
            contour_points=np.concatenate(rings),
            contour_levels=[0.5, 0.9, 0.99],
        )
    return Record(folder)
