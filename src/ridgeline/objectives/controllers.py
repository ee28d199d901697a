"""Coefficients that follow what a run measures. `AdaptiveCoefficient` for the KL is in `kl`."""

from __future__ import annotations

import math
from collections.abc import Mapping


class AdaptiveEntropy:
    """Entropy coefficient that switches on below a target and grows while the entropy stays there.

        level <- clip(level + gain, minimum, maximum) when entropy < target, else clip(level - gain, ...)
        value = level while entropy <= target, else 0

    target: nats per token. gain: what the level moves by in one step. minimum, maximum: bounds of the level,
    which starts at minimum and in force. Raises ValueError for numbers that are not finite, gain or target
    not above 0, and bounds out of order. Source: Skywork-OR1, He et al. 2025.
    """

    def __init__(self, target: float, gain: float, minimum: float = 0.0, maximum: float = 1.0) -> None:
        for name, number in (("target", target), ("gain", gain)):
            if not 0 < number < math.inf:
                raise ValueError(f"{name} = {number} must be a finite number above 0")
        if not 0 <= minimum <= maximum < math.inf:
            raise ValueError(f"minimum = {minimum} and maximum = {maximum} need 0 <= minimum <= maximum")
        self.target = target
        self.gain = gain
        self.minimum = minimum
        self.maximum = maximum
        self.level = minimum
        self.active = True

    @property
    def value(self) -> float:
        """The coefficient in force."""
        return self.level if self.active else 0.0

    def update(self, entropy: float) -> float:
        """Take in the entropy measured over one step (nats per token), return the coefficient for the next.

        Raises ValueError for nan and inf, which would otherwise spoil every later step.
        """
        if not math.isfinite(entropy):
            raise ValueError(f"the measured entropy is {entropy}; the coefficient stays at {self.value}")
        moved = self.level + (self.gain if entropy < self.target else -self.gain)
        self.level = min(max(moved, self.minimum), self.maximum)
        self.active = entropy <= self.target
        return self.value

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint has to hold for an exact resume."""
        return {"level": self.level, "active": float(self.active)}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore what `state_dict` returned."""
        self.level, self.active = state["level"], bool(state["active"])
