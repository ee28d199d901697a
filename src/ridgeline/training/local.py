"""The engine of one process: all roles in this process's memory, the sampler shares the policy's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ridgeline.models.batch import MicroBatch, Unit, split
from ridgeline.models.recompute import enable_recomputing, recomputing
from ridgeline.rollout.request import PromptRequest, Sampler
from ridgeline.schema.records import Sample
from ridgeline.schema.run_folder import Metrics
from ridgeline.schema.stages.common import Optimiser, Sampling
from ridgeline.training.engine import Forward, RowScores
from ridgeline.training.objective import Objective, Terms
from ridgeline.training.optimiser import MasterAdamW


@dataclass
class Role:
    """A module, how it is run, and (when it learns) its optimiser."""

    module: nn.Module
    forward: Forward
    packed: bool
    tokens_per_microbatch: int
    optimiser: MasterAdamW | None = None
    sampler: Sampler | None = None
    recompute: bool = False
    persistent: bool = False
    version: int = 0

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        return dict(self.module.named_parameters())


class LocalEngine:
    """Implements ``training.engine.Engine`` on one device."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.roles: dict[str, Role] = {}
        self.averages: dict[str, dict[str, torch.Tensor]] = {}

    def add(
        self,
        name: str,
        module: nn.Module,
        forward: Forward,
        *,
        packed: bool = False,
        tokens_per_microbatch: int = 3072,
        optimiser: Optimiser | None = None,
        sampler: Sampler | None = None,
        recompute: bool = False,
        persistent: bool = False,
    ) -> None:
        """Register a role; with ``optimiser`` it learns, otherwise its weights are frozen here.

        ``recompute`` trades time for memory in the backward pass. ``persistent`` puts the weights of a frozen
        role, which ``copy_weights`` may change, into every checkpoint.
        """
        if optimiser is None:
            self._check_not_learning(name, module)
            module.requires_grad_(False)
        learner = MasterAdamW(module, optimiser) if optimiser is not None else None
        if recompute:
            enable_recomputing(module)
        self.roles[name] = Role(
            module, forward, packed, tokens_per_microbatch, learner, sampler, recompute, persistent
        )

    def add_view(self, name: str, of: str, forward: Forward, sampler: Sampler | None = None) -> None:
        """A frozen look at the module of role ``of`` through another forward pass (its adapter off, say)."""
        self.roles[name] = replace(
            self.roles[of], forward=forward, optimiser=None, sampler=sampler, persistent=False
        )

    def _check_not_learning(self, name: str, module: nn.Module) -> None:
        """Freezing weights that another role learns would stop that role in silence."""
        own = {id(parameter) for parameter in module.parameters()}
        for other, role in self.roles.items():
            if role.optimiser and own & {id(parameter) for parameter in role.optimiser.working.values()}:
                raise ValueError(
                    f"frozen role '{name}' shares weights with '{other}', which learns; copy them"
                )

    def sample(
        self, role: str, requests: Sequence[PromptRequest], sampling: Sampling, *, seed: int, step: int
    ) -> list[Sample]:
        sampler = self.roles[role].sampler
        if sampler is None:
            raise ValueError(f"role '{role}' has no sampler")
        return sampler(requests, sampling, seed=seed, step=step)

    @torch.no_grad()
    def score(self, role: str, units: Sequence[Unit], forward: Forward | None = None) -> list[RowScores]:
        own = self.roles[role]
        run = forward or own.forward
        results: list[list[RowScores]] = [[] for _ in units]
        # Without a backward pass nothing is kept per layer, so twice the tokens fit into the same memory.
        for indices in split(units, 2 * own.tokens_per_microbatch, packed=own.packed):
            batch = MicroBatch.of([units[index] for index in indices], self.device)
            outputs = {
                name: value.float().cpu().numpy()
                for name, value in run(own.module, batch, own.packed).items()
            }
            owners = [index for index in indices for _ in units[index]]
            for line, (index, row) in enumerate(zip(owners, batch.rows, strict=True)):
                width = batch.mask_BN.shape[1]
                results[index].append(
                    {
                        name: value[line, : len(row.targets)]
                        if value.ndim == 2 and value.shape[1] == width and name != "features"
                        else value[line]
                        for name, value in outputs.items()
                    }
                )
        return [scores for unit in results for scores in unit]

    def forward_backward(self, role: str, units: Sequence[Unit], objective: Objective) -> Metrics:
        own, optimiser = self.roles[role], self._optimiser(role)
        counts = objective.counts(units)
        metrics: Metrics = {}
        for indices in split(units, own.tokens_per_microbatch, packed=own.packed):
            batch = MicroBatch.of([units[index] for index in indices], self.device)
            with recomputing(own.module) if own.recompute else nullcontext():
                terms = objective.terms(own.forward(own.module, batch, own.packed), batch)
                # A term that counts nothing in the whole step (every row masked) has nothing to teach.
                losses = [value / counts[name] for name, value in terms.sums.items() if counts[name]]
                loss = torch.stack(losses).sum() if losses else torch.zeros(())
                if loss.requires_grad:
                    loss.backward()
                    optimiser.accumulate()
            _merge(metrics, terms, counts)
        return metrics

    def trained_weights(self, role: str) -> dict[str, torch.Tensor]:
        """A copy of what ``role`` learns, as it is now, in the working format."""
        optimiser = self._optimiser(role)
        return {name: weight.detach().clone() for name, weight in optimiser.working.items()}

    def restart(self, role: str, weights: Mapping[str, torch.Tensor]) -> None:
        """Forget the optimizer's moments of ``role``, and put ``weights`` in place of what it has learned."""
        self._optimiser(role).restart(weights)

    def _optimiser(self, role: str) -> MasterAdamW:
        optimiser = self.roles[role].optimiser
        if optimiser is None:
            raise ValueError(f"role '{role}' does not learn")
        return optimiser

    @torch.no_grad()
    def copy_weights(self, source: str, target: str, share: float = 1.0) -> None:
        """target <- share * source + (1 - share) * target, in float32.

        With a share below 1 the target keeps float32 masters: steps of an average would vanish in bfloat16.
        """
        role = self.roles[target]
        if role.optimiser is not None:
            raise ValueError(f"role '{target}' learns; only a frozen role can be overwritten")
        if share == 1:
            self.averages.pop(target, None)
            for name, weight in self.roles[source].weights.items():
                role.weights[name].copy_(weight)
            return
        optimiser = self.roles[source].optimiser
        for name, average in self._average_of(target).items():
            if optimiser is not None and name in optimiser.working:
                newest = optimiser.master(name)
            else:
                newest = self.roles[source].weights[name]
            average.lerp_(newest.float(), share)
            role.weights[name].copy_(average)

    def _average_of(self, name: str) -> dict[str, torch.Tensor]:
        """Float32 masters of a frozen role."""
        if name not in self.averages:
            weights = self.roles[name].weights
            self.averages[name] = {key: weight.detach().float().clone() for key, weight in weights.items()}
        return self.averages[name]

    def step(self, role: str, rate: float) -> float:
        optimiser = self._optimiser(role)
        norm = optimiser.gradient_norm()
        if norm == norm and norm != float("inf"):
            optimiser.step(rate, norm)
        return norm

    def publish(self, role: str) -> int:
        own = self.roles[role]
        own.version += 1
        if own.sampler is not None:
            own.sampler.weight_version = own.version
        return own.version

    def save(self, folder: Path) -> None:
        for name, role in self.roles.items():
            if role.optimiser is not None:
                role.optimiser.save(folder / f"{name}.safetensors")
            elif role.persistent:
                save_file(self._average_of(name), folder / f"{name}.safetensors")

    def load(self, folder: Path) -> None:
        for name, role in self.roles.items():
            if role.optimiser is not None:
                role.optimiser.load(folder / f"{name}.safetensors")
            elif role.persistent:
                self.averages[name] = load_file(folder / f"{name}.safetensors")
                with torch.no_grad():
                    for key, weight in role.weights.items():
                        weight.copy_(self.averages[name][key])

    def versions(self) -> dict[str, int]:
        return {name: role.version for name, role in self.roles.items()}

    def set_versions(self, versions: dict[str, int]) -> None:
        for name, version in versions.items():
            role = self.roles[name]
            role.version = version
            if role.sampler is not None:
                role.sampler.weight_version = version


def _merge(metrics: Metrics, terms: Terms, counts: dict[str, float]) -> None:
    for name, value in terms.sums.items():
        before = metrics.get(f"loss/{name}", (0.0, 0.0))[0]
        metrics[f"loss/{name}"] = (before + float(value.detach()), counts[name])
    for name, (total, count) in terms.metrics.items():
        before_sum, before_count = metrics.get(name, (0.0, 0.0))
        metrics[name] = (before_sum + float(total), before_count + float(count))
