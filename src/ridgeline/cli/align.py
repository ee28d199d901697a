"""The commands of direct alignment: ``preference`` and ``unpaired``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ridgeline.cli.run import PROFILE
from ridgeline.cli.train import LEARNING_RATE, LORA, MODEL, OUT, SET, anchored, learning, run_stage
from ridgeline.objectives.pair_axes import PAIR_PRESETS, UNPAIRED_LOSSES
from ridgeline.schema.errors import UsageError

BETA = typer.Option(
    None, "--beta", help="How dear the distance to the reference is (the objective's own); larger stays near."
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("preference")(preference)
    app.command("unpaired")(unpaired)


def preference(
    context: typer.Context,
    data: str | None = typer.Option(
        None, "--data", "-d", help="Preference rows: prompt, chosen, rejected; file, folder or hub id."
    ),
    model: str = MODEL,
    out: Path | None = OUT,
    objective: str | None = typer.Option(
        None, "--objective", help=f"A preset; default: dpo. There are {', '.join(PAIR_PRESETS)}."
    ),
    beta: float | None = BETA,
    epochs: float | None = typer.Option(None, "--epochs", help="Passes over the pairs (1)."),
    heldout: str | None = typer.Option(
        None, "--heldout", help="Held-out pairs (a tenth of the prompts); with --online: prompts."
    ),
    online: str | None = typer.Option(
        None, "--online", metavar="METHOD", help="Make the pairs on the way instead: dpo, nash_md or xpo."
    ),
    prompts: str | None = typer.Option(None, "--prompts", "-p", help="With --online: prompt rows."),
    reward: list[str] = typer.Option([], "--reward", help="With --online: who judges; repeat for a sum."),
    steps: int | None = typer.Option(None, "--steps", help="With --online: sample, judge, learn (20)."),
    learning_rate: float | None = LEARNING_RATE,
    lora: int | None = LORA,
    profile: bool = PROFILE,
    overrides: list[str] = SET,
) -> None:
    """Direct alignment: raise what was chosen over what was rejected, without a reward model in the loop.

    \b
    ridgeline preference --data preferences.jsonl --objective dpo --beta 0.1 --lora 16 --out runs/aligned
    ridgeline preference --online dpo --prompts topics.jsonl --reward sentiment_sentence --steps 20
    """
    options: dict[str, Any] = {
        "objective": with_beta(objective, beta, "dpo"),
        **learning(learning_rate, lora),
    }
    if online is None:
        _refuse_without_online({"--prompts": prompts, "--reward": reward, "--steps": steps})
        if data is None:
            raise UsageError("there is nothing to learn from; give --data, or --online with --prompts.")
        options |= {"data": data, "epochs": epochs, "heldout": heldout}
    else:
        if data is not None or epochs is not None:
            name = "--data" if data is not None else "--epochs"
            raise UsageError(f"{name} means nothing to --online, which makes its pairs; drop one of the two.")
        made = {"method": online, "prompts": prompts, "heldout": heldout, "steps": steps}
        given = {key: value for key, value in made.items() if value is not None}
        options["online"] = {**given, "reward": anchored(reward)}
    run_stage(context, "preference", model, options, overrides, out, profile=profile)


def unpaired(
    context: typer.Context,
    data: str = typer.Option(
        ...,
        "--data",
        "-d",
        help="Rows of prompt, completion, label (true: liked): file, folder or hub id.",
    ),
    model: str = MODEL,
    out: Path | None = OUT,
    objective: str | None = typer.Option(
        None, "--objective", help=f"A preset; default: kto. There are {', '.join(UNPAIRED_LOSSES)}."
    ),
    beta: float | None = BETA,
    epochs: float | None = typer.Option(None, "--epochs", help="Passes over the rows (1)."),
    learning_rate: float | None = LEARNING_RATE,
    lora: int | None = LORA,
    profile: bool = PROFILE,
    overrides: list[str] = SET,
) -> None:
    """Alignment on single completions that people liked or did not; no pairs needed.

    \b
    ridgeline unpaired --data thumbs.jsonl --objective kto --lora 16 --out runs/aligned
    """
    options = {
        "data": data,
        "objective": with_beta(objective, beta, "kto"),
        "epochs": epochs,
        **learning(learning_rate, lora),
    }
    run_stage(context, "unpaired", model, options, overrides, out, profile=profile)


def with_beta(objective: str | None, beta: float | None, default: str) -> str | dict[str, Any] | None:
    """What the recipe calls the objective: a preset, or with its own beta a table."""
    return objective if beta is None else {"preset": objective or default, "beta": beta}


def _refuse_without_online(given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value not in (None, []):
            raise UsageError(f"{name} belongs to pairs that are made on the way; add --online dpo.")
