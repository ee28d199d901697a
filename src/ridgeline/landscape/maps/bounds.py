"""What a KL allows: the data-processing bound on leaving a region, and readable equivalents."""

from __future__ import annotations

import math

from ridgeline.statistics.best_of_n import kl_of_best_of_n

HALVINGS = 200


def binary_kl(q: float, p: float) -> float:
    """kl(q || p) = q log(q/p) + (1-q) log((1-q)/(1-p)) of two coins, in nats; inf where p excludes q.

    Raises ValueError for shares outside [0, 1].
    """
    for name, share in (("q", q), ("p", p)):
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"{name} = {share} must lie in [0, 1]")
    total = 0.0
    for new, old in ((q, p), (1.0 - q, 1.0 - p)):
        if new > 0.0:
            total += math.inf if old == 0.0 else new * math.log(new / old)
    return max(total, 0.0)


def most_mass(p: float, kl: float) -> float:
    """The largest q with kl(q || p) <= kl: what may at most lie where the reference has the share p.

    By the data-processing inequality kl(q || p) <= KL(policy || reference) for every event, every policy and
    every fixed projection, with the KL of whole completions in nats. In [p, 1]; 1 (the bound says nothing)
    from kl = log(1/p) on. Found by bisection to rounding. Raises ValueError for p outside (0, 1) or kl < 0.
    """
    if not 0.0 < p < 1.0:
        raise ValueError(f"p = {p} must lie strictly between 0 and 1")
    if not kl >= 0.0:
        raise ValueError(f"kl = {kl} nats must be at least 0")
    if is_vacuous(p, kl):
        return 1.0
    low, high = p, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if binary_kl(middle, p) <= kl else (low, middle)
    return low


def is_vacuous(p: float, kl: float) -> bool:
    """Whether ``kl`` nats allow everything to leave: kl >= log(1/p)."""
    return kl >= -math.log(p)


def sigma_equivalent(kl: float) -> float:
    """sqrt(2 KL): by how many standard deviations a Gaussian of equal spread is shifted at that KL."""
    return math.sqrt(2.0 * max(kl, 0.0))


def best_of(kl: float) -> float:
    """The n (not rounded) whose best-of-n choice costs ``kl`` nats: log n - (n-1)/n = kl. 1 at 0."""
    if kl <= 0.0:
        return 1.0
    low, high = 1.0, math.exp(min(kl + 1.0, 700.0))
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        if middle in (low, high):
            break
        too_much = math.log(middle) - (middle - 1.0) / middle > kl
        low, high = (low, middle) if too_much else (middle, high)
    return low


def reads_as(kl: float) -> str:
    """The KL as a corner of what the reference does, "1 in 20", beside whole n of best-of-n."""
    if kl <= 0.0:
        return "what the reference does"
    n = round(best_of(kl))
    corner = f"a 1-in-{math.exp(min(kl, 700.0)):,.0f} corner of what the reference does"
    return f"{corner}, about best of {n:,} ({kl_of_best_of_n(max(n, 1)):.1f} nats)" if kl < 8 else corner
