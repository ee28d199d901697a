"""What isolated and in-process reward functions share: failures become None, and are counted."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ridgeline.rewards.call import Failure, Reply, Values
from ridgeline.schema.errors import RunError
from ridgeline.schema.records import Sample


class FunctionReward(ABC):
    """A component of the reward that calls a function.

    When a call fails as a whole (exception, timeout, dead worker) the batch is given again prompt by prompt,
    so that one bad row costs the completions of its own prompt only. Completions of one prompt stay together,
    since a function may compare them.

    ``counts`` holds the completions left without a value, by kind of failure; ``failed`` those of the last
    call, by position, each with its sentence; ``first_failure`` the first sentence of all. Counts start at 0
    in a resumed process; what happened before is in the samples.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: dict[str, int] = {}
        self.failed: dict[int, str] = {}
        self.first_failure: str | None = None

    def __call__(self, samples: list[Sample]) -> Values:
        """One value per sample; None: not applicable, or failed (then it is in ``failed``).

        Raises:
            RunError: the function returned a list of the wrong length, so values belong to nobody.
        """
        self.failed = {}
        if not samples:
            return []
        outcome = self._checked_attempt(samples)
        reply = self._by_prompt(samples, outcome) if isinstance(outcome, Failure) else outcome
        for position, failure in sorted(reply.failures.items()):
            sample = samples[position]
            self.counts[failure.kind] = self.counts.get(failure.kind, 0) + 1
            self.failed[position] = (
                f"reward '{self.name}' {failure.message}, "
                f"at prompt '{sample.prompt_id}', completion {sample.index}."
            )
        if self.failed and self.first_failure is None:
            self.first_failure = next(iter(self.failed.values()))
        return reply.values

    @abstractmethod
    def close(self) -> None:
        """Let go of whatever the calls needed; calling again afterwards is allowed."""

    @abstractmethod
    def _attempt(self, samples: list[Sample]) -> Reply | Failure: ...

    def _checked_attempt(self, samples: list[Sample]) -> Reply | Failure:
        outcome = self._attempt(samples)
        if isinstance(outcome, Failure) and outcome.kind == "wrong_length":
            raise RunError(f"reward '{self.name}' {outcome.message}.")
        return outcome

    def _by_prompt(self, samples: list[Sample], whole: Failure) -> Reply:
        groups: dict[str, list[int]] = {}
        for position, sample in enumerate(samples):
            groups.setdefault(sample.prompt_id, []).append(position)
        reply = Reply([None] * len(samples))
        timeouts, answered = 0, False
        for positions in groups.values():
            # Two prompts that hang and none that answers: the function hangs, not a row. Stop waiting.
            hopeless = len(groups) == 1 or (timeouts >= 2 and not answered)
            outcome = whole if hopeless else self._checked_attempt([samples[i] for i in positions])
            if isinstance(outcome, Failure):
                timeouts += outcome.kind == "timeout"
                reply.failures.update(dict.fromkeys(positions, outcome))
                continue
            answered = True
            for i, position in enumerate(positions):
                reply.values[position] = outcome.values[i]
                if i in outcome.failures:
                    reply.failures[position] = outcome.failures[i]
        return reply
