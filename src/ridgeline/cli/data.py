"""``data inspect``."""

from __future__ import annotations

from typing import Any

import typer

from ridgeline.cli.settings import output, print_json, settings_of

KINDS = ("instruction", "prompt", "preference", "unpaired", "ranking", "steps")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(
        help="Look at data the way a stage reads it.", no_args_is_help=True, rich_markup_mode=None
    )
    group.callback()(_group)
    group.command("inspect")(inspect)
    app.add_typer(group, name="data")


def _group() -> None:
    """Look at data the way a stage reads it."""


def inspect(
    context: typer.Context,
    file: str = typer.Argument(
        ..., help="Rows: a file (.jsonl, .json, .csv, .parquet), a folder or a hub id."
    ),
    model: str = typer.Option(
        "smollm2-135m-instruct",
        "--model",
        "--tokenizer",
        "-m",
        help="Whose tokenizer and chat template to use.",
    ),
    limit: int = typer.Option(3, "--limit", "-n", min=0, help="Rows to show in full."),
    kind: str | None = typer.Option(
        None,
        "--kind",
        help=f"One of: {', '.join(KINDS)}; default: by the columns.",
    ),
    train_on: str = typer.Option(
        "assistant", "--train-on", help="Turns with loss: assistant (every one) or last."
    ),
    max_length: int = typer.Option(1024, "--max-length", min=2, help="Longest row, in tokens."),
    overlong: str = typer.Option("drop", "--overlong", help="Longer rows: error, drop or truncate."),
    chat_template: str | None = typer.Option(None, "--chat-template", help="chatml, or a Jinja file."),
    marks: bool = typer.Option(
        False, "--marks", help="Put trained tokens between ⟦ and ⟧ (without colours: always)."
    ),
) -> None:
    """Show rows as the model will see them: loss masks in colour, lengths, what is dropped and why.

    \b
    ridgeline data inspect demonstrations.jsonl
    ridgeline data inspect pairs.jsonl --kind preference --model runs/quickstart:sft --limit 1
    """
    options: dict[str, Any] = _checked(kind=kind, train_on=train_on, overlong=overlong)
    from ridgeline.data import inspect as inspection
    from ridgeline.data.chat import apply_template
    from ridgeline.models.load import load_tokenizer
    from ridgeline.workbench.names import resolve_model

    found = resolve_model(model)
    tokenizer = load_tokenizer(found.source)
    apply_template(tokenizer, chat_template or found.chat_template)
    report = inspection.inspect(file, tokenizer, limit, max_length=max_length, **options)
    if settings_of(context).json:
        print_json(report.as_dict())
    else:
        console = output()
        console.print(inspection.render(report, marks=marks or not console.is_terminal))


def _checked(**options: str | None) -> dict[str, Any]:
    """Raises UsageError: a word that is not among the choices."""
    from ridgeline.schema.errors import UsageError, nearest

    choices = {
        "kind": list(KINDS),
        "train_on": ["assistant", "last"],
        "overlong": ["error", "drop", "truncate"],
    }
    for name, value in options.items():
        if value is not None and value not in choices[name]:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} = '{value}' is not valid; {nearest(value, choices[name])}")
    return dict(options)
