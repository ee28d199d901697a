"""Distillation: divergences between the next-token distributions of a student and a teacher.

Everything is per position and unreduced: logits `[..., V]` give `[...]` nats. The teacher is always a
constant, only the student receives gradient. A divergence holds several tensors of the size of its logits
until backward: cutting the positions into chunks, and recomputing a chunk in backward, is the caller's job.

Which divergence, and on whose text, are two choices (F16.4, F16.6 and everything between):

    forward KL(teacher || student)   covers all that the teacher would say; with a fixed teacher it is
                                     cross-entropy with soft labels, up to the teacher's entropy (F16.3)
    reverse KL(student || teacher)   avoids what the teacher would not say; `distill_policy` samples it
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from ridgeline.objectives.kl import exact_kl
from ridgeline.objectives.logprobs import log_softmax
from ridgeline.objectives.supervised import nll

Direction = Literal["forward", "reverse"]
Divergence = Callable[[Tensor, Tensor], Tensor]


def forward_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, rescale: bool = False
) -> Tensor:
    """KL(teacher || student) = sum_v p_T (log p_T - log p_S), both softmax(logits / temperature).

    student_logits, teacher_logits: `[..., V]`, -inf where a token is excluded. A token that only the student
    excludes makes the result inf, as it should.
    temperature: above 1 softens both, so that the teacher's order among unlikely tokens counts for more.
    rescale: multiply by temperature^2, which keeps the size of the gradient about the same at every
    temperature (Hinton et al. 2015, section 2).
    Returns `[...]` nats of at least 0 (up to rounding), float32 (float64 for float64 logits). Its gradient in
    the student's logits is (p_S - p_T) / temperature. Raises ValueError for a temperature that is not a
    finite number above 0, and for logits of different shapes.
    """
    student, teacher = _tempered(student_logits, teacher_logits, temperature)
    return exact_kl(teacher, student) * _scale(temperature, rescale)


def reverse_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, rescale: bool = False
) -> Tensor:
    """KL(student || teacher) = sum_v p_S (log p_S - log p_T), both softmax(logits / temperature).

    Arguments, range and errors as `forward_kl`; inf where only the teacher excludes a token. On the student's
    own samples this is on-policy distillation (F16.6).
    """
    student, teacher = _tempered(student_logits, teacher_logits, temperature)
    return exact_kl(student, teacher) * _scale(temperature, rescale)


def generalised_jsd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    beta: float = 0.5,
    temperature: float = 1.0,
    rescale: bool = False,
) -> Tensor:
    """beta KL(p_T || m) + (1 - beta) KL(p_S || m), with the mixture m = beta p_T + (1 - beta) p_S.

    beta in (0, 1); 0.5 is the Jensen-Shannon divergence, symmetric and at most log 2. By convention 0 means
    the forward and 1 the reverse KL, since JSD / beta tends to the first and JSD / (1 - beta) to the second:
    the formula itself is 0 at both ends, and next to them its gradient is small, so that the learning rate
    has to make up for it. Excluded tokens do no harm: m holds what either side holds.
    Other arguments, units and errors as `forward_kl`; ValueError for beta outside [0, 1]. Source: Agarwal et
    al. 2024 (GKD), equation 1.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta = {beta} must lie between 0 (forward KL) and 1 (reverse KL)")
    if beta == 0:
        return forward_kl(student_logits, teacher_logits, temperature, rescale)
    if beta == 1:
        return reverse_kl(student_logits, teacher_logits, temperature, rescale)
    student, teacher = _tempered(student_logits, teacher_logits, temperature)
    logp_student, logp_teacher = log_softmax(student), log_softmax(teacher)
    # A token that both exclude would have the gradient of log(0 + 0), which is nan.
    held = torch.isfinite(logp_student) | torch.isfinite(logp_teacher)
    parts = (
        torch.where(held, logp_teacher, 0.0) + math.log(beta),
        torch.where(held, logp_student, 0.0) + math.log1p(-beta),
    )
    logp_mixture = torch.logaddexp(*parts)
    divergence = beta * _kl(logp_teacher, logp_mixture) + (1 - beta) * _kl(logp_student, logp_mixture)
    return divergence * _scale(temperature, rescale)


