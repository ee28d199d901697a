"""Which prompts a rollout asks: epoch after epoch in a keyed order, and more where some taught nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from ridgeline.data.order import batch_indices
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.rewards.combine import TOTAL
from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.records import Sample


@dataclass
class Prompts:
    """The training prompts, and how many places of their endless order have been drawn.

    The order is a function of the seed, so ``drawn`` is all that a checkpoint has to hold.
    """

    requests: Sequence[PromptRequest]
    seed: int
    drawn: int = 0

    def draw(self, many: int, before: Counter[str]) -> list[PromptRequest]:
        """The next ``many``; a prompt that the same rollout drew ``before`` gets samples with new numbers,
        since draws are keyed by prompt and number.
        """
        places = range(self.drawn, self.drawn + many)
        self.drawn += many
        chosen = []
        for place in places:
            (index,) = batch_indices(len(self.requests), 1, place, self.seed)
            request = self.requests[index]
            chosen.append(replace(request, first=before[request.id] * request.samples))
            before[request.id] += 1
        return chosen


@dataclass
class Group:
    """A prompt and its scored samples."""

    request: PromptRequest
    samples: list[Sample]

    def column(self, name: str) -> list[float | None]:
        """The values of one reward."""
        return [sample.rewards.get(name) for sample in self.samples]


def gather(
    prompts: Prompts,
    wanted: int,
    rounds: int,
    ask: Callable[[list[PromptRequest]], list[Sample]],
    has_signal: Callable[[Group], bool],
) -> list[Group]:
    """Every group that was sampled: ``wanted`` prompts, then up to ``rounds`` times as many as lack signal.

    Source: dynamic sampling of DAPO, Yu et al. 2025, section 3.2.
    """
    groups: list[Group] = []
    before: Counter[str] = Counter()
    missing = wanted
    for _ in range(1 + rounds):
        requests = prompts.draw(missing, before)
        samples = iter(ask(requests))
        new = [Group(request, [next(samples) for _ in range(request.samples)]) for request in requests]
        groups += new
        missing -= sum(has_signal(group) for group in new)
        if missing == 0:
            break
    return groups


def carries_signal(group: Group, objective: PolicyObjective, components: Sequence[str]) -> bool:
    """Whether the rewards that the advantage compares differ within the group; a KL does not count."""
    if objective.advantage == "process_zscore":
        return _differ([reward for sample in group.samples for _, reward in sample.step_rewards])
    names = components if objective.components == "separate" else (TOTAL,)
    return any(_differ(group.column(name)) for name in names)


def _differ(values: Sequence[float | None]) -> bool:
    return len({value for value in values if value is not None}) > 1


def reward_columns(groups: Sequence[Group], names: Sequence[str]) -> torch.Tensor:
    """``[P, G, C]``, nan where a reward is not applicable."""
    values = [[group.column(name) for name in names] for group in groups]
    known = [
        [[float("nan") if value is None else value for value in column] for column in group]
        for group in values
    ]
    return torch.tensor(known, dtype=torch.float32).transpose(1, 2)
