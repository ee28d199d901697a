"""Lesson 11: pairs of walks, answers, and the ground that a Bradley-Terry model learns from them.

    P(A better than B) = sigmoid(sum_{s in A} r(s) - sum_{s in B} r(s))
    r(s) = sum_k h_k exp(-|s - c_k|^2 / (2 w^2)),   c_k on a lattice

The gold terrain is read by the (simulated) annotator only; the model sees walks and answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ridgeline.landscape.world.grid import BOUND, Grid
from ridgeline.landscape.world.paths import sample_paths
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.terrain import Layer, Terrain
from ridgeline.objectives.reward import soft_bradley_terry
from ridgeline.schema.errors import UsageError

PREFERENCE = {"a": 1.0, "b": 0.0, "tie": 0.5}
"""Probability that A is the better walk, by answer."""
MOST_PAIRS = 2000

_CENTRES = 13
_WIDTH = 0.5
_RIDGE = 0.02
"""Weight of the squared heights: decides what an answer may claim where few walks went."""
_SIGHT = 0.35
"""How near a judged walk ground must lie to be out of the fog."""
_IMAGE = 65
_TEST_PAIRS = 400
_MAX_FIT = 60


class Annotator:
    """Judged pairs, and the terrain fitted to them. The same answers give the same terrain.

    Half of the walks of a pair come from the reference, half from the policy as it is, so that new answers
    are about the ground it stands on.
    """

    def __init__(self, terrain: Terrain, reference: GaussianPolicy, seed: int) -> None:
        self._gold = terrain
        self._reference = reference
        self._seed = seed
        self._asked = 0
        self._walks_a: list[Tensor] = []
        self._walks_b: list[Tensor] = []
        self._preferred: list[float] = []
        self._weights = torch.zeros(_CENTRES**2, dtype=torch.float64)
        self._next_pair(reference)

    @property
    def judged(self) -> int:
        """Pairs that were answered, ties included."""
        return len(self._preferred)

    def answer(self, answer: str, policy: GaussianPolicy) -> None:
        """Judge the pair on show ("a", "b", "tie", "skip") and put up the next; else UsageError."""
        if answer != "skip":
            if answer not in PREFERENCE:
                raise UsageError(f"answer '{answer[:40]}' is none of: a, b, tie, skip, simulate.")
            self._keep(self._pair[:1], self._pair[1:], [PREFERENCE[answer]])
        self._next_pair(policy)

    def simulate(self, count: int, noise: float) -> None:
        """`count` pairs of walks of the reference, judged by gold; a share `noise` of the answers is wrong.

        Raises UsageError for more pairs than can be kept, or a share beyond a half.
        """
        if not (isinstance(count, int) and 1 <= count <= MOST_PAIRS) or not 0 <= noise <= 1:
            raise UsageError(
                f"count = {count} must be 1 to {MOST_PAIRS} pairs and noise = {noise} a share from 0 to 1."
            )
        self._asked += 1
        seed = [self._seed, 11, self._asked]
        walks = sample_paths(self._gold, self._reference, 2 * count, seed)
        better = (walks.returns[:count] > walks.returns[count:]).double()
        wrong = torch.from_numpy(np.random.default_rng([*seed, 1]).random(count) < noise)
        self._keep(
            walks.states[:count], walks.states[count:], torch.where(wrong, 1 - better, better).tolist()
        )

    def ground(self, terrain: Terrain) -> Terrain:
        """The terrain with what was learned as its proxy layer."""
        nodes = torch.from_numpy(Grid(_IMAGE).points)
        heights = (_bumps(nodes) @ self._weights).reshape(_IMAGE, _IMAGE).numpy()
        gold = next(layer for layer in terrain.layers if layer.name == "gold")
        return terrain.replace(layers=(gold, Layer("proxy", (), heights)))

    def numbers(self) -> dict[str, float]:
        """pairs, and agreement: share of fresh pairs that the learned ground orders as gold does."""
        walks = sample_paths(self._gold, self._reference, 2 * _TEST_PAIRS, [self._seed, 12])
        learned = _totals(walks.states) @ self._weights
        gold = walks.returns
        same = (learned[:_TEST_PAIRS] > learned[_TEST_PAIRS:]) == (gold[:_TEST_PAIRS] > gold[_TEST_PAIRS:])
        return {"pairs": float(self.judged), "agreement": float(same.double().mean())}

    def blocks(self, resolution: int) -> dict[str, np.ndarray]:
        """pair_offsets `[3]`, pair_points `[2 (T + 1), 6]` as path_points, proxy.mask `[n, n]`: 0 is fog."""
        states = self._pair
        table = torch.zeros(*states.shape[:2], 6, dtype=torch.float64)
        table[..., :2] = states
        table[..., 2] = self._gold.height(states)
        offsets = np.arange(3, dtype=np.int32) * states.shape[1]
        return {
            "pair_offsets": offsets,
            "pair_points": table.reshape(-1, 6).numpy().astype(np.float32),
            "proxy.mask": self._mask(resolution),
        }

    def _mask(self, resolution: int) -> np.ndarray:
        grid = Grid(resolution)
        if not self._preferred:
            return np.zeros((resolution, resolution), dtype=np.uint8)
        visited = torch.cat([*self._walks_a, *self._walks_b]).reshape(-1, 2).numpy()
        # Once per cell of a fine lattice: thousands of steps lie on the same ground.
        places = np.unique(np.round(visited / 0.1), axis=0) * 0.1
        distance = np.linalg.norm(grid.points[:, None] - places[None], axis=-1).min(1)
        return np.asarray(distance <= _SIGHT, dtype=np.uint8).reshape(resolution, resolution)

    def _keep(self, a: Tensor, b: Tensor, preferred: Sequence[float]) -> None:
        if self.judged + len(preferred) > MOST_PAIRS:
            raise UsageError(f"{MOST_PAIRS} pairs are the most that are kept; open the lesson again.")
        self._walks_a.append(a)
        self._walks_b.append(b)
        self._preferred += preferred
        self._fit()

    def _fit(self) -> None:
        """Heights of the bumps: the answers' likelihood with a ridge penalty, by L-BFGS; convex."""
        totals_a, totals_b = (_totals(torch.cat(walks)) for walks in (self._walks_a, self._walks_b))
        probability = torch.tensor(self._preferred, dtype=torch.float64)
        weights = self._weights.clone().requires_grad_()
        optimiser = torch.optim.LBFGS(
            [weights], max_iter=_MAX_FIT, history_size=20, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimiser.zero_grad()
            losses = soft_bradley_terry(totals_a @ weights, totals_b @ weights, probability)
            total = losses.sum() + _RIDGE * weights.square().sum()
            total.backward()
            return total

        optimiser.step(closure)
        self._weights = weights.detach()

    def _next_pair(self, policy: GaussianPolicy) -> None:
        """One walk of the reference and one of the policy, in an order that tells nothing."""
        self._asked += 1
        seeds = ([self._seed, 11, self._asked, which] for which in range(2))
        walks = [
            sample_paths(self._gold, walker, 1, seed).states
            for walker, seed in zip((self._reference, policy), seeds, strict=True)
        ]
        if np.random.default_rng([self._seed, 11, self._asked, 2]).random() < 0.5:
            walks.reverse()
        self._pair = torch.cat(walks)


def _bumps(states: Tensor) -> Tensor:
    """exp(-|s - c|^2 / 2 width^2) of every bump of the lattice. `[..., 2]` -> `[..., 169]`"""
    axis = torch.linspace(-BOUND, BOUND, _CENTRES, dtype=torch.float64)
    along = torch.exp(-((states[..., None] - axis) ** 2) / (2 * _WIDTH**2))  # [..., 2, 13]
    return (along[..., 0, None, :] * along[..., 1, :, None]).flatten(-2)


def _totals(states: Tensor) -> Tensor:
    """What each walk `[B, T + 1, 2]` stepped on of every bump. `[B, 169]`"""
    return _bumps(states[:, 1:]).sum(1)
