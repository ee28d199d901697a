"""AdamW on float32 master weights, whatever the format of the working weights.

Updates of size lr are lost when weights are bfloat16: at lr 1e-5, 98 % of this library's embedded model would
not move. Gradients are therefore added up in float32 too, micro-batch by micro-batch, mostly where they are
made (`models/gradient_sum.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ridgeline.models.gradient_sum import GradientSum
from ridgeline.schema.stages.common import Optimiser

_WIDE = (torch.float32, torch.float64)
"""Formats that keep small updates, so that the working weights are their own masters."""


def learning_rate(config: Optimiser, step: int, total: int) -> float:
    """Rate of step ``step`` (from 0) of ``total``: linear warm-up, then constant, linear or cosine to 0."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / (config.warmup + 1)
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - config.warmup) / max(1, total - config.warmup)
    if config.schedule == "linear":
        return config.learning_rate * max(0.0, 1 - progress)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class MasterAdamW:
    """Owns the master weights and the optimizer state of one module."""

    def __init__(self, module: nn.Module, config: Optimiser) -> None:
        self.config = config
        self.working = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.masters = {
            name: p if p.dtype in _WIDE else nn.Parameter(p.detach().float())
            for name, p in self.working.items()
        }
        self.sums = {
            name: GradientSum(working)
            for name, working in self.working.items()
            if self.masters[name] is not working
        }
        matrices = [p for p in self.masters.values() if p.ndim >= 2]
        others = [p for p in self.masters.values() if p.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.epsilon,
            fused=True,
        )
        self._lay_out_moments()

    def _lay_out_moments(self) -> None:
        """Before the first step's activations, so that these find the same room in every later step."""
        for master in self.masters.values():
            self.adam.state[master] = {
                "step": torch.zeros((), dtype=torch.float32),
                "exp_avg": torch.zeros_like(master, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(master, memory_format=torch.preserve_format),
            }

    def accumulate(self) -> None:
        """Take in the gradients that one backward pass has left with autograd, in float32."""
        for name, total in self.sums.items():
            working = self.working[name]
            if working.grad is not None:
                total.add(working.grad)
                working.grad = None
            self.masters[name].grad = total.value

    def gradient_norm(self) -> float:
        """L2 norm of the whole gradient (nan or inf shows a broken step)."""
        gradients = [p.grad for p in self.masters.values() if p.grad is not None]
        if not gradients:
            return 0.0
        return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients])))

    def step(self, rate: float, norm: float) -> None:
        """Clip to the configured norm, update, refresh the working weights, forget the gradients."""
        scale = self.config.max_gradient_norm / (norm + 1e-6)
        if scale < 1:
            for master in self.masters.values():
                if master.grad is not None:
                    master.grad.mul_(scale)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        # The fused step does not count as a change by itself, and samplers look whether weights have changed.
        torch.autograd.graph.increment_version(list(self.masters.values()))
        self.forget_gradients()
        self.refresh()

    def forget_gradients(self) -> None:
        for master in self.masters.values():
            master.grad = None
        for total in self.sums.values():
            total.value = None

    @torch.no_grad()
    def refresh(self) -> None:
        """Working weights = masters, rounded."""
        for name, working in self.working.items():
            if self.masters[name] is not working:
                working.copy_(self.masters[name])

    @torch.no_grad()
    def restart(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Begin again without moments, from ``weights`` (by name; those not named stay as they are)."""
        for name, weight in weights.items():
            self.masters[name].copy_(weight)
        self._lay_out_moments()
        self.refresh()

    def save(self, path: Path) -> None:
        """Masters and moments into one safetensors file."""
        tensors = {f"master.{name}": master.detach() for name, master in self.masters.items()}
        for name, master in self.masters.items():
            for key, value in self.adam.state.get(master, {}).items():
                tensors[f"adam.{key}.{name}"] = value.detach()
        save_file({name: value.contiguous() for name, value in tensors.items()}, path)

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """The inverse of ``save``, bit for bit."""
        tensors = load_file(path)
        for name, master in self.masters.items():
            master.copy_(tensors[f"master.{name}"])
            state = {
                key: tensors[f"adam.{key}.{name}"].clone()
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"adam.{key}.{name}" in tensors
            }
            if state:
                self.adam.state[master] = state
            else:
                self.adam.state.pop(master, None)
        self.refresh()
