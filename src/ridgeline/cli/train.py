"""The commands named after stages: each runs a recipe of one stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ridgeline.cli.run import PROFILE, execute
from ridgeline.cli.settings import messages, output, print_json, settings_of
from ridgeline.objectives.presets import PRESETS

MODEL = typer.Option(
    "smollm2-135m-instruct",
    "--model",
    "-m",
    help="The model to start from: embedded name, run:stage, folder, GGUF file or hub id.",
)
OUT = typer.Option(None, "--out", "-o", help="The run folder; default: runs/<stage>-<model>.")
SET = typer.Option(
    [], "--set", metavar="KEY=VALUE", help="Any option of the stage, or seed, device, dtype; repeat for more."
)
REWARD = typer.Option(
    ..., "--reward", help="A built-in reward, module:function or file.py:function; repeat to add them up."
)
PROMPTS = typer.Option(..., "--prompts", "-p", help="Prompt rows: a file, a folder or a hub id.")
LEARNING_RATE = typer.Option(None, "--learning-rate", min=0.0, help="Peak learning rate of AdamW.")
LORA = typer.Option(
    None, "--lora", min=1, metavar="RANK", help="Train a LoRA adapter of this rank instead of every weight."
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("sft")(sft)
    app.command("reward-model")(reward_model)
    app.command("rl")(rl)
    app.command("collect")(collect)
    app.command("evaluate")(evaluate)


def sft(
    context: typer.Context,
    data: str = typer.Option(..., "--data", "-d", help="Instruction rows: a file, a folder or a hub id."),
    model: str = MODEL,
    out: Path | None = OUT,
    epochs: float | None = typer.Option(None, "--epochs", help="Passes over the data (1)."),
    learning_rate: float | None = LEARNING_RATE,
    lora: int | None = LORA,
    profile: bool = PROFILE,
    overrides: list[str] = SET,
) -> None:
    """Instruction tuning: next-token loss on what the assistant says.

    \b
    ridgeline sft --data demonstrations.jsonl --out runs/tuned --set rows_per_step=8 --set overlong=drop
    """
    options = {"data": data, "epochs": epochs, **learning(learning_rate, lora)}
    run_stage(context, "sft", model, options, overrides, out, profile=profile)


def reward_model(
    context: typer.Context,
    data: str = typer.Option(..., "--data", "-d", help="Preference rows: prompt, chosen, rejected."),
    model: str = MODEL,
    out: Path | None = OUT,
    backbone: str | None = typer.Option(
        None, "--backbone", help="frozen (only a head learns, the default) or full (the default with --lora)."
    ),
    layer: int | None = typer.Option(
        None, "--layer", help="Read the hidden state after this many layers; default: all."
    ),
    epochs: float | None = typer.Option(None, "--epochs", help="Passes over the pairs (1)."),
    learning_rate: float | None = LEARNING_RATE,
    lora: int | None = LORA,
    profile: bool = PROFILE,
    overrides: list[str] = SET,
) -> None:
    """Fit a reward model to preferences by Bradley-Terry maximum likelihood.

    \b
    ridgeline reward-model --model runs/tuned --data preferences.jsonl --set pooling=mean --out runs/judge
    """
    options = {
        "data": data,
        "backbone": backbone if backbone is not None or lora is None else "full",
        "layer": layer,
        "epochs": epochs,
        **learning(learning_rate, lora),
    }
    run_stage(context, "reward_model", model, options, overrides, out, profile=profile)


def rl(
    context: typer.Context,
    prompts: str = PROMPTS,
    reward: list[str] = REWARD,
    model: str = MODEL,
    out: Path | None = OUT,
    objective: str | None = typer.Option(
        None, "--objective", help=f"A preset; default: grpo. There are {', '.join(PRESETS)}."
    ),
    steps: int | None = typer.Option(None, "--steps", help="Rollouts (20)."),
    heldout: str | None = typer.Option(None, "--heldout", help="Prompts to evaluate on before and after."),
    kl: float | None = typer.Option(
        None, "--kl", min=0.0, help="KL coefficient to the starting model (the objective's own)."
    ),
    learning_rate: float | None = LEARNING_RATE,
    lora: int | None = LORA,
    profile: bool = PROFILE,
    overrides: list[str] = SET,
) -> None:
    """Policy optimisation: sample, score, move toward what scored better than expected.

    \b
    ridgeline rl --prompts topics.jsonl --reward sentiment_sentence --kl 0.05 --steps 12 --out runs/policy
    ridgeline rl --prompts topics.jsonl --reward my_rewards.py:shortness --set sampling.max_new_tokens=40
    """
    options: dict[str, Any] = {
        "prompts": prompts,
        "reward": anchored(reward),
        "objective": objective,
        "steps": steps,
        "heldout": heldout,
        "kl": None if kl is None else {"coefficient": kl},
        **learning(learning_rate, lora),
    }
    run_stage(context, "rl", model, options, overrides, out, profile=profile)


def collect(
    context: typer.Context,
    prompts: str = PROMPTS,
    gold: str = typer.Option(
        ..., "--reward", help="The gold reward of the simulated annotator (Bradley-Terry noise over it)."
    ),
    model: str = MODEL,
    out: Path | None = OUT,
    pairs: int | None = typer.Option(None, "--pairs", help="Pairs to label (1000)."),
    temperature: float | None = typer.Option(
        None, "--annotator-temperature", help="Noise of the annotator (0.3); larger is noisier."
    ),
    overrides: list[str] = SET,
) -> None:
    """Sample completions, pair them within a prompt and have a simulated annotator choose.

    \b
    ridgeline collect --model runs/tuned --prompts topics.jsonl --reward sentiment_sentence --pairs 500
    """
    annotator: dict[str, Any] = {"gold": anchored([gold])[0]}
    if temperature is not None:
        annotator["temperature"] = temperature
    options = {"prompts": prompts, "pairs": pairs, "annotator": annotator}
    run_stage(context, "collect", model, options, overrides, out)


def evaluate(
    context: typer.Context,
    models: list[str] = typer.Argument(
        ..., metavar="RUN_OR_MODEL...", help="A run folder (its base and every model it made) or models."
    ),
    prompts: str = PROMPTS,
    reward: list[str] = REWARD,
    out: Path | None = typer.Option(None, "--out", "-o", help="The run folder; default: runs/evaluate."),
    samples: int = typer.Option(4, "--samples", min=1, help="Completions per prompt."),
    overrides: list[str] = SET,
) -> None:
    """Compare models on the same prompts: rewards, KL, length, win rate, with intervals over prompts.

    The first model is the baseline of the win rate and the reference of the KL.

    \b
    ridgeline evaluate runs/quickstart --prompts heldout.jsonl --reward sentiment_sentence
    ridgeline evaluate runs/a:policy runs/b:policy --prompts heldout.jsonl --reward length --out runs/a-b
    """
    from ridgeline.cli.tables import print_outcome
    from ridgeline.workbench.evaluating import evaluate_models, evaluation_recipe
    from ridgeline.workbench.progress import observing

    settings = settings_of(context)
    plan = evaluation_recipe(
        models, prompts=prompts, rewards=anchored(reward), samples=samples, overrides=overrides
    )
    folder = out if out is not None else Path("runs") / "evaluate"
    with observing(messages(), plan.recipe, quiet=settings.quiet) as observer:
        outcome = evaluate_models(plan, folder, observer=observer)
    if settings.json:
        print_json(outcome.as_dict())
    else:
        print_outcome(output(), outcome, plan.recipe, quiet=settings.quiet)


def run_stage(
    context: typer.Context,
    kind: str,
    model: str,
    options: dict[str, Any],
    overrides: list[str],
    out: Path | None,
    *,
    profile: bool = False,
) -> None:
    """Run a recipe whose only stage is of type ``kind``; options that are None keep their defaults."""
    from ridgeline.workbench.single import single_stage

    recipe = single_stage(kind, model=model, options=options, overrides=overrides, name=run_name(out))
    execute(context, recipe, out, profile=profile)


def run_name(out: Path | None) -> str | None:
    """The name of a run in the folder ``out``; None where a recipe cannot bear it."""
    return out.name if out is not None and out.name[:1].isalnum() else None


def learning(learning_rate: float | None, lora: int | None) -> dict[str, Any]:
    """The options that every learning stage has; what is not named keeps the defaults of the stage."""
    return {
        "optimiser": None if learning_rate is None else {"learning_rate": learning_rate},
        "adapter": None if lora is None else {"rank": lora},
    }


def anchored(rewards: list[str]) -> list[str]:
    """Reward files relative to the working directory stay right when the run is resumed elsewhere."""
    resolved = []
    for reward in rewards:
        place, separator, function = reward.rpartition(":")
        is_file = separator and place.endswith(".py")
        resolved.append(f"{Path(place).expanduser().resolve()}:{function}" if is_file else reward)
    return resolved
