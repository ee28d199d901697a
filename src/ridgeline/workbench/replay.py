"""A recorded rollout through every objective, side by side, without sampling again.

Everything but the objective is held fixed: tokens, rewards, the sampler's log-probs, the policy. What differs
between two lines is the algorithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ridgeline.models.batch import FloatArray
from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import LanguageModel
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.rewards.combine import TOTAL
from ridgeline.schema.run_folder import Metrics, mean
from ridgeline.training.local import LocalEngine
from ridgeline.training.policy_gradient import PolicyGradient
from ridgeline.workbench.replay_measures import (
    Gradient,
    Spread,
    Watched,
    cosine,
    length_of,
    most_different,
    spread_of,
)
from ridgeline.workbench.replay_models import (
    Machine,
    Models,
    Report,
    choose_models,
    name_in_memory,
    sampler_gap,
    write_scores,
)
from ridgeline.workbench.replay_served import Asked, Served, objectives_for, serve
from ridgeline.workbench.replay_source import Rollouts, find_rollouts


@dataclass(frozen=True)
class Replayed:
    """What a training step with one objective would log on the file, and where it pushes.

    loss: as minimised. gradient_norm: L2, before clipping. cosine: of the gradient to the first objective's;
    None where one of the two is zero. ratio: mean over tokens. clipped: share of tokens on which the bound is
    active. outside: share whose ratio lies outside the interval. spread: see ``replay_measures.Spread``.
    pushes: ``-d loss / d logp`` of every token, ``[N]`` per completion.
    """

    name: str
    loss: float
    gradient_norm: float
    cosine: float | None
    ratio: float
    clipped: float
    outside: float
    spread: Spread
    pushes: list[FloatArray]

    def as_dict(self) -> dict[str, Any]:
        own = {key: value for key, value in vars(self).items() if key not in ("spread", "pushes")}
        return {**own, **asdict(self.spread)}


@dataclass(frozen=True)
class Completion:
    """The completion on which the objectives differ most, and the text of each of its tokens."""

    index: int
    prompt_id: str
    sample: int
    reward: float | None
    tokens: list[str]


@dataclass(frozen=True)
class Replay:
    """All objectives on one file. ``gap``: nats per token between policy and sampler, mean of its size."""

    rollouts: Rollouts
    models: Models
    gap: float
    objectives: list[Replayed]
    left_out: dict[str, str]
    completion: Completion

    def as_dict(self, tokens: int) -> dict[str, Any]:
        """As ``--json`` prints it, with the pushes on the first ``tokens`` tokens of one completion."""
        samples = self.rollouts.samples
        shown = self.completion
        return {
            "rollouts": str(self.rollouts.path),
            "prompts": self.rollouts.prompts,
            "completions": len(samples),
            "tokens": sum(len(sample.completion_ids) for sample in samples),
            "weight_version": samples[0].weight_version,
            "model": self.models.policy,
            "reference": self.models.reference,
            "old": self.models.old_in_words,
            "sampler_gap": self.gap,
            "objectives": [each.as_dict() for each in self.objectives],
            "left_out": self.left_out,
            "completion": {
                "prompt_id": shown.prompt_id,
                "index": shown.sample,
                "reward": shown.reward,
                "length": len(shown.tokens),
                "tokens": shown.tokens[:tokens],
                "pushes": {each.name: each.pushes[shown.index][:tokens].tolist() for each in self.objectives},
            },
        }


def replay(
    rollouts: str | Path,
    objectives: Asked | None = None,
    *,
    model: LanguageModel | str | None = None,
    reference: str | None = None,
    old_model: str | None = None,
    stale: int | None = None,
    step: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    report: Report = lambda text: None,
) -> Replay:
    """Put a file of samples through ``objectives``; nothing is sampled, scored again or written.

    rollouts: a samples file, a stage folder or ``run:stage`` (then the newest file, or that of ``step``).
    objectives: names of presets, or objectives by a name of your own; None: every preset that the file can
    serve. model: the policy; None: the model that the file's stage started from. reference: None: the
    stage's, else its start, else the policy. The old policy, which ratios compare with, is the sampler as
    recorded, or ``old_model``, or the policy itself before it takes ``stale`` optimizer steps on this file
    with the first objective (0: the same weights, so every ratio is exactly 1).

    Raises:
        UsageError: no such file, stage, model or objective, or an objective that the file cannot serve.
        DataError: a file without samples, without rewards, or not sampled from the whole distribution.
    """
    found = find_rollouts(str(rollouts), step)
    name = model if isinstance(model, str) or model is None else name_in_memory(model)
    models = choose_models(found, name, reference, old_model, stale)
    served = serve(found)
    chosen, left_out = objectives_for(objectives, found, served)
    machine = Machine(found, device, dtype, report)
    if isinstance(model, LanguageModel):
        machine.in_memory[models.policy] = model.snapshot()  # its owner's weights must not move
    policy, gap = _log_probs(machine, models, served, list(chosen.values()))
    engine = _learner(machine, policy, list(chosen.values()))
    if stale:
        _take_steps(engine, machine, served, next(iter(chosen.items())), stale)
    replayed = _replay_each(engine, served, chosen, report)
    completion = _completion(found, policy, replayed)
    return Replay(found, models, gap, replayed, left_out, completion)


def _log_probs(
    machine: Machine, models: Models, served: Served, objectives: Sequence[PolicyObjective]
) -> tuple[LanguageModel, float]:
    """Write reference and old log-probs into the rows, one model in memory at a time; return the policy."""
    for role, name in (("ref_logp", models.reference), ("old_logp", models.old)):
        if name is not None and name != models.policy:
            write_scores(served.rows, role, machine.score(machine.load(name), served.units))
    policy = machine.load(models.policy)
    selects = any(objective.entropy_share < 1 for objective in objectives)
    scores = machine.score(policy, served.units, entropy=selects)
    if models.reference == models.policy:
        write_scores(served.rows, "ref_logp", scores)
    if models.old == models.policy or models.stale:
        write_scores(served.rows, "old_logp", scores)
    if models.old_is_sampler:
        for row in served.rows:
            row.fields["old_logp"] = row.fields["sampler_logp"]
    if selects:
        write_scores(served.rows, "entropy", scores, "entropy")
    return policy, sampler_gap(served.rows, scores)


def _learner(machine: Machine, policy: LanguageModel, objectives: Sequence[PolicyObjective]) -> LocalEngine:
    rewarded = any(objective.entropy_coefficient > 0 for objective in objectives)
    forward = PolicyForward(machine.rollouts.temperature, differentiable_entropy=rewarded)
    return machine.engine(policy, forward, machine.optimiser)


def _take_steps(
    engine: LocalEngine, machine: Machine, served: Served, first: tuple[str, PolicyObjective], steps: int
) -> None:
    """As a rollout that is used more than once: the policy moves, the old log-probs stay."""
    name, objective = first
    served.assign(objective)
    for step in range(steps):
        machine.report(f"optimizer step {step + 1} of {steps} with {name}")
        gradient = PolicyGradient(objective, kl_coefficient=objective.kl_coefficient)
        engine.forward_backward("policy", served.units, gradient)
        engine.step("policy", machine.optimiser.learning_rate)


def _replay_each(
    engine: LocalEngine, served: Served, objectives: dict[str, PolicyObjective], report: Report
) -> list[Replayed]:
    optimiser = engine.roles["policy"].optimiser
    assert optimiser is not None
    replayed: list[Replayed] = []
    first: Gradient | None = None
    for number, (name, objective) in enumerate(objectives.items(), 1):
        report(f"{name} ({number} of {len(objectives)})")
        served.assign(objective)
        watched = Watched(PolicyGradient(objective, kl_coefficient=objective.kl_coefficient))
        metrics = engine.forward_backward("policy", served.units, watched)
        gradient = optimiser.gradients()
        # The optimiser lets go of its gradients, so the first stays as it is; of the others none is kept.
        optimiser.forget_gradients()
        first = gradient if first is None else first
        replayed.append(_replayed(name, metrics, gradient, first, watched, served))
        del gradient
    return replayed


def _replayed(
    name: str, metrics: Metrics, gradient: Gradient, first: Gradient, watched: Watched, served: Served
) -> Replayed:
    pushes = watched.pushes(served.rows)
    return Replayed(
        name=name,
        loss=sum(mean(value) for key, value in metrics.items() if key.startswith("loss/") and value[1]),
        gradient_norm=length_of(gradient),
        cosine=cosine(first, gradient),
        ratio=mean(metrics["ratio"]),
        clipped=mean(metrics["clip_fraction"]),
        outside=mean(metrics["outside_fraction"]),
        spread=spread_of(pushes, [row.fields["advantage"] for row in served.rows]),
        pushes=pushes,
    )


def _completion(rollouts: Rollouts, policy: LanguageModel, replayed: Sequence[Replayed]) -> Completion:
    index = most_different([each.pushes for each in replayed])
    sample = rollouts.samples[index]
    written = [
        token for token, by_policy in zip(sample.completion_ids, sample.generated, strict=True) if by_policy
    ]
    tokens = [str(policy.tokenizer.decode([token])) for token in written]
    return Completion(index, sample.prompt_id, sample.index, sample.rewards.get(TOTAL), tokens)
