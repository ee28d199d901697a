"""``generate`` and ``chat``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ridgeline.cli.settings import messages, output, print_json, settings_of

if TYPE_CHECKING:
    from ridgeline.schema.records import Message, Sample
    from ridgeline.schema.stages.common import Sampling

Model = Annotated[
    str,
    typer.Argument(
        help="runs/quickstart (its last model), runs/quickstart:sft, a model folder, a GGUF file, a hub id "
        "or smollm2-135m-instruct."
    ),
]
MaxNewTokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest completion, in tokens.")]
Temperature = Annotated[float, typer.Option("--temperature", "-t", min=0.0, help="0 is greedy decoding.")]
TopP = Annotated[
    float, typer.Option("--top-p", min=0.0, max=1.0, help="Keep the likeliest tokens of this total mass.")
]
TopK = Annotated[int, typer.Option("--top-k", min=0, help="Keep this many likeliest tokens; 0 keeps all.")]
MinP = Annotated[
    float,
    typer.Option(
        "--min-p", min=0.0, max=1.0, help="Keep tokens at least this share as likely as the likeliest."
    ),
]
Repetition = Annotated[
    float,
    typer.Option(
        "--repetition-penalty", help="Divides logits of tokens in prompt or completion; 1 changes nothing."
    ),
]
Presence = Annotated[
    float,
    typer.Option("--presence-penalty", help="Taken from logits of tokens that the completion has already."),
]
Frequency = Annotated[
    float, typer.Option("--frequency-penalty", help="Taken from them once for every time they are in it.")
]
BIAS = typer.Option(
    [], "--logit-bias", metavar="TOKEN=NUMBER", help="Added to the logit of a token, an id or text; repeat."
)
STOP = typer.Option([], "--stop", help="A text that ends the completion, which is cut before it; repeat.")
Seed = Annotated[int, typer.Option("--seed", min=0, help="Same seed, same completions.")]
Template = Annotated[
    str | None,
    typer.Option("--chat-template", help="chatml, or the path of a Jinja file; default: the model's."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("generate")(generate)
    app.command("chat")(chat)


def generate(
    context: typer.Context,
    model: Model,
    prompts: list[str] | None = typer.Argument(None, metavar="PROMPT...", help="What the user says."),
    file: str | None = typer.Option(
        None, "--prompts", "-p", help="Prompt rows: a file, a folder or a hub id."
    ),
    samples: int = typer.Option(1, "--samples", "-n", min=1, help="Completions per prompt."),
    out: Path | None = typer.Option(
        None, "--out", "-o", help="Write the samples here, one JSON object a line."
    ),
    reward: list[str] = typer.Option([], "--reward", help="Score completions; repeat to add rewards up."),
    max_new_tokens: MaxNewTokens = 128,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    min_p: MinP = 0.0,
    repetition_penalty: Repetition = 1.0,
    presence_penalty: Presence = 0.0,
    frequency_penalty: Frequency = 0.0,
    logit_bias: list[str] = BIAS,
    stop: list[str] = STOP,
    seed: Seed = 0,
    chat_template: Template = None,
) -> None:
    """Sample completions of prompts.

    \b
    ridgeline generate smollm2-135m-instruct "Write one sentence about the sea." --samples 4
    ridgeline generate runs/quickstart --prompts heldout.jsonl --reward sentiment_sentence --out samples.jsonl
    """
    from ridgeline.schema.errors import UsageError

    if bool(prompts) == bool(file):
        raise UsageError("give prompts either as arguments or as --prompts FILE.")
    how = _sampling(context.params)
    asked, rows = _prompt_rows(prompts, file)
    from ridgeline.workbench import sampling

    loaded = sampling.load(model, chat_template=chat_template)
    if (note := sampling.slower_sampler(loaded)) is not None and not settings_of(context).quiet:
        messages().print(note, markup=False)
    drawn = sampling.sample(loaded, asked, how, samples=samples, seed=seed, rows=rows)
    if reward:
        sampling.score(drawn, reward)
    if out is not None:
        _write(out, drawn)
    if settings_of(context).json:
        print_json([sample.as_dict() for sample in drawn])
    elif not settings_of(context).quiet and out is None:
        _print_samples(asked, drawn, samples)
    elif out is not None:
        output().print(f"{len(drawn)} completions in {out}", markup=False)


def chat(
    context: typer.Context,
    model: Model,
    max_new_tokens: MaxNewTokens = 128,
    temperature: Temperature = 0.7,
    top_p: TopP = 0.95,
    top_k: TopK = 0,
    min_p: MinP = 0.0,
    repetition_penalty: Repetition = 1.0,
    presence_penalty: Presence = 0.0,
    frequency_penalty: Frequency = 0.0,
    logit_bias: list[str] = BIAS,
    stop: list[str] = STOP,
    seed: Seed = 0,
    system: str | None = typer.Option(None, "--system", help="A system message to begin with."),
    chat_template: Template = None,
) -> None:
    """Talk to a model. /reset forgets the conversation, /quit or Ctrl-D leaves.

    \b
    ridgeline chat runs/quickstart
    ridgeline chat smollm2-135m-instruct --temperature 0
    """
    from ridgeline.schema.records import Message

    how = _sampling(context.params)
    from ridgeline.workbench import sampling

    loaded = sampling.load(model, chat_template=chat_template)
    start = [Message("system", system)] if system else []
    history: list[Message] = list(start)
    if (note := sampling.slower_sampler(loaded)) is not None:
        messages().print(note, markup=False)
    messages().print(f"{model}: /reset forgets, /quit or Ctrl-D leaves.", markup=False)
    while True:
        line = _read_line()
        if line is None or line == "/quit":
            return
        if line == "/reset":
            history = list(start)
            messages().print("(forgotten)", markup=False)
        elif line.startswith("/"):
            messages().print(f"unknown command {line}; there are /reset and /quit.", markup=False)
        elif line:
            history = _answer(loaded, [*history, Message("user", line)], how, seed + len(history))


def _answer(model: Any, history: list[Message], how: Sampling, seed: int) -> list[Message]:
    """Print the model's turn; the conversation with it, or without the last question when it did not fit."""
    from ridgeline.schema.errors import DataError
    from ridgeline.schema.records import Message
    from ridgeline.workbench import sampling

    try:
        answer = sampling.sample(model, [history], how, seed=seed)[0]
    except DataError as error:
        messages().print(f"{error} Use /reset.", markup=False)
        return history[:-1]
    output().print(answer.text + (" ..." if answer.truncated else ""), markup=False)
    return [*history, Message("assistant", answer.text or " ")]


