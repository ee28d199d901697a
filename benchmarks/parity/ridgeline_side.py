"""Ridgeline's first step of every case, through its own data preparation, engine and objectives.

The engine runs as a recipe would have it: packed rows, shared prompts encoded once, micro-batches of few
tokens. That it agrees with a plain padded batch is part of what is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradients
import numpy as np
import torch
from cases import Case
from safetensors.torch import load_file
from torch import nn

from ridgeline.data.formats import instructions, preferences
from ridgeline.data.pairs import build_pairs
from ridgeline.data.supervised import build
from ridgeline.models.batch import MicroBatch, Row, Unit, completion_row
from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import LanguageModel, load_model
from ridgeline.models.score_model import score_forward, score_model_from
from ridgeline.objectives.pair_axes import PairObjective, PairTerm
from ridgeline.objectives.policy import PRESETS
from ridgeline.objectives.unpaired import kto_reference_point
from ridgeline.schema.stages.common import Optimiser
from ridgeline.training.advantages import assign_advantages
from ridgeline.training.engine import Forward
from ridgeline.training.local import LocalEngine
from ridgeline.training.next_token import NextToken
from ridgeline.training.objective import Objective
from ridgeline.training.pairwise import PairwiseRanking
from ridgeline.training.policy_gradient import PolicyGradient
from ridgeline.training.preference import PairwisePreference, settle_step
from ridgeline.training.unpaired import UnpairedPreference

TOKENS_PER_MICROBATCH = 64


def run(case: Case, problem: dict[str, Any], folder: Path, gradient_file: Path) -> dict[str, Any]:
    """Loss, gradient norm and tokens of one optimizer step."""
    engine, units, objective, watched = SIDES[case.kind](case, problem, folder)
    metrics = engine.forward_backward("learner", units, objective)
    optimiser = engine.roles["learner"].optimiser
    assert optimiser is not None
    named = ((name, p.grad) for name, p in optimiser.masters.items() if p.grad is not None)
    gradients.write(gradient_file, ((_their_name(name), gradient) for name, gradient in named))
    losses = [total / count for key, (total, count) in metrics.items() if key.startswith("loss/")]
    return {
        "loss": sum(losses),
        "norm": optimiser.gradient_norm(),
        "tokens": sorted((row.ids.tolist(), row.targets.tolist()) for row in watched),
    }


Side = tuple[LocalEngine, Sequence[Unit], Objective, list[Row]]


def _their_name(name: str) -> str:
    """Our score model calls its parts otherwise than transformers' sequence classification."""
    return name.replace("head.linear.", "score.").replace("backbone.", "model.")


def _engine(module: nn.Module, forward: Forward) -> LocalEngine:
    engine = LocalEngine()
    engine.add(
        "learner",
        module,
        forward,
        packed=True,
        tokens_per_microbatch=TOKENS_PER_MICROBATCH,
        optimiser=Optimiser(),
    )
    return engine


def _rows(units: Sequence[Unit]) -> list[Row]:
    return [row for unit in units for row in unit]


def _sft(case: Case, problem: dict[str, Any], folder: Path) -> Side:
    model = load_model(str(folder / "policy"))
    items = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in problem["rows"]]
    rows = build(instructions(items, "parity"), model.tokenizer).rows
    if tail := model.tokenizer(case.ours.get("tail", ""), add_special_tokens=False)["input_ids"]:
        rows = [_extended(row, tail) for row in rows]
    objective = NextToken(case.ours.get("loss", "nll"))
    return _engine(model.module, PolicyForward()), [[row] for row in rows], objective, rows


def _extended(row: Row, tail: list[int]) -> Row:
    """The row with more tokens at its end, which carry loss like the others."""
    length = len(row)
    more = np.arange(length, length + len(tail))
    return Row(np.concatenate([row.ids, tail]), np.concatenate([row.targets, more]))


def _pairs(problem: dict[str, Any], model: LanguageModel) -> list[Unit]:
    items = [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in problem["rows"]]
    return build_pairs(preferences(items, "parity"), model.tokenizer).units


def _reward(case: Case, problem: dict[str, Any], folder: Path) -> Side:
    language_model = load_model(str(folder / "policy"))
    model = score_model_from(language_model, layer=None, pooling="last")
    with torch.no_grad():
        model.head.linear.weight.copy_(load_file(folder / "reward" / "model.safetensors")["score.weight"])
    # transformers' head has no bias; a difference of two scores would not move it, centring would.
    model.head.linear.bias.requires_grad_(False)
    units = _pairs(problem, language_model)
    cut = case.ours.get("cut", 0)
    trained = [[_shortened(row, cut) for row in unit] for unit in units]
    watched = [Row(row.ids, row.targets[-1:]) for row in _rows(units)]
    objective = PairwiseRanking(centering=case.ours.get("centering", 0.0))
    return _engine(model, score_forward), trained, objective, watched


