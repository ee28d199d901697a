"""Distillation one position at a time, over vocabularies and texts small enough to enumerate."""

from __future__ import annotations

import itertools
import math

from tests.oracles.kl import divergence, softmax


def tempered(logits: list[float], temperature: float) -> list[float]:
    return softmax([x / temperature for x in logits])


def forward_kl(student: list[float], teacher: list[float], temperature: float = 1.0) -> float:
    """Hinton et al. 2015: soft targets of the teacher, minus their entropy."""
    return divergence(tempered(teacher, temperature), tempered(student, temperature))


def reverse_kl(student: list[float], teacher: list[float], temperature: float = 1.0) -> float:
    return divergence(tempered(student, temperature), tempered(teacher, temperature))


def jsd(student: list[float], teacher: list[float], beta: float, temperature: float = 1.0) -> float:
    """Agarwal et al. 2024, equation 1, with P the teacher and Q the student."""
    p, q = tempered(teacher, temperature), tempered(student, temperature)
    mixture = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
    return beta * divergence(p, mixture) + (1 - beta) * divergence(q, mixture)


def top_k_tail(
    student: list[float], teacher: list[float], ids: list[int], forward: bool, temperature: float = 1.0
) -> float:
    """KL over the kept tokens and what is left over."""
    p, q = tempered(teacher, temperature), tempered(student, temperature)
    buckets_p, buckets_q = [p[i] for i in ids], [q[i] for i in ids]
    if len(ids) < len(student):
        others = [i for i in range(len(student)) if i not in ids]
        buckets_p.append(sum(p[i] for i in others))
        buckets_q.append(sum(q[i] for i in others))
    return divergence(buckets_p, buckets_q) if forward else divergence(buckets_q, buckets_p)


def returns_after(rewards: list[float], normalise: bool) -> list[float]:
    """R_{t+1} of Gu et al. 2024: the rewards after each position, their mean where normalised."""
    result = []
    for t in range(len(rewards)):
        later = rewards[t + 1 :]
        total = sum(later)
        result.append(total / len(later) if normalise and later else total)
    return result


def sequence_kl(
    student: list[list[float]], teacher: list[list[float]], vocabulary: int, length: int
) -> float:
    """KL(student || teacher) over all texts of one length; row of a prefix = its index in `prefixes`."""
    rows = {prefix: i for i, prefix in enumerate(prefixes(vocabulary, length))}
    total = 0.0
    for text in itertools.product(range(vocabulary), repeat=length):
        log_q = sum(math.log(softmax(student[rows[text[:t]]])[text[t]]) for t in range(length))
        log_p = sum(math.log(softmax(teacher[rows[text[:t]]])[text[t]]) for t in range(length))
        total += math.exp(log_q) * (log_q - log_p)
    return total


def prefixes(vocabulary: int, length: int) -> list[tuple[int, ...]]:
    """Every prefix of a text of this length, the empty one first."""
    return [p for t in range(length) for p in itertools.product(range(vocabulary), repeat=t)]
