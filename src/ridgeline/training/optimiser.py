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
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ridgeline.models.gradient_sum import GradientSum
from ridgeline.models.kernels.call import kernel, pointers
from ridgeline.schema.stages.common import Optimiser
from ridgeline.training.split_master import chunks, join_master, split_master


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
    """Owns the master weights and the optimizer state of one module.

    Weights in float32 or float64 keep small updates, so they are their own masters, moved by torch. The
    master of a bfloat16 weight is that weight with 16 more bits in ``rests`` (`split_master`), so nobody else
    may write to it.
    """

    def __init__(self, module: nn.Module, config: Optimiser) -> None:
        self.config = config
        self.working = {name: p for name, p in module.named_parameters() if p.requires_grad}
        narrow = {name: p for name, p in self.working.items() if p.dtype == torch.bfloat16}
        self.rests = {name: torch.zeros_like(p, dtype=torch.int16) for name, p in narrow.items()}
        self.sums = {name: GradientSum(p) for name, p in narrow.items()}
        self.moments: dict[str, dict[str, Tensor]] = {}
        self.adam = self._adam([p for name, p in self.working.items() if name not in narrow])
        self._lay_out_moments()

    def _adam(self, wide: list[nn.Parameter]) -> torch.optim.AdamW | None:
        if not wide:
            return None
        groups = [
            {"params": [p for p in wide if p.ndim >= 2], "weight_decay": self.config.weight_decay},
            {"params": [p for p in wide if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self.config.learning_rate,
            betas=self.config.betas,
            eps=self.config.epsilon,
            fused=True,
        )

    def _lay_out_moments(self) -> None:
        """Before the first step's activations, so that these find the same room in every later step."""
        for name, working in self.working.items():
            like = torch.float32 if name in self.rests else working.dtype
            self.moments[name] = {
                "step": torch.zeros((), dtype=torch.float32),
                "exp_avg": torch.zeros_like(working, dtype=like),
                "exp_avg_sq": torch.zeros_like(working, dtype=like),
            }
            if self.adam is not None and name not in self.rests:
                self.adam.state[working] = self.moments[name]

    def master(self, name: str) -> Tensor:
        """The master of one weight: rebuilt, or the weight itself where that is its own master."""
        working = self.working[name].detach()
        return join_master(working, self.rests[name]) if name in self.rests else working

    @torch.no_grad()
    def _set_master(self, name: str, master: Tensor) -> None:
        working = self.working[name]
        if name not in self.rests:
            working.copy_(master)
            return
        master = master.to(working.device, torch.float32)
        for parts in chunks(master, working.detach(), self.rests[name]):
            split_master(*parts)

    def gradient(self, name: str) -> Tensor | None:
        """The gradient of one weight so far, in the format of its master."""
        return self.sums[name].value if name in self.sums else self.working[name].grad

    def gradients(self) -> dict[str, Tensor]:
        """Those that there are, by name."""
        found = {name: self.gradient(name) for name in self.working}
        return {name: gradient for name, gradient in found.items() if gradient is not None}

    def accumulate(self) -> None:
        """Take in the gradients that one backward pass has left with autograd, in float32."""
        for name, total in self.sums.items():
            working = self.working[name]
            if working.grad is not None:
                total.add(working.grad)
                working.grad = None

    def gradient_norm(self) -> float:
        """L2 norm of the whole gradient (nan or inf shows a broken step)."""
        squares = [self._squares(name, gradient) for name, gradient in self.gradients().items()]
        return math.sqrt(float(torch.cat(squares).sum())) if squares else 0.0

    def _squares(self, name: str, gradient: Tensor) -> Tensor:
        """What adds up to the square of a gradient's norm, ``[n]`` float64; mostly known from its making."""
        known = self.sums[name].squares if name in self.sums else None
        if known is not None:
            return known
        norm: Tensor = torch.linalg.vector_norm(gradient)
        return norm.double().square().cpu()[None]

    def step(self, rate: float, norm: float) -> None:
        """Clip to the configured norm, update, forget the gradients."""
        scale = min(1.0, self.config.max_gradient_norm / (norm + 1e-6))
        for name, total in self.sums.items():
            if total.value is not None:
                self._update(name, total.value, rate, scale)
        if self.adam is not None:
            self._update_wide(self.adam, rate, scale)
        # Fused steps do not count as a change by themselves, and samplers look whether weights have changed.
        torch.autograd.graph.increment_version(list(self.working.values()))
        self.forget_gradients()

    def _update_wide(self, adam: torch.optim.AdamW, rate: float, scale: float) -> None:
        for group in adam.param_groups:
            group["lr"] = rate
            for working in group["params"]:
                if working.grad is not None and scale < 1:
                    working.grad.mul_(scale)
        adam.step()

    @torch.no_grad()
    def _update(self, name: str, gradient: Tensor, rate: float, scale: float) -> None:
        """One bfloat16 weight: torch's formula (Loshchilov and Hutter 2019, algorithm 2)."""
        working, moments = self.working[name].detach(), self.moments[name]
        moments["step"] += 1
        (beta1, beta2), step = self.config.betas, float(moments["step"])
        keep = 1 - rate * (self.config.weight_decay if working.ndim >= 2 else 0.0)
        root = math.sqrt(1 - beta2**step)
        numbers = scale, keep, rate / (1 - beta1**step), beta1, beta2, 1 / root, self.config.epsilon
        tensors = working, self.rests[name], moments["exp_avg"], moments["exp_avg_sq"], gradient
        run = kernel("adamw", working)
        if run is not None and all(each.is_contiguous() for each in tensors):
            run(*pointers(*tensors), working.numel(), *numbers)
            return
        for parts in chunks(*tensors):
            _update_plainly(parts, numbers)

    def forget_gradients(self) -> None:
        for name, working in self.working.items():
            if name in self.sums:
                self.sums[name].forget()
            else:
                working.grad = None

    def restart(self, weights: Mapping[str, Tensor]) -> None:
        """Begin again without moments, from ``weights`` (by name; those not named stay as they are)."""
        for name, weight in weights.items():
            self._set_master(name, weight)
        self._lay_out_moments()

    def save(self, path: Path) -> None:
        """Masters and moments into one safetensors file.

        Masters are whole for that long. There is room for them: the gradients are gone by then.
        """
        tensors = {f"master.{name}": self.master(name) for name in self.working}
        for name, moments in self.moments.items():
            tensors |= {f"adam.{key}.{name}": value for key, value in moments.items()}
        save_file({name: value.contiguous() for name, value in tensors.items()}, path)

    def load(self, path: Path) -> None:
        """The inverse of ``save``, bit for bit."""
        with safe_open(path, framework="pt") as file:
            for name, moments in self.moments.items():
                self._set_master(name, file.get_tensor(f"master.{name}"))
                for key, value in moments.items():
                    value.copy_(file.get_tensor(f"adam.{key}.{name}"))


def _update_plainly(tensors: tuple[Tensor, ...], numbers: tuple[float, ...]) -> None:
    """`kernels/adamw.h` in torch, with the same arguments."""
    working, rest, mean, square, gradient = tensors
    scale, keep, rate, beta1, beta2, inverse_root, epsilon = numbers
    gradient = gradient * scale
    mean.lerp_(gradient, 1 - beta1)
    square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    divisor = square.sqrt().mul_(inverse_root).add_(epsilon)
    split_master(join_master(working, rest).mul_(keep).addcdiv_(mean, divisor, value=-rate), working, rest)