def _shortened(row: Row, tokens: int) -> Row:
    """The row without its last tokens, so that the score is read that much earlier."""
    return Row(row.ids[: len(row) - tokens], row.targets[: len(row.targets) - tokens], row.prefix)


def _mean_forward(module: nn.Module, batch: MicroBatch, packed: bool) -> dict[str, torch.Tensor]:
    """Log-probs divided by the length of their completion, so that sums become means per token."""
    logp_BN = PolicyForward()(module, batch, packed)["logp"]
    return {"logp": logp_BN / batch.mask_BN.sum(1, keepdim=True)}


def _dpo(case: Case, problem: dict[str, Any], folder: Path) -> Side:
    ours = dict(case.ours)
    terms = ours.pop("terms")
    weights = ours.pop("weights", [1.0] * len(terms))
    forward = _mean_forward if ours.pop("per_token", False) else PolicyForward(collision="weighting" in ours)
    shift = ours.pop("shift", None)
    objective = PairObjective(
        terms=tuple(
            PairTerm(loss=loss, weight=weight, options=options)
            for (loss, options), weight in zip(terms.items(), weights, strict=True)
        ),
        **ours,
    )
    model = load_model(str(folder / "policy"))
    engine = _engine(model.module, forward)
    units = _pairs(problem, model)
    _score_reference(engine, units, folder, forward)
    if objective.whole_step:
        settle_step(units, engine.score("learner", units), objective, None)
    if shift is not None:
        for unit in units:
            unit[0].values["shift"] = shift
    return engine, units, PairwisePreference(objective), _rows(units)


def _score_reference(engine: LocalEngine, units: Sequence[Unit], folder: Path, forward: Forward) -> None:
    engine.add("reference", load_model(str(folder / "reference")).module, forward)
    for row, score in zip(_rows(units), engine.score("reference", units), strict=True):
        row.fields["ref_logp"] = score["logp"]


def _kto(case: Case, problem: dict[str, Any], folder: Path) -> Side:
    model = load_model(str(folder / "policy"))
    engine = _engine(model.module, PolicyForward())
    units = [
        [unit[0] if row["label"] else unit[1]]
        for unit, row in zip(_pairs(problem, model), problem["rows"], strict=True)
    ]
    for (row,), source in zip(units, problem["rows"], strict=True):
        row.values["desirable"] = float(source["label"])
    _score_reference(engine, units, folder, PolicyForward())
    options, watched = dict(case.ours["options"]), _rows(units)
    if case.ours["loss"] == "kto":
        # TRL's pairing, so that both measure z0 on the same mismatched rows: prompt i, completion i - 1.
        partners = [
            [completion_row(row.ids[: row.prefix].tolist(), other.ids[other.prefix :].tolist())]
            for (row,), (other,) in zip(units, units[-1:] + units[:-1], strict=True)
        ]
        sums = [
            torch.tensor([float(score["logp"].sum()) for score in engine.score(role, partners)])
            for role in ("learner", "reference")
        ]
        options["reference_point"] = float(kto_reference_point(*sums))
        if options["reference_point"] == 0:
            print(f"{case.name}: z0 is 0 on these rows, which leaves the reference point untested")
        watched = watched + _rows(partners)
    return engine, units, UnpairedPreference(case.ours["loss"], options), watched


def _grpo(case: Case, problem: dict[str, Any], folder: Path) -> Side:
    changes = {key: value for key, value in case.ours.items() if key not in ("preset", "temperature")}
    objective = replace(PRESETS[case.ours["preset"]], **changes)
    forward = PolicyForward(
        temperature=case.ours.get("temperature", 1.0),
        differentiable_entropy=objective.entropy_coefficient > 0,
    )
    engine = _engine(load_model(str(folder / "policy")).module, forward)
    groups = problem["groups"]
    units = [[completion_row(group["prompt_ids"], ids) for ids in group["completions"]] for group in groups]
    rows = _rows(units)
    for row, logp in zip(rows, [logp for group in groups for logp in group["old_logp"]], strict=True):
        row.fields["old_logp"] = row.fields["sampler_logp"] = np.asarray(logp, dtype=np.float32)
    _score_reference(engine, units, folder, forward)
    rewards_PG = torch.tensor([group["rewards"] for group in groups])
    coefficient = objective.kl_coefficient
    assign_advantages(rows, rewards_PG, objective, kl_coefficient=coefficient)
    return engine, units, PolicyGradient(objective, kl_coefficient=coefficient), rows


SIDES: dict[str, Callable[[Case, dict[str, Any], Path], Side]] = {
    "sft": _sft,
    "reward": _reward,
    "dpo": _dpo,
    "kto": _kto,
    "grpo": _grpo,
}
