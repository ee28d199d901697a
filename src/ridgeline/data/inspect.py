"""Rows as the model will see them: coloured masks, lengths, what was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, Literal

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from ridgeline.data import formats, pairs, supervised
from ridgeline.data.chat import TrainOn, encode_completions, encode_prompts
from ridgeline.data.rankings import build_rankings, rankings
from ridgeline.data.sources import Source, describe, read_rows
from ridgeline.data.steps import build_steps, solutions
from ridgeline.models.batch import Row, completion_row

QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)
STYLES = {
    (True, False): "green",
    (True, True): "bold underline green",
    (False, False): "dim",
    (False, True): "dim underline",
}
"""By (trained, special token)."""


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring tokens of one kind, decoded together."""

    text: str
    tokens: int
    trained: bool
    special: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """One sequence: which row it is, and its tokens."""

    label: str
    runs: list[Run]

    @property
    def tokens(self) -> int:
        return sum(run.tokens for run in self.runs)

    @property
    def trained(self) -> int:
        return sum(run.tokens for run in self.runs if run.trained)


@dataclass(slots=True)
class Inspection:
    """What a source turns into.

    rows: in the source. sequences: kept (a preference makes two). lengths, trained: tokens of each of these.
    left_out: row number (from 1) and why. shown: the first few sequences.
    """

    source: str
    kind: formats.Kind
    rows: int
    max_length: int
    lengths: list[int] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    left_out: dict[int, str] = field(default_factory=dict)
    truncated: int = 0
    shown: list[Shown] = field(default_factory=list)

    def quantiles(self, values: Sequence[int]) -> dict[str, float]:
        """Minimum, median, 90 %, 99 % and maximum; empty for no values."""
        if not values:
            return {}
        return {f"{share:.0%}": float(np.quantile(values, share)) for share in QUANTILES}

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "source": self.source,
            "kind": self.kind,
            "rows": self.rows,
            "sequences": len(self.lengths),
            "max_length": self.max_length,
            "length": self.quantiles(self.lengths),
            "trained": self.quantiles(self.trained),
            "dropped": dict(Counter(self.left_out.values())),
            "truncated": self.truncated,
            "shown": [asdict(item) for item in self.shown],
        }


def inspect(
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    limit: int = 3,
    *,
    kind: formats.Kind | None = None,
    train_on: TrainOn = "assistant",
    max_length: int = 1024,
    overlong: Literal["error", "drop", "truncate"] = "drop",
) -> Inspection:
    """Read ``source`` the way a stage does and report it; the first ``limit`` kept rows are shown in full.

    ``kind`` None: by the columns of the first row. ``truncate`` applies to instructions only, and
    ``max_length`` to everything but prompts and unpaired completions.

    Raises:
        UsageError, DataError: as reading, normalising and encoding do.
    """
    name = describe(source)
    rows = read_rows(source)
    report = Inspection(name, kind or formats.detect(rows, name), len(rows), max_length)
    if report.kind == "instruction":
        data = supervised.build(
            formats.instructions(rows, name),
            tokenizer,
            train_on=train_on,
            max_length=max_length,
            overlong=overlong,
        )
        report.truncated, report.left_out = data.truncated, {i + 1: why for i, why in data.left_out.items()}
        labelled = [(f"row {i + 1}", row) for i, row in zip(data.source, data.rows, strict=True)]
    elif report.kind == "preference":
        labelled = _preferences(rows, tokenizer, report, "error" if overlong == "error" else "drop")
    elif report.kind in ("ranking", "steps"):
        labelled = _for_reward_models(rows, tokenizer, report, "error" if overlong == "error" else "drop")
    else:
        labelled = _plain(rows, tokenizer, report)
    report.lengths = [len(row) for _, row in labelled]
    report.trained = [len(row.targets) for _, row in labelled]
    count = 2 * limit if report.kind == "preference" else limit
    report.shown = [Shown(label, runs(tokenizer, row)) for label, row in labelled[:count]]
    return report


def _preferences(
    rows: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    report: Inspection,
    overlong: Literal["error", "drop"],
) -> list[tuple[str, Row]]:
    items = formats.preferences(rows, report.source)
    data = pairs.build_pairs(
        items, tokenizer, max_length=report.max_length, overlong=overlong, where=report.source
    )
    report.left_out = {index + 1: why for index, why in data.left_out.items()}
    return [
        (f"row {index + 1}, {side}", row)
        for index, unit in zip(data.source, data.units, strict=True)
        for side, row in zip(("chosen", "rejected"), unit, strict=True)
    ]


