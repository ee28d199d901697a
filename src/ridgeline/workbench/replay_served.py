"""Which objectives a file of samples can be put through, and what they need besides one reward per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ridgeline.models.batch import Row, Unit, completion_row
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.presets import PRESETS
from ridgeline.schema.errors import UsageError, nearest
from ridgeline.schema.records import Sample
from ridgeline.stages.judging import rewards_tensor
from ridgeline.training.advantages import Extras, assign_advantages
from ridgeline.workbench.replay_source import Rollouts

Asked = Sequence[str] | Mapping[str, PolicyObjective]


@dataclass(frozen=True)
class Served:
    """What an objective learns from: rows in prompt-major order, a unit per prompt, rewards ``[P, G]``."""

    rows: list[Row]
    units: list[Unit]
    rewards_PG: torch.Tensor
    extras: Extras

    def assign(self, objective: PolicyObjective) -> None:
        """Write the objective's advantages into the rows."""
        coefficient = objective.kl_coefficient
        assign_advantages(
            self.rows, self.rewards_PG, objective, kl_coefficient=coefficient, extras=self.extras
        )


def serve(rollouts: Rollouts) -> Served:
    """The rows of a file with the log-probs of the sampler, and everything else the file holds."""
    rows = [_row(sample) for sample in rollouts.samples]
    group = rollouts.group
    units = [rows[start : start + group] for start in range(0, len(rows), group)]
    return Served(rows, units, rewards_tensor(rollouts.samples, rollouts.prompts), _extras(rollouts))


def _row(sample: Sample) -> Row:
    """What an environment wrote is read by the policy and not learned."""
    row = completion_row(sample.prompt_ids, sample.completion_ids)
    written = np.asarray(sample.generated, dtype=bool)
    row.targets = row.targets[written]
    row.fields["sampler_logp"] = np.asarray(sample.logprobs, dtype=np.float32)[written]
    return row


def _extras(rollouts: Rollouts) -> Extras:
    extras = Extras()
    if any(sample.step_rewards for sample in rollouts.samples):
        extras.steps = [_steps(sample) for sample in rollouts.samples]
    weights = _weights(rollouts)
    if weights:
        columns = [rewards_tensor(rollouts.samples, rollouts.prompts, name) for name in weights]
        extras.components_PGC = torch.stack(columns, -1)
        extras.weights_C = torch.tensor(list(weights.values()))
    return extras


def _steps(sample: Sample) -> list[tuple[int, float]]:
    """Ends counted in the tokens that the policy wrote."""
    written = np.cumsum(sample.generated) - 1
    return [(int(written[end]), reward) for end, reward in sample.step_rewards if reward is not None]


def _weights(rollouts: Rollouts) -> dict[str, float]:
    """The rewards that make up the total and their weights, where the recipe tells and the file has them."""
    weights = {spec["function"]: spec["weight"] for spec in rollouts.stage.get("reward", [])}
    if overlong := rollouts.stage.get("overlong"):
        weights["overlong"] = overlong["coefficient"]
    weights = {name: float(weight) for name, weight in weights.items() if weight != 0}
    recorded = all(name in sample.rewards for name in weights for sample in rollouts.samples)
    return weights if recorded else {}


def objectives_for(
    asked: Asked | None, rollouts: Rollouts, served: Served
) -> tuple[dict[str, PolicyObjective], dict[str, str]]:
    """The objectives to replay, and those left out with the reason (only when none was asked for).

    A fixed length that an objective leaves open is the completion limit of the stage, or else the longest
    completion.

    Raises:
        UsageError: an unknown name, or an objective asked for that the file cannot serve.
    """
    everything = asked if isinstance(asked, Mapping) else {name: _preset(name) for name in asked or PRESETS}
    limit = rollouts.stage.get("sampling", {}).get("max_new_tokens")
    length = limit or max(len(row.targets) for row in served.rows)
    kept: dict[str, PolicyObjective] = {}
    left_out: dict[str, str] = {}
    for name, objective in everything.items():
        reason = _lacking(objective, served)
        if reason is not None and asked:
            raise UsageError(f"objective '{name}' cannot be replayed on {rollouts.path}: {reason}.")
        if reason is not None:
            left_out[name] = reason
            continue
        is_open = objective.aggregation == "fixed" and objective.length is None
        kept[name] = replace(objective, length=length) if is_open else objective
    return kept, left_out


def _preset(name: str) -> PolicyObjective:
    if name not in PRESETS:
        raise UsageError(f"unknown objective '{name}'; {nearest(name, PRESETS)}")
    return PRESETS[name]


def _lacking(objective: PolicyObjective, served: Served) -> str | None:
    """What the file does not hold, or None; found before any model is loaded."""
    if objective.needs_critic:
        return "it needs the values of a critic, which no file of samples holds"
    if objective.advantage == "greedy_baseline":
        return "it needs the reward of a greedy completion of every prompt, which no file of samples holds"
    if objective.advantage == "process_zscore" and served.extras.steps is None:
        return "it needs rewards of steps, and the file has none (they come with step_separator)"
    if objective.components == "separate" and served.extras.weights_C is None:
        return "it needs every reward by itself and its weight, which a file tells only in its run"
    for row in served.rows:
        # What is not known yet; no advantage depends on it for whether it can be computed.
        row.fields["ref_logp"] = row.fields["sampler_logp"]
        row.fields["entropy"] = np.zeros_like(row.fields["sampler_logp"])
    try:
        served.assign(objective)
    except ValueError as error:
        return str(error)
    return None
