"""Five verbs that hide the machine. Nothing above this floor knows which engine runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ridgeline.models.batch import MicroBatch, Unit
from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.records import Sample
from ridgeline.schema.run_folder import Metrics
from ridgeline.schema.stages.common import Sampling
from ridgeline.training.objective import Objective

Outputs = dict[str, torch.Tensor]
Forward = Callable[[nn.Module, MicroBatch, bool], Outputs]
"""(module, batch, packed) -> tensors ``[B, N]`` per scored token or ``[B, ...]`` per row."""
RowScores = dict[str, npt.NDArray[np.float32]]


class Engine(Protocol):
    """Models by role (``policy``, ``critic``, ``reference``, ``reward`` ...), moved by five verbs."""

    def sample(
        self, role: str, requests: Sequence[PromptRequest], sampling: Sampling, *, seed: int, step: int
    ) -> list[Sample]:
        """Completions in prompt-major order."""
        ...

    def score(self, role: str, units: Sequence[Unit], forward: Forward | None = None) -> list[RowScores]:
        """Forward only: outputs of every row, trimmed to its scored tokens, in the order of the rows."""
        ...

    def forward_backward(self, role: str, units: Sequence[Unit], objective: Objective) -> Metrics:
        """Add the gradient of the whole step's objective; micro-batches never change it."""
        ...

    def step(self, role: str, rate: float) -> float:
        """One optimizer step; returns the gradient norm before clipping."""
        ...

    def publish(self, role: str) -> int:
        """Make the role's newest weights those that ``sample`` uses; returns their version."""
        ...

    def save(self, folder: Path) -> None:
        """Everything that training needs to go on, bit for bit."""
        ...

    def load(self, folder: Path) -> None: ...
