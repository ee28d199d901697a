"""LoRA and DoRA through peft: small matrices learn, the model's own weights stay as they are.

The layers are put into the model in place, so every forward pass, sampler and head of this library runs on it
unchanged. The model without its adapter is the reference for free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from ridgeline.schema.errors import UsageError
from ridgeline.schema.stages.common import Adapter

P = ParamSpec("P")
R = TypeVar("R")


def add_adapter(module: PreTrainedModel, config: Adapter, *, seed: int) -> PeftModel:
    """Put a trainable adapter into ``module``, whose own weights are frozen; ``seed`` draws its first factor.

    With the second factor zero the model computes what it did before.

    Raises:
        UsageError: the model has no layers of the names asked for.
    """
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type] # peft only divides it by the rank
        lora_dropout=0.0,
        use_dora=config.kind == "dora",
        target_modules=config.targets if isinstance(config.targets, str) else list(config.targets),
        bias="none",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        try:
            adapted = get_peft_model(module, lora)
        except ValueError as error:
            raise UsageError(f"adapter.targets = {config.targets!r}: {_first_sentence(error)}") from None
    return adapted.eval()


def trainable_share(module: PreTrainedModel) -> float:
    """Trainable parameters over all parameters, in [0, 1]."""
    sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return sum(size for size, learns in sizes if learns) / sum(size for size, _ in sizes)


@dataclass
class WithoutAdapter(Generic[P, R]):
    """A forward pass or a sampler as it would be without the adapter: how the reference is read."""

    adapter: PeftModel
    run: Callable[P, R]
    weight_version: int = 0

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
        with self.adapter.disable_adapter():
            return self.run(*arguments, **named)


def merge(adapter: PeftModel) -> PreTrainedModel:
    """The model with the adapter added into its weights; a plain model of its own class again."""
    merged: Any = adapter.merge_and_unload(safe_merge=True)
    model: PreTrainedModel = merged
    return model


def _first_sentence(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") + "."
