"""``score``: a file of completions, judged by a reward model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ridgeline.cli.settings import output, print_json, settings_of

if TYPE_CHECKING:
    from ridgeline.workbench.scoring import Scored


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("score")(score)


def score(
    context: typer.Context,
    model: str = typer.Argument(
        ..., help="A reward model: runs/quickstart:judge, a run folder (its last one) or a model folder."
    ),
    data: str = typer.Option(
        ...,
        "--data",
        "-d",
        help="Rows with completions of any format, or samples: a file, a folder or a hub id.",
    ),
    out: Path | None = typer.Option(
        None, "--out", "-o", help="Write the rows with their scores here, one JSON object a line."
    ),
    per: str = typer.Option("sequence", "--per", help="sequence, token or step (process models)."),
    aggregate: str | None = typer.Option(
        None,
        "--aggregate",
        help="How tokens or steps become one score: last, mean, min, product, mean_last_m, late, pooled; "
        "default: as the model was made.",
    ),
    last_m: int | None = typer.Option(None, "--last-m", help="Tokens or steps of mean_last_m."),
    head: str | None = typer.Option(
        None, "--head", help="One head of an ensemble, or of a model with heads_by; default: combined."
    ),
    column: str = typer.Option("score", "--column", help="What the score is called in the output."),
    chat_template: str | None = typer.Option(None, "--chat-template", help="chatml, or a Jinja file."),
) -> None:
    """Score completions with a reward model, in batches of like lengths.

    \b
    ridgeline score runs/quickstart:judge --data pairs.jsonl --out scored.jsonl
    ridgeline score runs/judge --data solutions.jsonl --per step --aggregate product --out scored.jsonl
    """
    from ridgeline.data.sources import read_rows
    from ridgeline.workbench.scored_rows import with_scores
    from ridgeline.workbench.scoring import load_judge

    rows = read_rows(data)
    judge = load_judge(model, chat_template=chat_template)
    options: dict[str, Any] = {"per": per, "aggregate": aggregate, "last_m": last_m, "head": head}
    scored = judge.score(rows, where=data, **options)
    merged = with_scores(rows, scored, column)
    if out is not None:
        _write(out, merged)
    settings = settings_of(context)
    if settings.json:
        print_json({"rows": len(rows), **_summary(scored)} if out is not None else merged)
        return
    if out is None and not settings.quiet:
        _print_rows(scored)
    told = ", ".join(
        f"{name} {value:.3f}" for name, value in _summary(scored).items() if name != "completions"
    )
    place = f" in {out}" if out is not None else ""
    output().print(f"{len(scored)} completions scored{place}: {told}", markup=False)


def _summary(scored: Sequence[Scored]) -> dict[str, float]:
    """Counts and moments, and for pairs how often chosen is above rejected (ties half)."""
    values = [each.score for each in scored]
    summary: dict[str, float] = {
        "completions": len(values),
        "mean": sum(values) / len(values),
        "lowest": min(values),
        "highest": max(values),
    }
    chosen = [each.score for each in scored if each.part == "chosen"]
    rejected = [each.score for each in scored if each.part == "rejected"]
    if chosen:
        wins = [(a > b) + 0.5 * (a == b) for a, b in zip(chosen, rejected, strict=True)]
        summary["chosen above rejected"] = sum(wins) / len(wins)
    return summary


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    from ridgeline.schema.errors import UsageError

    try:
        text = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}.") from None


def _print_rows(scored: Sequence[Scored]) -> None:
    from rich.text import Text

    console = output()
    for each in scored:
        spread = f" ± {each.spread:.3f}" if each.spread is not None else ""
        line = Text(f"row {each.row}, {each.part}: {each.score:.3f}{spread}")
        for piece in each.pieces:
            line.append("\n  ")
            line.append(f"{piece.score:8.3f}  ", style="bold")
            line.append(_visible(piece.text))
        console.print(line)


def _visible(text: str) -> str:
    """Control characters, which a terminal would obey, are spelled out."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
