"""What each named loss of direct alignment reads, its options with their defaults, and what they may be.

Free of torch, so that recipes can be checked and planned before anything heavy is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

Divergence = Literal["reverse_kl", "forward_kl", "js", "alpha"]
Column = Literal["margin", "rewards", "gold"]


@dataclass(frozen=True, kw_only=True)
class PairLoss:
    """What one named loss of pairs reads. Its function has exactly these arguments (held by a test).

    options: keyword -> default; the only place where defaults are defined.
    reference: whether log-probs of a frozen reference are compared with.
    rejected: whether the rejected completion is read at all.
    lengths: whether log-probs are divided by completion lengths in tokens.
    needs: columns of the data: "margin" per pair, "rewards" of both completions, a "gold" completion.
    label: whether a soft label (the probability that chosen is better) is understood; ties are 0.5.
    margin_based: a function of the difference of two log-ratios, so that an f-divergence may replace them.
    step_inputs: keywords that depend on all pairs of the optimizer step, see `preference.whole_step_inputs`.
    """

    options: Mapping[str, float] = field(hash=False)
    reference: bool = True
    rejected: bool = True
    lengths: bool = False
    needs: tuple[Column, ...] = ()
    label: bool = False
    margin_based: bool = False
    step_inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))

    @property
    def whole_step(self) -> bool:
        """Whether a no-grad pass over the whole optimizer step comes first."""
        return bool(self.step_inputs)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The required tensors, as named in `preference.PairInputs`; the log-probs come first."""
        names = ["chosen", *(["rejected"] if self.rejected else [])]
        if self.reference:
            names += [f"ref_{name}" for name in names]
        if self.lengths:
            names += ["chosen_lengths", *(["rejected_lengths"] if self.rejected else [])]
        for column in self.needs:
            names += _COLUMNS[column]
        return (*names, *self.step_inputs)


_COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "margin": ("margin",),
        "rewards": ("chosen_rewards", "rejected_rewards"),
        "gold": ("gold", "gold_lengths"),
    }
)


# beta is 0.1, the field's usual value, where no other number is given by the paper in the comment.
PAIR_LOSSES: Mapping[str, PairLoss] = MappingProxyType(
    {
        "dpo": PairLoss(options={"beta": 0.1}, label=True, margin_based=True),
        "dpo_margin": PairLoss(options={"beta": 0.1}, needs=("margin",), margin_based=True),
        "cdpo": PairLoss(options={"beta": 0.1, "label_smoothing": 0.1}, label=True, margin_based=True),
        # Chowdhury et al. 2024, section 6 and appendix B.
        "robust_dpo": PairLoss(options={"beta": 0.1, "label_smoothing": 0.1}, label=True, margin_based=True),
        # Tulu 3, Lambert et al. 2024, section 5.
        "dpo_norm": PairLoss(options={"beta": 5.0}, lengths=True, label=True),
        "ipo": PairLoss(options={"beta": 0.1}, label=True, margin_based=True),
        "hinge": PairLoss(options={"beta": 0.1}, label=True, margin_based=True),
        "odpo": PairLoss(options={"beta": 0.1, "alpha": 1.0}, needs=("rewards",), margin_based=True),
        # Ji et al. 2024, appendix B; the smoothing keeps log(epsilon) finite.
        "exo": PairLoss(options={"beta": 0.1, "label_smoothing": 1e-3}, margin_based=True),
        # Lu et al. 2024, appendices B.1 and E.
        "discopop": PairLoss(options={"beta": 0.05, "tau": 0.05}, margin_based=True),
        # Nvidia 2024 (Nemotron-4 340B): KL coefficient between 3e-4 and 3e-3, eta 1.
        "rpo": PairLoss(options={"beta": 1e-3, "eta": 1.0}, needs=("rewards",), margin_based=True),
        # beta is 1/eta of Gao et al. 2024.
        "rebel": PairLoss(options={"beta": 1.0}, needs=("rewards",)),
        # Chen et al. 2024, appendix C.
        "nca": PairLoss(options={"beta": 0.01}),
        # Jung et al. 2024.
        "bco_pair": PairLoss(options={"beta": 0.01}, step_inputs=("shift",)),
        # Wu et al. 2024, section 5: beta = 1/eta, eta = 1000.
        "sppo": PairLoss(options={"beta": 1e-3}, label=True),
        "cal_dpo": PairLoss(options={"beta": 0.1}),
        "apo_zero": PairLoss(options={"beta": 0.1}),
        "apo_down": PairLoss(options={"beta": 0.1}),
        # Melnyk et al. 2024, figure 2.
        "aot": PairLoss(options={"beta": 0.01}, step_inputs=("matched_reference",)),
        "aot_unpaired": PairLoss(options={"beta": 0.01}, step_inputs=("matched_chosen", "matched_rejected")),
        # Meng et al. 2024, appendix B: gamma / beta = 0.55.
        "simpo": PairLoss(options={"beta": 2.5, "gamma": 1.375}, reference=False, lengths=True),
        # Gupta et al. 2025, table 3 (Mistral-Instruct).
        "alphapo": PairLoss(
            options={"beta": 2.5, "gamma": 0.1, "alpha": 0.25}, reference=False, lengths=True
        ),
        "cpo": PairLoss(options={"beta": 0.1}, reference=False),
        # beta is the weight lambda of the odds ratio, Hong et al. 2024, section 6.
        "orpo": PairLoss(options={"beta": 0.1}, reference=False, lengths=True),
        "slic": PairLoss(options={"delta": 1.0}, reference=False),
        # Saeidi et al. 2024, table 6.
        "tpo": PairLoss(options={"beta": 0.01, "nll_weight": 1.0}, reference=False, needs=("gold",)),
        "tpo_l": PairLoss(
            options={"beta": 0.01, "gamma": 0.5, "nll_weight": 1.0},
            reference=False,
            lengths=True,
            needs=("gold",),
        ),
        "sft_chosen": PairLoss(options={}, reference=False, rejected=False, lengths=True),
        "sft_chosen_sum": PairLoss(options={}, reference=False, rejected=False),
    }
)


