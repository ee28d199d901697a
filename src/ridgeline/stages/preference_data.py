"""Preference rows as pairs that carry whatever an objective reads about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ridgeline.data.chat import encode_completions
from ridgeline.data.formats import preferences, prompt_id
from ridgeline.data.pairs import build_pairs
from ridgeline.data.sources import iter_rows
from ridgeline.data.split import holdout
from ridgeline.models.batch import Unit, completion_row
from ridgeline.models.load import LanguageModel
from ridgeline.objectives.pair_axes import PairObjective
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Preference
from ridgeline.schema.stages import PreferenceStage
from ridgeline.stages.collect import OUTPUT
from ridgeline.stages.context import StageContext


@dataclass
class PairSets:
    """Pairs to learn from and pairs held out, the latter with the prompt of each."""

    train: list[Unit]
    heldout: list[Unit]
    heldout_prompts: list[str]
    dropped: dict[str, int]


def pair_sets(
    context: StageContext,
    config: PreferenceStage,
    source: str,
    objective: PairObjective,
    model: LanguageModel,
) -> PairSets:
    """Read, split by prompt, tokenise, and attach what the objective needs.

    Raises:
        DataError: a row without a column that the objective reads, or with a soft label it does not
            understand.
    """
    context.observer.phase("preparing data")
    if context.is_stage(source):
        source = str(context.output_of(source).path / OUTPUT)
    rows = preferences(iter_rows(source), source)
    _check_columns(rows, objective, source)
    if isinstance(config.heldout, str):
        heldout = preferences(iter_rows(config.heldout), config.heldout)
        _check_columns(heldout, objective, config.heldout)
    else:
        rows, heldout = holdout(rows, config.heldout, _prompt, context.seed)
    train = _build(context, config, rows, objective, model)
    held = _build(context, config, heldout, objective, model) if heldout else PairSets([], [], [], {})
    return PairSets(train.train, held.train, held.heldout_prompts, train.dropped)


def _build(
    context: StageContext,
    config: PreferenceStage,
    items: Sequence[Preference],
    objective: PairObjective,
    model: LanguageModel,
) -> PairSets:
    data = build_pairs(items, model.tokenizer, max_length=config.max_length, overlong=config.overlong)
    for reason, count in data.dropped.items():
        context.warn(f"{count} pairs dropped: {reason}")
    kept = [items[index] for index in data.source]
    for unit, item in zip(data.units, kept, strict=True):
        _attach(unit, item, objective)
    if "gold" in objective.needs:
        _append_gold(data.units, kept, model)
    return PairSets(data.units, [], [_prompt(item) for item in kept], data.dropped)


def _attach(unit: Unit, item: Preference, objective: PairObjective) -> None:
    chosen, rejected = unit
    if objective.takes_labels:
        chosen.values["soft_label"] = item.label
    if "margin" in objective.needs:
        chosen.values["margin"] = _margin(item) or 0.0
    if "rewards" in objective.needs:
        chosen.values["reward"] = item.scores["chosen"]
        rejected.values["reward"] = item.scores["rejected"]


def _append_gold(units: Sequence[Unit], items: Sequence[Preference], model: LanguageModel) -> None:
    """The demonstrated answer as a third row of each pair."""
    sides = encode_completions(
        model.tokenizer, [item.prompt for item in items], [item.gold or "" for item in items]
    )
    for unit, side in zip(units, sides, strict=True):
        unit.append(completion_row(*side))


def _margin(item: Preference) -> float | None:
    """As rated, else the difference of the scores of the two sides."""
    if item.margin is None and item.scores.keys() >= {"chosen", "rejected"}:
        return item.scores["chosen"] - item.scores["rejected"]
    return item.margin


def _check_columns(items: Sequence[Preference], objective: PairObjective, source: str) -> None:
    for number, item in enumerate(items, start=1):
        where = f"{source}, row {number}"
        if item.label != 1 and not objective.takes_labels:
            raise DataError(
                f"{where}, label: {item.label:g} is a soft label, which this objective does not understand; "
                "drop such rows, or choose dpo, cdpo, ipo or hinge."
            )
        if "rewards" in objective.needs and not item.scores.keys() >= {"chosen", "rejected"}:
            raise DataError(f"{where}: the objective reads rewards; add scores = {{chosen, rejected}}.")
        if _ordered(objective) and item.scores["chosen"] < item.scores["rejected"]:
            raise DataError(f"{where}, scores: odpo needs chosen to score at least as high; swap the sides.")
        if "margin" in objective.needs and _margin(item) is None:
            raise DataError(f"{where}: the objective reads a margin; add margin, or scores of both sides.")
        if "gold" in objective.needs and not item.gold:
            raise DataError(f"{where}: the objective learns from a third answer; add gold.")


def _ordered(objective: PairObjective) -> bool:
    """ODPO takes the logarithm of the difference of the scores."""
    return any(term.loss == "odpo" for term in objective.terms)


def _prompt(item: Preference) -> str:
    return item.prompt_id or prompt_id(item.prompt)
