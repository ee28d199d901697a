"""A linear layer with LoRA or DoRA around it (peft), read as the one matrix that it amounts to."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def amounts_to_a_linear(module: nn.Module) -> bool:
    """Whether `weight_of` knows ``module``: a plain linear layer, or one with LoRA or one DoRA around it."""
    if type(module) is nn.Linear:
        return True
    if not type(module).__module__.startswith("peft."):
        return False
    from peft.tuners.lora.layer import Linear
    from peft.tuners.lora.variants import DoraLinearVariant

    if not isinstance(module, Linear) or type(module.base_layer) is not nn.Linear:
        return False
    variants = [type(variant) for variant in module.lora_variant.values()]
    plain = not variants or (variants == [DoraLinearVariant] and len(module.lora_A) == 1)
    return plain and not module.fan_in_fan_out and not any(module.lora_bias.values())


@torch.no_grad()
def weight_of(linear: Any) -> torch.Tensor:
    """``[out, in]``: W, or W + (alpha / r) B A with the adapter on, its rows scaled to their length by DoRA.

    A sum is rounded once to the format of W. Source: Hu et al. 2022, equation 3; Liu et al. 2024, equation 5.
    """
    if type(linear) is nn.Linear:
        return linear.weight.detach()
    weight: torch.Tensor = linear.base_layer.weight.detach()
    if linear.disable_adapters or linear.merged:
        return weight
    active = [name for name in linear.active_adapters if name in linear.lora_A]
    if linear.lora_variant:
        for name in active:
            weight = linear.lora_variant[name].merge_safe(linear, name, weight)
        return weight
    total = weight.float()
    for name in active:
        total = total + linear.get_delta_weight(name).float()
    return total.to(weight.dtype)


def state_of(linear: Any) -> tuple[object, ...]:
    """Changes whenever `weight_of` or the bias may: where the tensors lie, their versions, and what is on."""
    tensors = tuple(
        number for tensor in linear.parameters() for number in (tensor.data_ptr(), tensor._version)
    )
    if type(linear) is nn.Linear:
        return tensors
    scaling = tuple(linear.scaling.values())
    return (*tensors, linear.disable_adapters, linear.merged, *linear.active_adapters, *scaling)
