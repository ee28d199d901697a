"""One step of a policy on the grid, as a sparse matrix: M[s, s'] for every node s.

The step is integrated by tensor Gauss-Hermite quadrature over the action and landed on the grid by bilinear
weights. A landing at share f of a cell spreads its mass by f(1 - f) h^2, which would make every walk wider
than it is, step after step. The nodes of each state are therefore drawn in until the variance of the whole
step is right: that takes most of the grid's bias away (measured in tests/landscape/world/test_exact.py).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch

from ridgeline.landscape.world.grid import Grid
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.terrain import STEP

_LEAST_VARIANCE = 0.25
"""Share of a step's variance that stays with the nodes; below it the grid is too coarse for the policy."""

_ROUNDS = 2


def hermite(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of E f(z), z standard normal: exact for polynomials up to degree 2 count - 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


class Operator:
    """The policy's step from every node of the grid, with clipping at the bounds of the world.

    nodes: quadrature nodes a coordinate, so nodes^2 actions a state. K below stands for nodes^2.
    draw_in: whether the nodes make room for the spread of the landing.
    """

    def __init__(self, policy: GaussianPolicy, grid: Grid, nodes: int = 7, draw_in: bool = True) -> None:
        self.policy = policy
        self.grid = grid
        self.drawn_in = draw_in
        z, weights = hermite(nodes)
        with torch.no_grad():
            self.sigma = policy.log_std.exp().numpy()
            centres = grid.points + STEP * policy.mean(torch.from_numpy(grid.points)).numpy()
        self.narrow = np.ones((grid.n**2, 2))
        self._axes = []
        for axis, scale in enumerate(STEP * self.sigma):
            centre = centres[:, axis]
            if draw_in:
                self.narrow[:, axis] = _drawn_in(grid, centre, scale * z, weights)
            self._axes.append(_axis_step(grid, centre, np.outer(self.narrow[:, axis], scale * z)))
        self._axis_weights = weights
        self.z = np.stack([np.tile(z, nodes), np.repeat(z, nodes)], -1)
        self.weights = np.outer(weights, weights).ravel()

    @cached_property
    def matrix(self) -> sp.csr_array:
        """M `[n^2, n^2]`: rows are distributions over the nodes stepped on."""
        (x_index, x_share), (y_index, y_share) = (
            _gather(index, share, self._axis_weights, self.grid.n) for index, share in self._axes
        )
        rows = len(x_index)
        index = (y_index * self.grid.n)[:, :, None] + x_index[:, None, :]
        data = y_share[:, :, None] * x_share[:, None, :]
        return _rows_matrix(index, data, (rows, rows))

    @cached_property
    def landings(self) -> sp.csr_array:
        """`[n^2 K, n^2]`: bilinear weights of where action k of state s lands, row s K + k."""
        (x_index, x_share), (y_index, y_share) = self._axes
        n, count = self.grid.n, len(self._axis_weights)
        rows = len(x_index)
        # [state, y node, x node, y side, x side]
        index = (y_index * n)[:, :, None, :, None] + x_index[:, None, :, None, :]
        data = y_share[:, :, None, :, None] * x_share[:, None, :, None, :]
        wide = (rows * count * count, 4)
        return _rows_matrix(index.reshape(wide), data.reshape(wide), (wide[0], rows))

    def apply(self, field: np.ndarray) -> np.ndarray:
        """Expected field after one step from every node. `[n, n]` -> `[n, n]`."""
        return np.asarray(self.matrix @ field.reshape(-1)).reshape(field.shape)

    def transpose(self, mass: np.ndarray) -> np.ndarray:
        """Where the mass on the nodes is after one step; keeps its sum. `[n, n]` -> `[n, n]`."""
        return np.asarray(self.matrix.T @ mass.reshape(-1)).reshape(mass.shape)

    def at_landings(self, field: np.ndarray) -> np.ndarray:
        """The field where each quadrature action of each node lands. `[n, n]` -> `[n^2, K]`."""
        return np.asarray(self.landings @ field.reshape(-1)).reshape(-1, len(self.weights))

    def from_landings(self, mass: np.ndarray) -> np.ndarray:
        """Mass put on the actions of each node, moved to where they land. `[n^2, K]` -> `[n, n]`."""
        return np.asarray(self.landings.T @ mass.reshape(-1)).reshape(self.grid.n, self.grid.n)


def operator_of(policy: GaussianPolicy | Operator, grid: Grid) -> Operator:
    """The operator of a policy on this grid; one that is given must belong to a grid of this size."""
    if isinstance(policy, GaussianPolicy):
        return Operator(policy, grid)
    if policy.grid.n != grid.n:
        raise ValueError(f"the operator is of a {policy.grid.n} grid, the call of a {grid.n} grid")
    return policy


def _drawn_in(grid: Grid, centre: np.ndarray, offsets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The factor of each state by which its nodes draw in along one axis. `[n^2]`, 1 / 2 at least."""
    variance = (weights * offsets**2).sum()
    narrow = np.ones(len(centre))
    for _ in range(_ROUNDS):  # the landings move with the factor, by little
        _, shares = _axis_step(grid, centre, np.outer(narrow, offsets))
        landing = (shares[..., 0] * shares[..., 1]) @ weights * grid.spacing**2
        narrow = np.sqrt(np.maximum(_LEAST_VARIANCE, 1 - landing / variance))
    return narrow


def _axis_step(grid: Grid, centre: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper node around every landing along one axis, and their shares: both `[n^2, nodes, 2]`."""
    position = (centre[:, None] + offsets - grid.axis[0]) / grid.spacing
    position = np.clip(position, 0.0, grid.n - 1)
    lower = np.minimum(position.astype(np.int32), grid.n - 2)
    share = position - lower
    return np.stack([lower, lower + 1], -1), np.stack([1 - share, share], -1)


def _gather(
    index: np.ndarray, share: np.ndarray, weights: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Landings along one axis summed over the quadrature: indices and weights `[n^2, W]`.

    Where the landings of every row fit into a window narrower than their number, equal indices are merged.
    """
    rows = len(index)
    share = share * weights[None, :, None]
    flat_index, flat_share = index.reshape(rows, -1), share.reshape(rows, -1)
    width = int((flat_index.max(1) - flat_index.min(1)).max()) + 1
    if width >= flat_index.shape[1]:
        return flat_index, flat_share
    first = np.minimum(flat_index.min(1), n - width).astype(np.int32)
    slot = np.arange(rows)[:, None] * width + (flat_index - first[:, None])
    merged = np.bincount(slot.ravel(), flat_share.ravel(), rows * width).reshape(rows, width)
    return first[:, None] + np.arange(width, dtype=np.int32), merged


def _rows_matrix(index: np.ndarray, data: np.ndarray, shape: tuple[int, int]) -> sp.csr_array:
    """CSR of rows that all have the same number of entries; scipy sums entries of equal index in products."""
    per_row = data.size // shape[0]
    pointers = np.arange(0, data.size + 1, per_row, dtype=np.int32)
    return sp.csr_array((data.ravel(), index.ravel().astype(np.int32, copy=False), pointers), shape=shape)
