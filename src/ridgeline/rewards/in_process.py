"""Reward functions that only exist in this process: closures, lambdas, notebook cells."""

from __future__ import annotations

from ridgeline.rewards.call import Failure, Reply, RewardFunction, evaluate
from ridgeline.rewards.function_reward import FunctionReward
from ridgeline.schema.records import Sample


class InProcessReward(FunctionReward):
    """Calls ``function`` here. Exceptions and NaN become None and are counted as for an isolated function.

    Nothing can stop a call that hangs, and one that ends the process ends the run: a thread cannot be killed.
    Put the function into a module to have it isolated.
    """

    def __init__(self, function: RewardFunction, *, name: str) -> None:
        super().__init__(name)
        self.function = function

    def _attempt(self, samples: list[Sample]) -> Reply | Failure:
        return evaluate(self.function, samples)

    def close(self) -> None:
        """Nothing is held."""
