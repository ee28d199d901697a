"""Log-probs of given tokens, from the states that enter a plain head: logits are made, read and let go.

Logits exist in the working format, for as many positions at a time as fit a budget, and one kernel reads off
a row all that is asked of it. They are kept for the way back while all of them fit the budget, and made again
otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from transformers import PreTrainedModel

from ridgeline.models.gradient_sum import GradientSum, gradient_sum
from ridgeline.models.kernels.call import kernel, pointers
from ridgeline.models.kernels.learn import across, has_products, pair_tokens
from ridgeline.models.multiply import multiply

LOGITS_BYTES = 2**28
"""Logits that exist at one time: 2,730 positions of 49,152 tokens in bfloat16."""

Context = Any


def plain_head(module: PreTrainedModel) -> nn.Linear | None:
    """The head, where `scored_logprobs` can take its place: one product and nothing after it, on a CPU."""
    head = module.get_output_embeddings()
    config = module.config
    changed = any(
        getattr(config, name, None) not in (None, 1.0)
        for name in ("final_logit_softcapping", "logit_scale", "logits_scaling")
    )
    if type(head) is not nn.Linear or head.bias is not None or changed:
        return None
    return head if kernel("score_logits", head.weight) is not None else None


def scored_logprobs(
    hidden_SH: Tensor, weight_VH: Tensor, ids_S: Tensor, temperature: float, *, entropy: bool, collision: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """log softmax(h W^T / temperature)[id], the entropy, and log sum_v p_v^2, ``[S]`` each, float32, nats.

    Log-prob and entropy carry gradient. Sums over the vocabulary are of blocks in float32, added in float64.

    Raises:
        ValueError: a temperature that is not a finite number above 0.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature = {temperature} must be a finite number above 0")
    logp_S, entropy_S, collision_S = _Scored.apply(  # type: ignore[no-untyped-call]
        hidden_SH.contiguous(), weight_VH, ids_S.contiguous(), temperature, entropy, collision
    )
    return logp_S, entropy_S, collision_S


class _Scored(Function):
    @staticmethod
    def forward(
        ctx: Context,
        hidden_SH: Tensor,
        weight_VH: Tensor,
        ids_S: Tensor,
        temperature: float,
        entropy: bool,
        collision: bool,
    ) -> Any:
        count, vocabulary = len(hidden_SH), len(weight_VH)
        rows = max(1, LOGITS_BYTES // (vocabulary * weight_VH.element_size()))
        wanted = (True, True, entropy, collision)
        columns = [torch.empty(count) if each else None for each in wanted]
        ctx.spent = False
        learns = any(ctx.needs_input_grad[:2])
        logits_RV = weight_VH.new_empty(min(rows, count), vocabulary)
        for start in range(0, count, rows):
            part = slice(start, start + rows)
            ids = ids_S[part]
            made = torch.mm(hidden_SH[part], weight_VH.t(), out=logits_RV[: len(ids)])
            places = [None if column is None else column[part] for column in columns]
            _score("score_logits", made, *pointers(made, ids, *places), temperature=temperature)
        log_total_S, logp_S, entropy_S, collision_S = columns
        if learns:
            kept = logits_RV if count <= rows else None
            ctx.save_for_backward(hidden_SH, weight_VH, ids_S, log_total_S, entropy_S, kept)
            ctx.temperature, ctx.rows, ctx.sum = temperature, rows, gradient_sum(weight_VH)
        if collision_S is not None:
            ctx.mark_non_differentiable(collision_S)
        return logp_S, entropy_S, collision_S

    @staticmethod
    def backward(ctx: Context, d_logp_S: Tensor, d_entropy_S: Tensor | None, _: Any) -> Any:
        hidden_SH, weight_VH, ids_S, log_total_S, entropy_S, kept_RV = ctx.saved_tensors
        if ctx.spent:  # a second pass over one graph: the gradient of the first has taken the logits' place
            kept_RV = None
        ctx.spent = True
        d_hidden_SH = torch.empty_like(hidden_SH)
        own = _Shares(weight_VH, ctx.sum) if ctx.needs_input_grad[1] else None
        d_logp_S = d_logp_S.contiguous()
        d_entropy_S = None if d_entropy_S is None else d_entropy_S.contiguous()
        for start in range(0, len(hidden_SH), ctx.rows):
            part = slice(start, start + ctx.rows)
            x_RH = hidden_SH[part]
            logits_RV = x_RH @ weight_VH.t() if kept_RV is None else kept_RV
            slope_RV = logits_RV  # in their own place
            places = [None if each is None else each[part] for each in (entropy_S, d_logp_S, d_entropy_S)]
            arguments = pointers(logits_RV, slope_RV, ids_S[part], log_total_S[part], *places)
            _score("score_logits_backward", logits_RV, *arguments, temperature=ctx.temperature)
            d_hidden_SH[part] = multiply(slope_RV, weight_VH)
            if own is not None:
                own.add(slope_RV, x_RH)
        return d_hidden_SH, None if own is None else own.gradient(), None, None, None, None


class _Shares:
    """The gradient of the head, part by part."""

    def __init__(self, weight_VH: Tensor, elsewhere: GradientSum | None) -> None:
        self.dtype = weight_VH.dtype
        self.elsewhere = elsewhere
        self.total = self.elsewhere or GradientSum(torch.empty_like(weight_VH))

    def add(self, slope_RV: Tensor, x_RH: Tensor) -> None:
        if has_products(slope_RV):
            self.total.add_product(slope_RV, pair_tokens(x_RH))
        else:
            self.total.add_across(across(x_RH) @ slope_RV)

    def gradient(self) -> Tensor | None:
        """For autograd; None where it is added up elsewhere."""
        if self.elsewhere is not None or self.total.value is None:
            return None
        return self.total.value.to(self.dtype)


def _score(name: str, logits_RV: Tensor, *arguments: Any, temperature: float) -> None:
    run = kernel(name, logits_RV)
    assert run is not None
    run(*arguments, *logits_RV.shape, 1 / temperature)
