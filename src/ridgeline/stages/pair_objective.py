"""From what a recipe says about a preference objective to the objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ridgeline.objectives.pair_axes import (
    PAIR_LOSSES,
    PAIR_PRESETS,
    UNPAIRED_LOSSES,
    PairObjective,
    PairTerm,
)
from ridgeline.objectives.pair_traits import check_options
from ridgeline.schema.errors import UsageError, nearest

AXES = ("divergence", "divergence_alpha", "length_desensitised", "weighting")


def pair_objective(given: str | Mapping[str, Any] | list[dict[str, Any]], where: str) -> PairObjective:
    """A preset by its name, a table (``preset`` or ``terms``, options, axes), or a list of terms.

    An option in a table goes to every term of the preset that has it.

    Raises:
        UsageError: an unknown preset, option or axis, or a combination that cannot work, in one sentence.
    """
    if isinstance(given, str):
        given = {"preset": given}
    rest: dict[str, Any] = {"terms": given} if isinstance(given, list) else dict(given)
    axes = {name: rest.pop(name) for name in AXES if name in rest}
    try:
        if "terms" in rest:
            terms = tuple(_term(term, where) for term in rest.pop("terms"))
            _refuse(rest, where, ["preset", "terms", *AXES])
            return PairObjective(terms=terms, **axes)
        preset = str(rest.pop("preset", "dpo"))
        if preset not in PAIR_PRESETS:
            raise UsageError(f"{where} = '{preset}' is not a preset; {nearest(preset, PAIR_PRESETS)}")
        found = PAIR_PRESETS[preset]
        return replace(found, terms=_with_options(found.terms, rest, where), **axes)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where}: {error}.") from None


def unpaired_objective(given: str | Mapping[str, Any], where: str) -> tuple[str, dict[str, float]]:
    """Loss and all its options.

    Raises:
        UsageError: as ``pair_objective``.
    """
    options = {} if isinstance(given, str) else dict(given)
    loss = given if isinstance(given, str) else str(options.pop("preset", "kto"))
    if loss not in UNPAIRED_LOSSES:
        raise UsageError(f"{where} = '{loss}' is not a preset; {nearest(loss, UNPAIRED_LOSSES)}")
    try:
        check_options(loss, **options)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where}: {error}.") from None
    return loss, {**UNPAIRED_LOSSES[loss].options, **options}


def _term(table: Mapping[str, Any], where: str) -> PairTerm:
    options = dict(table)
    loss = str(options.pop("preset", ""))
    if loss not in PAIR_LOSSES:
        raise UsageError(f"{where}: a term needs preset = one loss; {nearest(loss, PAIR_LOSSES)}")
    return PairTerm(loss=loss, weight=options.pop("weight", 1.0), options=options)


def _with_options(
    terms: tuple[PairTerm, ...], options: Mapping[str, Any], where: str
) -> tuple[PairTerm, ...]:
    known = {name for term in terms for name in term.traits.options}
    _refuse({name: value for name, value in options.items() if name not in known}, where, [*known, *AXES])
    return tuple(
        replace(
            term,
            options={**term.options, **{n: v for n, v in options.items() if n in term.traits.options}},
        )
        for term in terms
    )


def _refuse(rest: Mapping[str, Any], where: str, valid: list[str]) -> None:
    for name in rest:
        raise UsageError(f"{where}: unknown option '{name}'; {nearest(name, valid)}")
