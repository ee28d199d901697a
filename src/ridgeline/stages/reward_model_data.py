"""What a reward model learns from, read as its loss wants it and split by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from ridgeline.data.columns import present
from ridgeline.data.formats import preferences
from ridgeline.data.outcomes import Outcome, build_outcomes, outcomes
from ridgeline.data.pairs import build_pairs
from ridgeline.data.rankings import Ranking, as_ranking, build_rankings, rankings
from ridgeline.data.sources import read_rows
from ridgeline.data.split import holdout
from ridgeline.data.steps import DEFAULT_SEPARATOR, Solution, build_steps, solutions
from ridgeline.data.units import UnitData
from ridgeline.models.batch import Unit
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Preference
from ridgeline.schema.reward_kinds import OUTCOME_LOSSES, RewardLoss
from ridgeline.schema.stages import RewardModelStage
from ridgeline.stages.collect import OUTPUT
from ridgeline.stages.context import StageContext

Item = Preference | Ranking | Outcome | Solution
UNITS: dict[RewardLoss, str] = {
    "bradley_terry": "pairs",
    "grouped": "rankings",
    "plackett_luce": "rankings",
    "outcome": "solutions",
    "pooled_outcome": "solutions",
    "process": "solutions",
    "process_3class": "solutions",
}
"""What a unit is called."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: what it says, whose head learns from it, and how wide a gap it asks for."""

    item: Item
    group: str = ""
    margin: float | None = None

    @property
    def prompt(self) -> str:
        """Rows of one prompt go to the same side of the split."""
        return self.item.prompt_id or self.item.prompt[-1].content


@dataclass(slots=True)
class Judged:
    """One side of the split: a unit per entry, and how many rows were dropped and why."""

    entries: list[Entry] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def prompts(self) -> list[str]:
        return [entry.prompt for entry in self.entries]

    def only(self, groups: Sequence[str], reason: str) -> Judged:
        """Without entries of other groups, which are counted under ``reason``."""
        kept = [number for number, entry in enumerate(self.entries) if entry.group in groups]
        lost = len(self.entries) - len(kept)
        return replace(
            self,
            entries=[self.entries[number] for number in kept],
            units=[self.units[number] for number in kept],
            dropped={**self.dropped, **({reason: lost} if lost else {})},
        )


def datasets(
    context: StageContext, config: RewardModelStage, tokenizer: PreTrainedTokenizerBase
) -> tuple[Judged, Judged]:
    """(training, held-out) data; the latter is empty where nothing is held out.

    Raises:
        UsageError, DataError: as reading, splitting and encoding do.
    """
    context.observer.phase("preparing data")
    source = config.data
    if context.is_stage(source):
        source = str(context.output_of(source).path / OUTPUT)
    entries = _entries(context, config, source)
    if isinstance(config.heldout, str):
        heldout = _entries(context, config, config.heldout)
    else:
        entries, heldout = holdout(entries, config.heldout, lambda entry: entry.prompt, context.seed)
    train, test = (_judged(context, config, tokenizer, part) for part in (entries, heldout))
    if config.heads_by is not None:
        test = test.only([entry.group for entry in train.entries], "their group has nothing to learn from")
    for part in (train, test):
        for reason, count in part.dropped.items():
            context.warn(f"{count} {UNITS[config.loss]} dropped: {reason}")
    return train, test


def _entries(context: StageContext, config: RewardModelStage, source: str) -> list[Entry]:
    rows = read_rows(source)
    items = read_items(rows, source, config.loss)
    groups = ["" for _ in rows]
    if config.heads_by is not None:
        groups = [
            _group(row, config.heads_by, f"{source}, row {number}") for number, row in enumerate(rows, 1)
        ]
    margins: list[float | None] = [None for _ in rows]
    if config.margin:
        margins = _margins(context, items, source)
    return [Entry(*parts) for parts in zip(items, groups, margins, strict=True)]


def read_items(rows: Sequence[Mapping[str, Any]], where: str, loss: RewardLoss) -> list[Item]:
    """Rows as ``loss`` reads them.

    Raises:
        DataError: another format, or ranks that tie where the loss needs an order.
    """
    if loss == "bradley_terry":
        return list(preferences(rows, where))
    if loss in OUTCOME_LOSSES:
        return list(outcomes(rows, where))
    if loss in ("process", "process_3class"):
        return list(solutions(rows, where, classes=2 if loss == "process" else 3))
    if "chosen" in present(rows[0]):
        pairs = enumerate(preferences(rows, where), start=1)
        ranked = [as_ranking(pair, f"{where}, row {number}") for number, pair in pairs]
    else:
        ranked = rankings(rows, where)
    if loss == "plackett_luce":
        for ranking in ranked:
            if ranking.has_ties:
                raise DataError(
                    f"{ranking.where}: two completions share a rank, and plackett_luce needs a strict order; "
                    'break the tie, or use loss = "grouped".'
                )
    return list(ranked)


def _group(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if value is None or value == "":
        raise DataError(
            f"{where}: column '{column}' is empty or missing, and heads_by needs it in every row."
        )
    return str(value)


def _margins(context: StageContext, items: Sequence[Item], where: str) -> list[float | None]:
    """By how much chosen is rated above rejected, in units of the rating."""
    margins: list[float | None] = []
    reversed_ = 0
    for number, item in enumerate(items, start=1):
        assert isinstance(item, Preference)
        if item.margin is not None:
            if item.margin < 0:
                raise DataError(f"{where}, row {number}, margin: {item.margin:g} is below 0; swap the sides.")
            margins.append(item.margin)
        elif {"chosen", "rejected"} <= item.scores.keys():
            gap = item.scores["chosen"] - item.scores["rejected"]
            reversed_ += gap < 0
            margins.append(max(gap, 0.0))
        else:
            raise DataError(
                f"{where}, row {number}: margin = true needs a column 'margin', or 'scores' with chosen and "
                "rejected; add one, or remove margin."
            )
    if reversed_:
        context.warn(f"{reversed_} pairs whose chosen side is rated lower ask for no margin")
    return margins


def _judged(
    context: StageContext,
    config: RewardModelStage,
    tokenizer: PreTrainedTokenizerBase,
    entries: Sequence[Entry],
) -> Judged:
    if not entries:
        return Judged()
    data = _build([entry.item for entry in entries], tokenizer, config)
    if data.repeated:
        context.warn(f"{data.repeated} completions left out: copies of another one of their prompt")
    kept = [entries[index] for index in data.source]
    for entry, unit in zip(kept, data.units, strict=True):
        if isinstance(entry.item, Preference) and entry.item.label != 1:
            unit[0].values["soft_label"] = entry.item.label
        if entry.margin is not None:
            unit[0].values["margin"] = entry.margin
    return Judged(kept, data.units, data.dropped)


def _build(items: Sequence[Item], tokenizer: PreTrainedTokenizerBase, config: RewardModelStage) -> UnitData:
    limits: dict[str, Any] = {"max_length": config.max_length, "overlong": config.overlong}
    if config.loss == "bradley_terry":
        return build_pairs([i for i in items if isinstance(i, Preference)], tokenizer, **limits)
    if config.loss in OUTCOME_LOSSES:
        return build_outcomes([i for i in items if isinstance(i, Outcome)], tokenizer, **limits)
    if config.loss in ("grouped", "plackett_luce"):
        return build_rankings([i for i in items if isinstance(i, Ranking)], tokenizer, **limits)
    separator = config.step_separator or DEFAULT_SEPARATOR
    steps = [i for i in items if isinstance(i, Solution)]
    return build_steps(steps, tokenizer, separator=separator, **limits)