@dataclass(frozen=True, kw_only=True)
class UnpairedLoss:
    """What one named loss of single, labelled completions reads besides `logp`, `ref_logp`, `desirable`.

    options: keyword -> default. step_inputs: keywords that come from a no-grad pass over the whole optimizer
    step: KTO's reference point (on mismatched completions), BCO's running shift.
    """

    options: Mapping[str, float] = field(hash=False)
    step_inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))


UNPAIRED_LOSSES: Mapping[str, UnpairedLoss] = MappingProxyType(
    {
        # Ethayarajh et al. 2024, section 4.
        "kto": UnpairedLoss(
            options={"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0},
            step_inputs=("reference_point",),
        ),
        # Jung et al. 2024.
        "bco": UnpairedLoss(options={"beta": 0.01}, step_inputs=("shift",)),
        # D'Oosterlinck et al. 2024.
        "apo_zero_unpaired": UnpairedLoss(options={"beta": 0.1}),
    }
)

_POSITIVE = (lambda x: 0 < x < math.inf, "must be a finite number above 0")
_AT_LEAST_0 = (lambda x: 0 <= x < math.inf, "must be a finite number of at least 0")
_RANGES: Mapping[str, tuple[Callable[[float], bool], str]] = MappingProxyType(
    {
        "beta": _POSITIVE,
        "delta": _POSITIVE,
        "eta": _POSITIVE,
        "gamma": _AT_LEAST_0,
        "nll_weight": _AT_LEAST_0,
        "desirable_weight": _AT_LEAST_0,
        "undesirable_weight": _AT_LEAST_0,
        "odpo.alpha": _AT_LEAST_0,
        "alphapo.alpha": (math.isfinite, "must be a finite number"),
        "tau": (lambda x: 0 < x <= 1, "must lie in (0, 1]; above 1 wrong pairs weigh exponentially"),
        "label_smoothing": (
            lambda x: 0 <= x < 0.5,
            "must lie in [0, 0.5): at one half the labels say nothing",
        ),
        "exo.label_smoothing": (
            lambda x: 0 < x < 0.5,
            "must lie in (0, 0.5): the loss contains its logarithm",
        ),
    }
)


def check_options(loss: str, **options: float) -> None:
    """Raises ValueError for options that the loss does not have and for values out of range."""
    table: Mapping[str, PairLoss | UnpairedLoss] = {**PAIR_LOSSES, **UNPAIRED_LOSSES}
    known = table[loss].options
    for name, value in options.items():
        if name not in known:
            listed = ", ".join(known) if known else "none"
            raise ValueError(f"loss '{loss}' has no option '{name}'; its options: {listed}")
        allowed, sentence = _RANGES.get(f"{loss}.{name}") or _RANGES[name]
        if not allowed(value):
            raise ValueError(f"{name} = {value} of loss '{loss}' {sentence}")


def check_divergence(divergence: str, alpha: float | None) -> None:
    """Raises ValueError for an unknown divergence and for an alpha missing, out of range or unused."""
    if divergence not in get_args(Divergence):
        raise ValueError(
            f"unknown divergence '{divergence}'; choose one of: {', '.join(get_args(Divergence))}"
        )
    if divergence != "alpha" and alpha is not None:
        raise ValueError(f"alpha = {alpha} does nothing with divergence '{divergence}'; it needs 'alpha'")
    if divergence == "alpha" and (alpha is None or not 0 < alpha < 1):
        raise ValueError(f"divergence 'alpha' needs an alpha in (0, 1), not {alpha}; the ends have names")
