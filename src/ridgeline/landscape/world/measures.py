"""The exact figures of a policy on one terrain against one reference, each computed once per policy."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from torch import Tensor

from ridgeline.landscape.world import exact
from ridgeline.landscape.world.gradient import policy_gradient
from ridgeline.landscape.world.grid import Grid
from ridgeline.landscape.world.operator import Operator
from ridgeline.landscape.world.optimum import Optimum, optimum
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.reference import Corridor, corridor
from ridgeline.landscape.world.terrain import Terrain

T = TypeVar("T")
KEPT = 24
"""Results kept: reference and policy on both layers, and a few policies back."""


class Measures:
    """Exact fields and numbers on an n x n grid; policies are known by parameters and may change in place.

    operators: share the operators of another object on a grid of the same size; they do not depend on the
    terrain, which is what makes dragging a hill cheap.
    """

    def __init__(
        self, terrain: Terrain, reference: GaussianPolicy, resolution: int, operators: Measures | None = None
    ) -> None:
        shared = operators if operators is not None and operators.grid.n == resolution else None
        self.terrain = terrain
        self.reference = reference
        self.resolution: int = resolution
        self.grid: Grid = Grid(resolution) if shared is None else shared.grid
        self._operators: OrderedDict[Any, Operator] = OrderedDict() if shared is None else shared._operators
        self._found: OrderedDict[Any, Any] = OrderedDict()

    def operator(self, policy: GaussianPolicy) -> Operator:
        """The step of the policy, which must not be changed through it."""
        return _remembered(self._operators, _key(policy), lambda: Operator(policy.copy(), self.grid), 4)

    def values(self, policy: GaussianPolicy, layer: str, gamma: float) -> np.ndarray:
        """V_t of the finite walk. `[T + 1, n, n]` reward units."""
        return self._once(
            ("values", _key(policy), layer, gamma),
            lambda: exact.values(self.terrain, self.operator(policy), self.grid, layer, gamma=gamma),
        )

    def costs(self, policy: GaussianPolicy, gamma: float) -> np.ndarray:
        """K_t, the discounted KL to the reference still to come. `[T + 1, n, n]` nats."""
        return self._once(("costs", _key(policy), gamma), lambda: self._costs(policy, gamma))

    def path_values(
        self, policy: GaussianPolicy, states: Tensor, layer: str, gamma: float, beta: float = 0.0
    ) -> Tensor:
        """V_t - beta K_t at the states `[B, t, 2]` of paths from time 0; at most T + 1 of them. `[B, t]`"""
        fields = self.values(policy, layer, gamma)[: states.shape[1]]
        if beta > 0:
            fields = fields - beta * self.costs(policy, gamma)[: states.shape[1]]
        return self.grid.interpolate_steps(fields, states)

    def occupancy(self, policy: GaussianPolicy) -> np.ndarray:
        """The share of the walk's steps that end near each node. `[n, n]`, sums to 1."""
        return self._once(
            ("occupancy", _key(policy)),
            lambda: exact.occupancy(self.terrain, self.operator(policy), self.grid)[1:].mean(0),
        )

    def expected_return(self, policy: GaussianPolicy, layer: str, gamma: float) -> float:
        """J on a layer. Reward units."""
        first = self.values(policy, layer, gamma)[0]
        return float((exact.start_mass(self.terrain, self.grid) * first).sum())

    def trajectory_kl(self, policy: GaussianPolicy) -> float:
        """KL between the paths of the policy and of the reference. Nats per path."""
        return float((exact.start_mass(self.terrain, self.grid) * self.costs(policy, 1.0)[0]).sum())

    def gradient(self, policy: GaussianPolicy, layer: str, gamma: float, beta: float) -> Tensor:
        """Exact gradient of J - beta KL, flat; of J alone where gamma is below 1."""
        priced = {"reference": self.reference, "beta": beta} if beta > 0 and gamma == 1 else {}
        return policy_gradient(
            self.terrain, self.operator(policy), self.grid, layer, gamma=gamma, **cast(Any, priced)
        )

    def optimum(self, beta: float, layer: str) -> Optimum:
        """The best that any policy could reach on J - beta KL; beta above 0."""
        return self._once(
            ("optimum", _key(self.reference), beta, layer),
            lambda: optimum(self.terrain, self.reference, beta, self.grid, layer),
        )

    def corridor(self) -> Corridor:
        """Mean and covariance of the reference's position at every step."""
        reference = self.reference
        return self._once(
            ("corridor", _key(reference)),
            lambda: corridor(self.terrain, self.operator(reference), self.grid),
        )

    def scalars(self, policy: GaussianPolicy, gamma: float) -> dict[str, float | None]:
        """return_gold, return_proxy (None without the layer) and kl, by the names of the record."""
        proxy = self.terrain.has("proxy")
        return {
            "return_gold": self.expected_return(policy, "gold", gamma),
            "return_proxy": self.expected_return(policy, "proxy", gamma) if proxy else None,
            "kl": self.trajectory_kl(policy),
        }

    def _costs(self, policy: GaussianPolicy, gamma: float) -> np.ndarray:
        operator = self.operator(policy)
        now = exact.step_kl(operator, self.reference, self.grid)
        result = np.zeros((self.terrain.horizon + 1, self.grid.n, self.grid.n))
        for t in reversed(range(self.terrain.horizon)):
            result[t] = now + gamma * operator.apply(result[t + 1])
        return result

    def _once(self, key: Any, make: Callable[[], T]) -> T:
        return _remembered(self._found, key, make, KEPT)


def _key(policy: GaussianPolicy) -> bytes:
    return policy.flat().numpy().tobytes()


def _remembered(store: OrderedDict[Any, Any], key: Any, make: Callable[[], T], kept: int) -> T:
    """What the store has under the key, made if need be; the least recently used entries go."""
    if key not in store:
        store[key] = make()
        while len(store) > kept:
            store.popitem(last=False)
    store.move_to_end(key)
    return cast(T, store[key])
