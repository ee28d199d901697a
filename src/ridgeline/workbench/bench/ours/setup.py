"""What every work on our side starts with: the model, an engine, a sampler, and the two paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ridgeline.models.forward import PolicyForward
from ridgeline.models.hardware import resolve_dtype
from ridgeline.models.kernels.build import kernels_note
from ridgeline.models.load import LanguageModel, load_model
from ridgeline.models.probe import supports_packing
from ridgeline.rollout.native import new_sampler
from ridgeline.rollout.plain import PlainSampler
from ridgeline.rollout.request import Sampler
from ridgeline.schema.stages.common import Optimiser, Work
from ridgeline.training.engine import Forward
from ridgeline.training.local import LocalEngine

LEARNING_RATE = 1e-6
TOKENS_PER_MICROBATCH = Work().tokens_per_microbatch
"""The default of recipes."""


@dataclass
class Bench:
    """A model and how it is to be run: the fast path, or the plain one.

    The plain path pads rows and runs transformers' own passes, without kernels and with the stock allocator.
    """

    model: LanguageModel
    plain: bool
    packed: bool

    @staticmethod
    def load(workload: dict[str, Any], *, plain: bool) -> Bench:
        """The workload's model, in the number format that a recipe would take here."""
        dtype = resolve_dtype("auto", torch.device("cpu"))
        model = load_model(workload["model"], dtype=dtype)
        return Bench(model, plain, not plain and supports_packing(model.module))

    def sampler(self, stop_ids: list[int]) -> tuple[Sampler, str]:
        """A sampler that ends at ``stop_ids``, and which one it is."""
        if self.plain:
            return PlainSampler(self.model.module, self.model.tokenizer, stop_ids), "plain"
        return new_sampler(self.model.module, self.model.tokenizer, stop_ids)

    def learner(
        self,
        module: nn.Module | None = None,
        forward: Forward | None = None,
        *,
        role: str = "policy",
        sampler: Sampler | None = None,
    ) -> LocalEngine:
        """An engine in which ``module`` (the model itself, if not given) learns."""
        engine = LocalEngine()
        engine.add(
            role,
            self.model.module if module is None else module,
            forward or PolicyForward(),
            packed=self.packed,
            tokens_per_microbatch=TOKENS_PER_MICROBATCH,
            optimiser=Optimiser(learning_rate=LEARNING_RATE, warmup=0),
            sampler=sampler,
        )
        return engine

    def add_reference(self, engine: LocalEngine) -> None:
        """A frozen copy of the model as it is now."""
        engine.add(
            "reference",
            self.model.snapshot().module,
            PolicyForward(),
            packed=self.packed,
            tokens_per_microbatch=TOKENS_PER_MICROBATCH,
        )

    def settings(self) -> dict[str, Any]:
        """What a reader of the figures has to know."""
        return {
            "path": "plain" if self.plain else "fast",
            "dtype": str(self.model.module.dtype),
            "layout": "packed" if self.packed else "padded",
            "tokens per micro-batch": TOKENS_PER_MICROBATCH,
            "kernels": kernels_note(),
            "threads": torch.get_num_threads(),
        }
