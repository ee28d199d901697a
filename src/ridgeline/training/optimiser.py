"""AdamW on float32 master weights, whatever the format of the working weights.

Updates of size lr are lost when weights are bfloat16: at lr 1e-5, 98 % of this library's embedded model would
not move. Gradients are therefore added up in float32 too, micro-batch by micro-batch, mostly where they are
made (`models/gradient_sum.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ridgeline.models.gradient_sum import GradientSum
from ridgeline.models.kernels.call import kernel, pointers
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
        squares = [self._squares(name) for name, p in self.masters.items() if p.grad is not None]
        return math.sqrt(float(torch.cat(squares).sum())) if squares else 0.0

    def _squares(self, name: str) -> torch.Tensor:
        """What adds up to the square of a gradient's norm, ``[n]`` float64; mostly known from its making."""
        total, gradient = self.sums.get(name), self.masters[name].grad
        assert gradient is not None
        if total is not None and total.squares is not None and total.value is gradient:
            return total.squares
        norm: torch.Tensor = torch.linalg.vector_norm(gradient)
        return norm.double().square().cpu()[None]

    def step(self, rate: float, norm: float) -> None:
        """Clip to the configured norm, update, refresh the working weights, forget the gradients."""
        scale = min(1.0, self.config.max_gradient_norm / (norm + 1e-6))
        done = {name for name in self.sums if self._update(name, rate, scale)}
        others = [master for name, master in self.masters.items() if name not in done]
        for master in others:
            if master.grad is not None and scale < 1:
                master.grad.mul_(scale)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        # Fused steps do not count as a change by themselves, and samplers look whether weights have changed.
        torch.autograd.graph.increment_version([*others, *(self.working[name] for name in done)])
        self.forget_gradients()
        self._refresh(self.working.keys() - done)

    @torch.no_grad()
    def _update(self, name: str, rate: float, scale: float) -> bool:
        """One weight by the compiled kernel, its working copy with it; False leaves it to torch.

        torch's formula (Loshchilov and Hutter 2019, algorithm 2), which reads and writes everything once.
        """
        master, working = self.masters[name], self.working[name]
        run, gradient = kernel("adamw", working), master.grad
        state = self.adam.state.get(master, {})
        if run is None or gradient is None or not state:
            return False
        tensors = master, state["exp_avg"], state["exp_avg_sq"], gradient, working
        if not all(each.is_contiguous() for each in tensors):
            return False
        state["step"] += 1
        (beta1, beta2), step = self.config.betas, float(state["step"])
        keep = 1 - rate * (self.config.weight_decay if master.ndim >= 2 else 0.0)
        root = math.sqrt(1 - beta2**step)
        numbers = scale, keep, rate / (1 - beta1**step), beta1, beta2, 1 / root, self.config.epsilon
        run(*pointers(*tensors), master.numel(), *numbers)
        master.grad = None
        return True

    def forget_gradients(self) -> None:
        for master in self.masters.values():
            master.grad = None
        for total in self.sums.values():
            total.forget()

    def refresh(self) -> None:
        """Working weights = masters, rounded."""
        self._refresh(self.working)

    @torch.no_grad()
    def _refresh(self, names: Iterable[str]) -> None:
        for name in names:
            if self.masters[name] is not self.working[name]:
                self.working[name].copy_(self.masters[name])

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