def top_k_tail_kl(
    student_logits: Tensor,
    ids: Tensor,
    teacher_logprobs: Tensor,
    direction: Direction = "forward",
    temperature: float = 1.0,
    rescale: bool = False,
) -> Tensor:
    """KL over k kept tokens and one bucket that holds the mass of all others (F16.10).

        a_i = p(ids_i) for i < k, a_k = 1 - sum_i a_i;   forward: KL(a_T || a_S), reverse: KL(a_S || a_T)

    Never above the full divergence, because merging tokens loses what tells them apart; equal to it when
    k = V (there is no bucket then) and when student and teacher agree on the shape of the tail.
    student_logits: `[..., V]`. ids: `[..., k]` int64, distinct within a position: the teacher's likeliest
    tokens (precomputed), or the student's (SDPO). teacher_logprobs: `[..., k]`, the teacher's log-probs of
    ids over its whole vocabulary and **already at this temperature**, which top-k entries alone cannot be
    brought to. The student's bucket is summed over its logits. The teacher's is 1 minus what is given; as
    rounding hides whatever lies below float epsilon, it counts as epsilon (1.2e-7 in float32) at least, since
    otherwise the reverse KL to a sure teacher would be inf.
    Returns `[...]` nats of at least 0 (up to rounding). Raises ValueError for an unknown direction, shapes
    that do not fit, ids that repeat, and a temperature that is not a finite number above 0.
    """
    _check_top_k(student_logits, ids, teacher_logprobs, direction)
    student = log_softmax(_at_temperature(student_logits, temperature))
    buckets_S = student.gather(-1, ids)
    buckets_T = teacher_logprobs.detach().to(student.dtype)
    if ids.shape[-1] < student_logits.shape[-1]:
        lowest = torch.finfo(student.dtype).min / 2  # -inf throughout would have a nan gradient
        tail_S = torch.logsumexp(student.scatter(-1, ids, lowest), -1, keepdim=True)
        buckets_S = torch.cat([buckets_S, tail_S], -1)
        buckets_T = torch.cat([buckets_T, _remaining(buckets_T)], -1)
    forward = direction == "forward"
    divergence = _kl(buckets_T, buckets_S) if forward else _kl(buckets_S, buckets_T)
    return divergence * _scale(temperature, rescale)


def mix_teachers(
    student_logits: Tensor,
    teacher_logits: Sequence[Tensor],
    weights: Sequence[float] | Tensor,
    divergence: Divergence = reverse_kl,
) -> Tensor:
    """sum_k w_k D(student, teacher_k): several teachers at once (F16.8, multi-teacher distillation).

    teacher_logits: K tensors shaped as `student_logits`. weights: K numbers, or `[..., K]` where they differ
    by position (a prompt's domain picks its teacher); of at least 0, summing to 1. divergence: one of this
    module, its options bound by `functools.partial`. For the reverse KL the sum equals, up to a constant, the
    KL to the normalised geometric mean of the teachers; for the forward KL, to their arithmetic mean.
    Returns `[...]` nats. A teacher of weight 0 cannot spoil a position where its divergence is inf. Raises
    ValueError for weights that do not fit, are negative or do not sum to 1.
    """
    share = torch.as_tensor(weights, dtype=torch.float64, device=student_logits.device)
    if share.shape[-1] != len(teacher_logits) or not teacher_logits:
        raise ValueError(f"{len(teacher_logits)} teachers need as many weights, got {list(share.shape)}")
    total = share.sum(-1)
    if bool((share < 0).any()) or not torch.allclose(total, torch.ones_like(total), rtol=0, atol=1e-6):
        raise ValueError("the weights of the teachers must be at least 0 and sum to 1 at every position")
    parts = []
    for k, logits in enumerate(teacher_logits):
        value = divergence(student_logits, logits)
        weight = share[..., k].to(value.dtype).expand(value.shape)
        parts.append(weight * torch.where(weight > 0, value, 0.0))
    return torch.stack(parts).sum(0)


def sequence_kd(logp: Tensor) -> Tensor:
    """-log p_S(u_t | s, u_<t) on text that the teacher wrote: sequence-level distillation (F16.2).

    logp: `[...]` nats, the student's log-probs of the teacher's tokens. Returns `[...]` nats of at least 0.
    It is supervised learning; averaged over all that the teacher would write, it is the forward KL plus the
    teacher's entropy. Source: Kim and Rush 2016, section 3.2.
    """
    return nll(logp)


def _kl(logp: Tensor, logq: Tensor) -> Tensor:
    """sum_v p (log p - log q) over log-probs; 0 with zero gradient where p is 0."""
    p = logp.exp()
    return (p * torch.where(p > 0, logp - logq, 0.0)).sum(-1)


def _remaining(logp: Tensor) -> Tensor:
    """log(1 - sum_i exp(logp_i)) as `[..., 1]`, of at least the log of float epsilon."""
    total = torch.logsumexp(logp, -1, keepdim=True)
    return (-torch.expm1(total)).clamp(min=torch.finfo(logp.dtype).eps).log()


def _at_temperature(logits: Tensor, temperature: float) -> Tensor:
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature = {temperature} must be a finite number above 0")
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide if temperature == 1.0 else wide / temperature


def _tempered(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student logits {list(student_logits.shape)} and teacher logits {list(teacher_logits.shape)} "
            "must have the same shape: distillation per token needs one vocabulary"
        )
    student = _at_temperature(student_logits, temperature)
    return student, _at_temperature(teacher_logits.detach(), temperature).to(student.dtype)


def _scale(temperature: float, rescale: bool) -> float:
    return temperature**2 if rescale else 1.0


def _check_top_k(student_logits: Tensor, ids: Tensor, teacher_logprobs: Tensor, direction: Direction) -> None:
    if direction not in get_args(Direction):
        raise ValueError(f"unknown direction '{direction}'; choose one of: {', '.join(get_args(Direction))}")
    if ids.shape != teacher_logprobs.shape or ids.shape[:-1] != student_logits.shape[:-1]:
        raise ValueError(
            f"ids {list(ids.shape)} and teacher_logprobs {list(teacher_logprobs.shape)} must both be "
            f"[..., k] for student logits {list(student_logits.shape)}"
        )
    in_order = ids.sort(-1).values
    if bool((in_order[..., 1:] == in_order[..., :-1]).any()):
        raise ValueError("the kept ids of a position must be distinct: a repeated token would count twice")
