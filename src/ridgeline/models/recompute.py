"""Gradient checkpointing in evaluation mode: activations of a layer are computed again in its backward pass.

transformers recomputes only layers whose ``training`` flag is set, and this library trains with dropout off,
in evaluation mode. So the flag is set on the decoder layers themselves (not on what is inside them), and only
while gradients are being made: sampling needs the cache that recomputation forbids.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from ridgeline.models.text_attention import recomputing_contexts
from ridgeline.schema.errors import UsageError


def enable_recomputing(module: nn.Module) -> None:
    """Prepare ``module`` (a model, or one that holds a model) for ``recomputing``.

    Raises:
        UsageError: its architecture cannot do it, or has dropout that its layers would switch on.
    """
    for model in _models(module):
        dropout = {
            name: value
            for name, value in model.config.to_dict().items()
            if ("dropout" in name or "pdrop" in name) and isinstance(value, float) and value > 0
        }
        if dropout:
            raise UsageError(
                f"work.checkpointing would switch dropout on ({', '.join(sorted(dropout))}); "
                "set it to 0 in the model's config.json."
            )
        if not model.supports_gradient_checkpointing:
            raise UsageError(
                f"{type(model).__name__} does not support gradient checkpointing; remove work.checkpointing."
            )
        contexts = partial(recomputing_contexts, model)
        model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": contexts})


@contextmanager
def recomputing(module: nn.Module) -> Iterator[None]:
    """While the block runs, layers prepared by ``enable_recomputing`` keep nothing but their input."""
    layers = [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def _models(module: nn.Module) -> list[PreTrainedModel]:
    if isinstance(module, PreTrainedModel):
        return [module]
    return [part for part in module.children() if isinstance(part, PreTrainedModel)]