def _read_line() -> str | None:
    try:
        return input("> ").strip()
    except EOFError:
        print()
        return None


def _sampling(given: Mapping[str, Any]) -> Sampling:
    """The settings of sampling among the options of a command: both are called the same."""
    from ridgeline.schema.config import validate
    from ridgeline.schema.stages.common import Sampling

    values = {name: given[name] for name in Sampling.model_fields}
    return validate(Sampling, values | {"logit_bias": _bias(values["logit_bias"])}, "sampling")


def _bias(given: Sequence[str]) -> dict[str, float]:
    """``["yes=2", "7=-100"]`` by token; the last = counts, as a token may have one too."""
    from ridgeline.schema.errors import UsageError

    bias = {}
    for text in given:
        token, _, number = text.rpartition("=")
        try:
            bias[token] = float(number)
        except ValueError:
            token = ""
        if not token:
            raise UsageError(f"--logit-bias {text}: write TOKEN=NUMBER, such as 42=-100.")
    return bias


def _prompt_rows(prompts: list[str] | None, file: str | None) -> tuple[list[Any], list[dict[str, Any]]]:
    from ridgeline.data import formats
    from ridgeline.data.sources import read_rows
    from ridgeline.schema.errors import UsageError

    if file is None:
        if not all(prompt.strip() for prompt in prompts or []):
            raise UsageError("a prompt is empty; write something between the quotes.")
        return list(prompts or []), [{} for _ in prompts or []]
    rows = formats.prompts(read_rows(file), file)
    return [row.messages for row in rows], [row.as_seen_by_rewards() for row in rows]


def _write(path: Path, drawn: list[Sample]) -> None:
    from ridgeline.schema.errors import UsageError

    try:
        path.write_text("".join(json.dumps(sample.as_dict()) + "\n" for sample in drawn), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}.") from None


def _print_samples(asked: list[Any], drawn: list[Sample], per_prompt: int) -> None:
    from rich.text import Text

    console = output()
    for number, prompt in enumerate(asked):
        if len(asked) > 1:
            shown = prompt if isinstance(prompt, str) else prompt[-1].content
            console.print(Text(f"> {shown}", style="dim"))
        for sample in drawn[number * per_prompt : (number + 1) * per_prompt]:
            scores = [f"{name} {value:.3f}" for name, value in sample.rewards.items() if value is not None]
            marks = [*(["cut at the limit"] if sample.truncated else []), *scores]
            console.print(Text(sample.text), Text(f"  [{', '.join(marks)}]" if marks else "", style="dim"))
