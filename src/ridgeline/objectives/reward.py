"""Reward-model losses per item: pairs, rankings, outcomes, process steps.

Scores are logits without absolute scale: only differences between answers to one prompt mean something.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

IGNORE = -100


def bradley_terry(chosen: Tensor, rejected: Tensor, margin: Tensor | float | None = None) -> Tensor:
    """-log sigma(r_c - r_r - m) per pair.

    chosen, rejected: `[pairs]` scores; margin: `[pairs]` or a number in score units, larger where annotators
    were surer (Llama 2).
    Returns `[pairs]` nats of at least 0; log 2 for equal scores. Source: Bradley and Terry 1952; Ouyang et
    al. 2022, equation 1.
    """
    difference = chosen - rejected if margin is None else chosen - rejected - margin
    return -logsigmoid(difference)


def soft_bradley_terry(
    chosen: Tensor, rejected: Tensor, probability: Tensor | float, margin: Tensor | float | None = None
) -> Tensor:
    """-( p log sigma(z) + (1 - p) log sigma(-z) ) with z = r_c - r_r - m: labels that are not sure.

    chosen, rejected: `[pairs]` scores; probability: that chosen really is better, `[pairs]` or a number in
    [0, 1]: 1 is `bradley_terry`, 0.5 a tie, 1 - epsilon label smoothing; margin as there.
    Returns `[pairs]` nats of at least 0, least at z = log p / (1 - p). Raises ValueError for a probability
    outside [0, 1]. Source: Christiano et al. 2017, section 2.2.3.
    """
    p = torch.as_tensor(probability, dtype=chosen.dtype, device=chosen.device)
    if bool(((p < 0) | (p > 1)).any()):
        raise ValueError("the probability that chosen is better must lie between 0 and 1 (0.5 is a tie)")
    other = None if margin is None else -margin
    return p * bradley_terry(chosen, rejected, margin) + (1 - p) * bradley_terry(rejected, chosen, other)


def grouped_bradley_terry(scores: Tensor, ranks: Tensor | None = None) -> Tensor:
    """Mean over all pairs of one prompt of -log sigma(r_better - r_worse): each prompt weighs the same.

    scores: `[P, K]`. ranks: `[P, K]`, lower is better; equal ranks form no pair, a nan rank marks a missing
    completion (whose score may be anything). Without ranks the completions are ordered best first.
    Returns `[P]` nats; 0 for a prompt without a pair. Source: Ouyang et al. 2022, equation 1.
    """
    if ranks is None:
        ranks = torch.arange(scores.shape[-1], device=scores.device).expand(scores.shape)
    is_pair_PKK = ranks.unsqueeze(-1) < ranks.unsqueeze(-2)
    difference_PKK = torch.where(is_pair_PKK, scores.unsqueeze(-1) - scores.unsqueeze(-2), 0.0)
    losses_PKK = torch.where(is_pair_PKK, -logsigmoid(difference_PKK), 0.0)
    return losses_PKK.sum((-2, -1)) / is_pair_PKK.sum((-2, -1)).clamp(min=1)


def plackett_luce(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """-log P(ranking) = sum_k [ log sum_{j >= k} exp r_j - r_k ] for completions ordered best first.

    scores: `[P, K]`; mask: `[P, K]`, 0 where a prompt has fewer completions. Returns `[P]` nats of at least
    0; K = 2 is `bradley_terry`. Source: Plackett 1975; Zhu et al. 2023.
    """
    valid = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask != 0
    # A finite floor: a row of nothing but -inf would give a nan gradient.
    kept = torch.where(valid, scores, torch.finfo(scores.dtype).min / 2)
    k = scores.shape[-1]
    follows_KK = torch.ones(k, k, dtype=torch.bool, device=scores.device).triu()
    remaining_PKK = torch.where(follows_KK, kept.unsqueeze(-2), torch.finfo(scores.dtype).min / 2)
    losses = torch.logsumexp(remaining_PKK, -1) - kept
    return torch.where(valid, losses, 0.0).sum(-1)


def outcome_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of every token against the outcome: -(y log p_t + (1-y) log(1-p_t)).

    logits: `[B, T]`; labels: `[B]` in [0, 1]. Returns `[B, T]` nats; aggregate with "sequence" for the
    paper's mean per solution, with "token" to let long solutions weigh more. Raises ValueError for labels
    outside [0, 1]. Source: Cobbe et al. 2021.
    """
    _check_labels(labels)
    targets_BT = labels.to(logits.dtype).unsqueeze(-1).expand(logits.shape)
    return binary_cross_entropy_with_logits(logits, targets_BT, reduction="none")


def pooled_outcome_bce(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of the outcome against sigma(mean of the token logits over the valid tokens).

    logits, mask: `[B, T]`; labels: `[B]` in [0, 1]. Returns `[B]` nats; 0 for a row without a valid token.
    Raises ValueError for labels outside [0, 1].
    """
    _check_labels(labels)
    valid = mask != 0
    pooled_B = torch.where(valid, logits, 0.0).sum(-1) / valid.sum(-1).clamp(min=1)
    losses_B = binary_cross_entropy_with_logits(pooled_B, labels.to(logits.dtype), reduction="none")
    return torch.where(valid.any(-1), losses_B, 0.0)


def process_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy at step ends: is this step valid?

    logits, labels: `[B, T]`; labels in [0, 1] on the last token of each step and -100 elsewhere. Returns
    `[B, T]` nats, 0 where ignored; aggregate with mask `labels != -100`. Raises ValueError for other labels.
    Source: Lightman et al. 2023.
    """
    judged = labels != IGNORE
    _check_labels(labels[judged])
    targets = torch.where(judged, labels, 0).to(logits.dtype)
    kept = torch.where(judged, logits, 0.0)
    return torch.where(judged, binary_cross_entropy_with_logits(kept, targets, reduction="none"), 0.0)


def process_ce(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over bad, neutral and good steps at step ends.

    logits: `[B, T, 3]` for the classes -1, 0, +1 in this order; labels: `[B, T]` integers -1, 0, +1 on the
    last token of each step and -100 elsewhere. Returns `[B, T]` nats, 0 where ignored; aggregate with mask
    `labels != -100`. Raises ValueError for other labels. Source: Lightman et al. 2023.
    """
    judged = labels != IGNORE
    if bool((labels[judged].abs() > 1).any()):
        raise ValueError("process labels must be -1, 0 or +1, and -100 where a token ends no step")
    classes = torch.where(judged, labels, 0) + 1
    kept = torch.where(judged.unsqueeze(-1), logits, 0.0)
    logp = torch.log_softmax(kept, -1).gather(-1, classes.unsqueeze(-1)).squeeze(-1)
    return torch.where(judged, -logp, 0.0)


def centering(chosen: Tensor, rejected: Tensor) -> Tensor:
    """(r_c + r_r)^2 per pair: a penalty that keeps scores around 0, which pairs alone leave undetermined.

    chosen, rejected: `[pairs]`. Returns `[pairs]` of at least 0; weigh it by about 0.01. Source: Eisenstein
    et al. 2023.
    """
    return (chosen + rejected).square()


def _check_labels(labels: Tensor) -> None:
    if bool(((labels < 0) | (labels > 1)).any()):
        raise ValueError("outcome and step labels must lie between 0 and 1 (0 wrong, 1 right)")
