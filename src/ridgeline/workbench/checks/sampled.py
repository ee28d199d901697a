"""Checks of samples against the model that drew them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ridgeline.data.chat import check_stop_trained
from ridgeline.models.batch import Unit, completion_row
from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import LanguageModel
from ridgeline.schema.records import Sample
from ridgeline.schema.stages.common import Sampling
from ridgeline.stages.context import stop_ids
from ridgeline.training.engine import RowScores
from ridgeline.training.local import LocalEngine
from ridgeline.workbench.checks.result import Check

RATIO_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.3}
GAP_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.15}
BIAS_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.02}
TRUNCATED_LIMIT = 0.9
TRUNCATED_ADVICE = 0.3


def stop_token(model: LanguageModel) -> Check:
    """The end-of-turn token carries loss in training and ends a completion in sampling."""
    token = check_stop_trained(model.tokenizer)
    stops = stop_ids(model)
    text = model.tokenizer.convert_ids_to_tokens(token)
    detail = f"{text} (id {token}) carries loss; sampling stops at ids {stops}"
    return Check("stop token is trained", token in stops, detail, float(token))


def ratio(model: LanguageModel, samples: Sequence[Sample], temperature: float) -> Check:
    """exp(logp - old logp) with both computed by the trainer: one by one, and batched in reverse order."""
    alone = _scores(model, samples, temperature, tokens=1)
    batched = _scores(model, samples, temperature, tokens=4096)
    difference = np.concatenate([a["logp"] - b["logp"] for a, b in zip(alone, batched, strict=True)])
    worst = float(np.abs(np.expm1(difference)).max())
    limit = RATIO_TOLERANCE.get(model.module.dtype, 0.3)
    detail = f"largest |ratio - 1| over {len(difference)} tokens: {worst:.2g} (limit {limit:g})"
    return Check("on-policy ratio is 1", worst <= limit, detail, worst)


def gap(model: LanguageModel, samples: Sequence[Sample], temperature: float) -> Check:
    """Log-probs recorded at sampling against the trainer's, in nats per token: mean size and mean sign."""
    scores = _scores(model, samples, temperature, tokens=4096)
    recorded = np.concatenate([np.asarray(sample.logprobs) for sample in samples])
    difference = np.concatenate([score["logp"] for score in scores]) - recorded
    size, bias = float(np.abs(difference).mean()), float(difference.mean())
    dtype = model.module.dtype
    passed = size <= GAP_TOLERANCE.get(dtype, 0.15) and abs(bias) <= BIAS_TOLERANCE.get(dtype, 0.02)
    detail = f"mean |gap| {size:.2g} nats per token, mean gap {bias:+.2g}, over {len(recorded)} tokens"
    return Check("sampler and trainer agree", passed, detail, size)


def truncated(samples: Sequence[Sample], sampling: Sampling) -> Check:
    """Share of completions cut at the limit."""
    share = sum(sample.truncated for sample in samples) / len(samples)
    detail = f"{share:.0%} of {len(samples)} completions were cut at {sampling.max_new_tokens} tokens"
    if share > TRUNCATED_ADVICE:
        detail += "; raise sampling.max_new_tokens, or tune the model to answer briefly first"
    return Check("completions end by themselves", share <= TRUNCATED_LIMIT, detail, share)


def _scores(
    model: LanguageModel, samples: Sequence[Sample], temperature: float, *, tokens: int
) -> list[RowScores]:
    engine = LocalEngine(model.module.device)
    wanted = [parameter.requires_grad for parameter in model.module.parameters()]
    engine.add("policy", model.module, PolicyForward(temperature=temperature), tokens_per_microbatch=tokens)
    units: list[Unit] = [[completion_row(sample.prompt_ids, sample.completion_ids)] for sample in samples]
    scores = engine.score("policy", units)
    # The engine freezes a role without optimiser.
    for parameter, want in zip(model.module.parameters(), wanted, strict=True):
        parameter.requires_grad_(want)
    return scores
