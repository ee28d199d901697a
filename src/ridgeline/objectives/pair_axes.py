"""A direct-alignment objective as one frozen value: a mixture of named losses, and presets of the papers.

Free of torch, so that recipes can be checked and planned before anything heavy is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, get_args

from ridgeline.objectives.pair_traits import (
    PAIR_LOSSES,
    UNPAIRED_LOSSES,
    Column,
    Divergence,
    PairLoss,
    UnpairedLoss,
    check_divergence,
    check_options,
)

__all__ = [
    "PAIR_LOSSES",
    "PAIR_PRESETS",
    "UNPAIRED_LOSSES",
    "Divergence",
    "PairLoss",
    "PairObjective",
    "PairTerm",
    "UnpairedLoss",
    "Weighting",
]

Weighting = Literal["none", "wpo"]


@dataclass(frozen=True, kw_only=True)
class PairTerm:
    """One loss of a mixture with its weight; options not named keep the defaults of `PAIR_LOSSES`.

    Raises ValueError for an unknown loss or option, and for numbers out of range.
    """

    loss: str
    weight: float = 1.0
    options: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.loss not in PAIR_LOSSES:
            raise ValueError(f"unknown loss '{self.loss}'; choose one of: {', '.join(PAIR_LOSSES)}")
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight = {self.weight} of loss '{self.loss}' must be a finite number above 0")
        check_options(self.loss, **self.options)
        # A copy, so that the caller's table cannot change a frozen value; not a proxy, which does not pickle.
        object.__setattr__(self, "options", dict(self.options))

    @property
    def traits(self) -> PairLoss:
        """What the loss reads."""
        return PAIR_LOSSES[self.loss]

    @property
    def resolved(self) -> dict[str, float]:
        """All options of the loss, defaults included."""
        return {**self.traits.options, **self.options}


@dataclass(frozen=True, kw_only=True)
class PairObjective:
    """A weighted sum of losses on the same pairs, and how their log-ratios are formed.

    terms: at least one, each loss once.
    divergence, divergence_alpha: f-DPO, see `log_ratios.divergence_ratio`; acts on margin-based losses.
    length_desensitised: weight in [0, 1] of the tokens beyond the shorter answer's length (LD-DPO); None sums
        all tokens alike.
    weighting: "wpo" weighs each pair by the likelihood of its completions under the current policy.

    Raises ValueError for an unknown name, a number out of range and combinations that cannot work.
    """

    terms: tuple[PairTerm, ...]
    divergence: Divergence = "reverse_kl"
    divergence_alpha: float | None = None
    length_desensitised: float | None = None
    weighting: Weighting = "none"

    def __post_init__(self) -> None:
        names = self._losses
        if not names:
            raise ValueError("a preference objective needs at least one term, e.g. PairTerm(loss='dpo')")
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"loss '{repeated[0]}' appears twice; add the weights into one term")
        check_divergence(self.divergence, self.divergence_alpha)
        if self.divergence != "reverse_kl":
            self._check_margins()
        if self.length_desensitised is not None:
            self._check_lengths(self.length_desensitised)
        if self.weighting not in get_args(Weighting):
            raise ValueError(f"unknown weighting '{self.weighting}'; choose one of: none, wpo")
        matched = [name for name in names if name in ("aot", "aot_unpaired")]
        if self.weighting == "wpo" and matched:
            raise ValueError(
                f"weighting 'wpo' weighs pairs, but '{matched[0]}' compares completions of different pairs; "
                "use weighting = 'none'"
            )

    @property
    def needs_reference(self) -> bool:
        """Whether log-probs of a frozen reference are part of the objective."""
        return any(term.traits.reference for term in self.terms)

    @property
    def needs_lengths(self) -> bool:
        """Whether completion lengths in tokens are part of the objective."""
        return any(term.traits.lengths for term in self.terms)

    @property
    def needs(self) -> tuple[Column, ...]:
        """The columns beyond chosen and rejected that the data must have."""
        return tuple(dict.fromkeys(column for term in self.terms for column in term.traits.needs))

    @property
    def whole_step(self) -> bool:
        """Whether `preference.whole_step_inputs` has to see all pairs of the optimizer step first."""
        return any(term.traits.whole_step for term in self.terms)

    @property
    def takes_labels(self) -> bool:
        """Whether soft labels (ties among them) are understood by every term."""
        return all(term.traits.label for term in self.terms)

    @property
    def _losses(self) -> list[str]:
        return [term.loss for term in self.terms]

    def _check_margins(self) -> None:
        # The likelihood of the chosen completion may join any mixture: it has no ratio to replace.
        ratios = [term.loss for term in self.terms if term.traits.rejected]
        misfit = [name for name in ratios if not PAIR_LOSSES[name].margin_based]
        if misfit or not ratios:
            usable = ", ".join(name for name, loss in PAIR_LOSSES.items() if loss.margin_based)
            raise ValueError(
                f"divergence '{self.divergence}' needs a loss built on the margin of log-ratios, which "
                f"'{(misfit or self._losses)[0]}' is not; choose one of: {usable}"
            )

    def _check_lengths(self, alpha: float) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"length_desensitised = {alpha} must lie between 0 and 1; 0.5 is usual")
        misfit = [term.loss for term in self.terms if term.traits.lengths or not term.traits.rejected]
        if misfit:
            raise ValueError(
                "length_desensitised corrects comparisons of sums over tokens, which "
                f"'{misfit[0]}' does not make; drop one of the two"
            )


def _only(loss: str, **options: float) -> PairObjective:
    return PairObjective(terms=(PairTerm(loss=loss, options=options),))


def _mix(*terms: tuple[str, float]) -> PairObjective:
    return PairObjective(terms=tuple(PairTerm(loss=loss, weight=weight) for loss, weight in terms))


PAIR_PRESETS: Mapping[str, PairObjective] = MappingProxyType(
    {
        **{name: _only(name) for name in PAIR_LOSSES},
        # Xu et al. 2024: the contrastive term alone is not CPO.
        "cpo": _mix(("cpo", 1.0), ("sft_chosen", 1.0)),
        "cpo_simpo": _mix(("simpo", 1.0), ("sft_chosen", 1.0)),
        # Pang et al. 2024.
        "dpo_nll": _mix(("dpo", 1.0), ("sft_chosen", 1.0)),
        # Wang et al. 2024 (InternVL).
        "mpo": PairObjective(
            terms=(
                PairTerm(loss="dpo", weight=0.8),
                PairTerm(loss="bco_pair", weight=0.2, options={"beta": 0.1}),
                PairTerm(loss="sft_chosen", weight=1.0),
            )
        ),
        # Zhou et al. 2024, section 4.
        "wpo": replace(_only("dpo", beta=0.01), weighting="wpo"),
        # Liu et al. 2024.
        "ld_dpo": replace(_only("dpo"), length_desensitised=0.5),
        # Wang et al. 2023.
        "dpo_forward_kl": replace(_only("dpo"), divergence="forward_kl"),
        "dpo_js": replace(_only("dpo"), divergence="js"),
        "dpo_alpha": replace(_only("dpo"), divergence="alpha", divergence_alpha=0.5),
    }
)
