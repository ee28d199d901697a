"""The commands that learn from a model's own best, from a teacher, or from several models at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ridgeline.cli.run import PROFILE
from ridgeline.cli.settings import messages, output, print_json, settings_of
from ridgeline.cli.train import (
    LEARNING_RATE,
    LORA,
    MODEL,
    OUT,
    PROMPTS,
    REWARD,
    SET,
    anchored,
    learning,
    run_name,
    run_stage,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("reject")(reject)
    app.command("distill")(distill)
    app.command("merge")(merge)


def reject(
    context: typer.Context,
    prompts: str = PROMPTS,
    reward: list[str] = REWARD,
    model: str = MODEL,
    out: Path | None = OUT,
    heldout: str | None = typer.Option(
        None, "--heldout", help="Prompts on which the model and its control are compared."
    ),
    samples: int | None = typer.Option(None, "--samples", help="Completions to choose from per prompt (8)."),
    keep: int | None = typer.Option(None, "--keep", help="Completions to keep per prompt (1)."),
    rounds: int | None = typer.Option(None, "--rounds", help="Rounds of sampling and fine-tuning (1)."),
    epochs: float | None = typer.Option(None, "--epochs", help="Passes over what was kept, per round (1)."),
    learning_rate: float | None = LEARNING_RATE,
    lora: int | None = LORA,
    profile: bool = PROFILE,
    overrides: list[str] = SET,
) -> None:
    """Rejection sampling: sample, keep the completions with the best rewards, fine-tune on them.

    A second copy learns as long from completions chosen at random: only the difference to it tells what the
    reward did. Without it (--set control=false) no held-out prompts are needed.

    \b
    ridgeline reject --prompts topics.jsonl --heldout heldout.jsonl --reward sentiment_sentence --samples 8
    ridgeline reject --prompts topics.jsonl --reward length --set train=false --set preferences=best_worst
    """
    options = {
        "prompts": prompts,
        "reward": anchored(reward),
        "heldout": heldout,
        "samples_per_prompt": samples,
        "keep": keep,
        "repeat": rounds,
        "epochs": epochs,
        **learning(learning_rate, lora),
    }
    run_stage(context, "reject", model, options, overrides, out, profile=profile)


def distill(
    context: typer.Context,
    data: str = typer.Option(
        ..., "--data", "-d", help="Demonstrations, or prompts where a model writes: a file, folder or hub id."
    ),
    teacher: list[str] = typer.Option(
        [], "--teacher", "-t", help="A model with the student's vocabulary; repeat for several. Not for self."
    ),
    model: str = MODEL,
    out: Path | None = OUT,
    mode: str = typer.Option(
        "offline",
        "--mode",
        help="offline (given demonstrations), sequence (the teacher writes), on_policy (the student writes), "
        "policy_gradient, minillm, self (the student with a hint teaches).",
    ),
    divergence: str | None = typer.Option(
        None, "--divergence", help="forward_kl, reverse_kl, jsd or top_k; default: as the mode has it."
    ),
    heldout: str | None = typer.Option(None, "--heldout", help="Held-out rows (a tenth of the data)."),
    steps: int | None = typer.Option(None, "--steps", help="Batches (20)."),
    learning_rate: float | None = LEARNING_RATE,
    lora: int | None = LORA,
    profile: bool = PROFILE,
    overrides: list[str] = SET,
) -> None:
    """Distillation: bring a student's next-token distributions to those of a teacher.

    \b
    ridgeline distill --teacher runs/big:policy --data demonstrations.jsonl --steps 100 --out runs/small
    ridgeline distill --teacher runs/big --mode on_policy --data topics.jsonl --set rows_per_step=8
    ridgeline distill --mode self --data sums.jsonl --set privileged.hint=answer
    """
    from ridgeline.workbench.outside import portable

    options: dict[str, Any] = {
        "mode": mode,
        "teacher": [portable(name) for name in teacher] or None,
        "data": data,
        "heldout": heldout,
        "divergence": divergence,
        "steps": steps,
        **learning(learning_rate, lora),
    }
    run_stage(context, "distill", model, options, overrides, out, profile=profile)


def merge(
    context: typer.Context,
    models: list[str] = typer.Argument(
        ..., metavar="MODEL...", help="Models of one architecture; all but the weights comes from the first."
    ),
    out: Path | None = typer.Option(None, "--out", "-o", help="The run folder; default: runs/merge."),
    method: str = typer.Option("linear", "--method", help="linear, slerp, task_arithmetic, ties or dare."),
    weight: list[float] = typer.Option(
        [], "--weight", help="One a model, in their order (equal shares); not for ties."
    ),
    start: str | None = typer.Option(
        None, "--start", help="What the models were tuned from: for task_arithmetic, ties and dare."
    ),
    density: float | None = typer.Option(None, "--density", help="Share of changes that ties and dare keep."),
    prompts: str | None = typer.Option(
        None, "--prompts", "-p", help="Prompts on which the first model and the merged one are compared."
    ),
    reward: list[str] = typer.Option([], "--reward", help="What they are compared by; repeat for more."),
    overrides: list[str] = SET,
) -> None:
    """One model out of several, by arithmetic on their weights; nothing is trained.

    \b
    ridgeline merge runs/a:policy runs/b:policy --weight 0.7 --weight 0.3 --out runs/merged
    ridgeline merge runs/a runs/b --method ties --start runs/a:base --prompts heldout.jsonl --reward length
    """
    from ridgeline.cli.tables import print_outcome
    from ridgeline.workbench.merging import merge_models, merge_plan
    from ridgeline.workbench.progress import observing

    settings = settings_of(context)
    options = {
        "method": method,
        "weights": weight or None,
        "density": density,
        "heldout": prompts,
        "rewards": anchored(reward),
    }
    name = run_name(out)
    plan = merge_plan(models, start=start, options=options, overrides=overrides, name=name)
    folder = out if out is not None else Path("runs") / "merge"
    with observing(messages(), plan.recipe, quiet=settings.quiet) as observer:
        outcome = merge_models(plan, folder, observer=observer)
    if settings.json:
        print_json(outcome.as_dict())
    else:
        print_outcome(output(), outcome, plan.recipe, quiet=settings.quiet)