def _for_reward_models(
    rows: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    report: Inspection,
    overlong: Literal["error", "drop"],
) -> list[tuple[str, Row]]:
    """Rankings, a completion after the other; and solutions, of which the ends of the steps are trained."""
    limits: dict[str, Any] = {"max_length": report.max_length, "overlong": overlong, "where": report.source}
    if report.kind == "ranking":
        data = build_rankings(rankings(rows, report.source), tokenizer, **limits)
    else:
        given = [label for row in rows for label in row.get("labels") or [] if not isinstance(label, bool)]
        items = solutions(rows, report.source, classes=3 if -1 in given else 2)
        data = build_steps(items, tokenizer, **limits)
    report.left_out = {index + 1: why for index, why in data.left_out.items()}
    return [
        (f"row {index + 1}, {_said(row)}", row)
        for index, unit in zip(data.source, data.units, strict=True)
        for row in unit
    ]


def _said(row: Row) -> str:
    if "rank" in row.values:
        return f"rank {row.values['rank']:g}"
    return "labels " + ", ".join(f"{label:g}" for label in row.fields["label"])


def _plain(
    rows: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, report: Inspection
) -> list[tuple[str, Row]]:
    """Prompts (nothing is trained) and unpaired completions."""
    if report.kind == "prompt":
        asked = formats.prompts(rows, report.source)
        ids = encode_prompts(
            tokenizer, [item.messages for item in asked], where=[item.where for item in asked]
        )
        return [
            (f"row {i}, id {item.id}", completion_row(p, []))
            for i, (item, p) in enumerate(zip(asked, ids, strict=True), 1)
        ]
    single = formats.unpaired(rows, report.source)
    sides = encode_completions(
        tokenizer,
        [item.prompt for item in single],
        [item.completion for item in single],
        where=[item.where for item in single],
    )
    labels = ["desirable" if item.label else "undesirable" for item in single]
    return [
        (f"row {i}, {label}", completion_row(*side))
        for i, (label, side) in enumerate(zip(labels, sides, strict=True), 1)
    ]


def runs(tokenizer: PreTrainedTokenizerBase, row: Row) -> list[Run]:
    """The row's tokens, neighbours of one kind decoded together (one token may be half a character)."""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    targets = set(row.targets.tolist())
    tokens = [(int(token), place in targets, int(token) in special) for place, token in enumerate(row.ids)]
    result = []
    for (trained, is_special), group in groupby(tokens, key=lambda token: token[1:]):
        ids = [token[0] for token in group]
        text = tokenizer.decode(ids, skip_special_tokens=False)
        result.append(Run(str(text), len(ids), trained, is_special))
    return result


def render(report: Inspection, *, marks: bool = False) -> RenderableType:
    """The report for a terminal: trained tokens green, context dim, special tokens underlined.

    ``marks`` also puts trained tokens between ⟦ and ⟧, for output without colours.
    """
    parts: list[RenderableType] = [_summary(report)]
    for item in report.shown:
        heading = f"\n{item.label}: {item.tokens} tokens, {item.trained} trained"
        parts.append(Text(heading, style="bold"))
        parts.append(_tokens(item.runs, marks=marks))
    return Group(*parts)


def _summary(report: Inspection) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("source", Text(report.source))
    table.add_row("format", f"{report.kind}, {report.rows} rows, {len(report.lengths)} sequences kept")
    for name, values in (("length", report.lengths), ("trained", report.trained)):
        shares = (f"{share}: {value:g}" for share, value in report.quantiles(values).items())
        table.add_row(f"{name} (tokens)", "  ".join(shares))
    for why, count in Counter(report.left_out.values()).items():
        numbers = [str(number) for number, reason in report.left_out.items() if reason == why]
        more = ", ..." if count > 10 else ""
        table.add_row("dropped", f"{count} {why} (rows {', '.join(numbers[:10])}{more})")
    if report.truncated:
        table.add_row("truncated", f"{report.truncated} cut at {report.max_length} tokens")
    return table


def _tokens(shown: Sequence[Run], *, marks: bool) -> Text:
    text = Text()
    for run in shown:
        left, right = ("⟦", "⟧") if marks and run.trained else ("", "")
        text.append(left + _visible(run.text) + right, style=STYLES[run.trained, run.special])
    return text


def _visible(text: str) -> str:
    """Line ends are marked; control characters, which a terminal would obey, are spelled out."""
    spelled = (char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)
    return "".join(spelled).replace("\n", "↵\n")
