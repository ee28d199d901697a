"""What one learner on the exact world is set to, checked; and per algorithm what is left open."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

from ridgeline.schema.errors import UsageError, nearest

Algorithm = Literal["reinforce", "rloo", "ppo", "trpo", "grpo"]
Baseline = Literal["none", "time", "exact", "learned", "group"]

ALGORITHMS: tuple[str, ...] = get_args(Algorithm)
GROUPED = frozenset({"rloo", "grpo"})
"""Algorithms that compare paths with one start; the others need a baseline of another kind."""
REUSING = frozenset({"ppo", "grpo"})
"""Algorithms whose ratio lets them take several steps on the same paths."""

OPEN: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "reinforce": {"baseline": "time", "normalise_std": False, "epochs": 1, "learning_rate": 0.01},
        "rloo": {"baseline": "group", "normalise_std": False, "epochs": 1, "learning_rate": 0.01},
        "ppo": {"baseline": "learned", "normalise_std": True, "epochs": 6, "learning_rate": 0.005},
        "trpo": {"baseline": "time", "normalise_std": True, "epochs": 1, "learning_rate": 0.01},
        "grpo": {"baseline": "group", "normalise_std": True, "epochs": 6, "learning_rate": 0.005},
    }
)
"""What `Settings.resolved` puts in place of None, by algorithm."""

_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "paths": (2, 4096),
        "group": (2, 256),
        "epochs": (1, 50),
        "clip": (0.0, 1.0),
        "learning_rate": (0.0, 1.0),
        "beta": (0.0, 100.0),
        "lam": (0.0, 1.0),
        "gamma": (0.0, 1.0),
        "budget": (1e-6, 10.0),
        "entropy": (0.0, 10.0),
        "seed": (0, 2**31 - 1),
    }
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One learner: None leaves a value to the algorithm (`OPEN`) or, for gamma, to the terrain.

    algorithm: its loss is the preset of that name; trpo is PPO's without clip, moved by a natural step.
    paths: walked per iteration. group: paths that share a start (rloo, grpo); divides paths.
    epochs: optimizer steps on the same paths (ppo, grpo). clip: half-width of the ratio's interval, 0 for
        none (ppo, grpo). learning_rate: of Adam; trpo uses `budget` instead, nats per action, averaged over
        the states visited.
    beta: KL coefficient, reward units per nat, placed where the preset places it. entropy: weight of the
        entropy bonus, reward units per nat.
    lam, gamma: of generalised advantage estimation; lam has a part only with baselines "exact", "learned".
    baseline: "none"; "time", the mean of the other paths from the same step on; "exact", V by the operator;
        "learned", a critic; "group", the only one of rloo and grpo.
    normalise_std: divide advantages by their deviation (grpo: the group's, others: the batch's).
    filter_dead: leave out groups whose paths all earned the same (rloo, grpo).
    layer: "gold", "proxy" or whatever layer the terrain has. cosine: compare every gradient with the exact
        one, which costs about as much as the other exact figures together.

    Raises UsageError for names unknown, numbers out of range and combinations without effect.
    """

    algorithm: Algorithm = "ppo"
    paths: int = 64
    group: int = 8
    epochs: int | None = None
    clip: float = 0.2
    learning_rate: float | None = None
    beta: float = 0.0
    lam: float = 0.95
    gamma: float | None = None
    baseline: Baseline | None = None
    budget: float = 0.01
    normalise_std: bool | None = None
    entropy: float = 0.0
    filter_dead: bool = False
    layer: str = "gold"
    cosine: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _names(self)
        _ranges(self)
        _combinations(self)

    def resolved(self, gamma: float) -> Settings:
        """Without a None: open values are those of the algorithm, and gamma the terrain's."""
        chosen = {name: value for name, value in OPEN[self.algorithm].items() if getattr(self, name) is None}
        return replace(self, gamma=gamma if self.gamma is None else self.gamma, **chosen)

    def as_dict(self) -> dict[str, Any]:
        """Every field by name."""
        return asdict(self)

    def changed(self, partial: Mapping[str, Any]) -> Settings:
        """With the given fields; another algorithm takes back what had been set for the one before.

        Raises UsageError for a field that does not exist, and as the constructor.
        """
        known = [field.name for field in fields(self)]
        for name in partial:
            if name not in known:
                raise UsageError(f"unknown setting '{name}': {nearest(str(name), known)}")
        values = dict(partial)
        if values.get("algorithm", self.algorithm) != self.algorithm:
            values = {**dict.fromkeys(OPEN[self.algorithm]), "filter_dead": False, **values}
        return replace(self, **values)


def _names(settings: Settings) -> None:
    if settings.algorithm not in ALGORITHMS:
        raise UsageError(
            f"unknown algorithm '{settings.algorithm}': {nearest(str(settings.algorithm), ALGORITHMS)}"
        )
    if settings.baseline is not None and settings.baseline not in get_args(Baseline):
        choices = ", ".join(get_args(Baseline))
        raise UsageError(f"unknown baseline '{settings.baseline}'; choose one of: {choices}.")
    if not isinstance(settings.layer, str):
        raise UsageError("layer must be the name of a layer of the terrain, such as 'gold'.")
    for name in ("normalise_std", "filter_dead", "cosine"):
        value = getattr(settings, name)
        if not (isinstance(value, bool) or (value is None and name == "normalise_std")):
            raise UsageError(f"{name} = {value!r} must be true or false.")


def _ranges(settings: Settings) -> None:
    for name, (low, high) in _RANGES.items():
        value = getattr(settings, name)
        if value is None and name in ("epochs", "learning_rate", "gamma"):
            continue
        whole = isinstance(low, int)
        kind = "a whole number" if whole else "a number"
        numeric = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not numeric or not math.isfinite(value) or not low <= value <= high:
            raise UsageError(f"{name} = {value!r} must be {kind} from {low:g} to {high:g}.")
    if settings.learning_rate == 0:
        raise UsageError("learning_rate = 0 learns nothing; give a number above 0, such as 0.01.")


def _combinations(settings: Settings) -> None:
    algorithm = settings.algorithm
    grouped = algorithm in GROUPED
    if settings.baseline is not None and (settings.baseline == "group") != grouped:
        allowed = "'group'" if grouped else "'none', 'time', 'exact' or 'learned'"
        raise UsageError(f"baseline '{settings.baseline}' does not fit {algorithm}; choose {allowed}.")
    if grouped and settings.paths % settings.group:
        raise UsageError(
            f"{algorithm} needs whole groups, but {settings.paths} paths are no multiple of {settings.group}."
        )
    if settings.epochs not in (None, 1) and algorithm not in REUSING:
        raise UsageError(
            f"{algorithm} makes one step per batch of paths, so epochs = {settings.epochs} has no use; "
            "leave it out, or choose ppo or grpo."
        )
    if settings.filter_dead and not grouped:
        raise UsageError(f"filter_dead needs groups, which {algorithm} has not; choose rloo or grpo.")
