"""What distillation reads: prompts, and where the rows have them, demonstrations that answer them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from ridgeline.data.chat import TrainOn
from ridgeline.data.formats import Instruction, PromptRow, detect, instructions, prompts
from ridgeline.data.sources import read_rows
from ridgeline.data.split import holdout
from ridgeline.data.supervised import build
from ridgeline.models.batch import Row
from ridgeline.schema.errors import DataError
from ridgeline.schema.stages.distill import DistillStage
from ridgeline.stages.context import StageContext

T = TypeVar("T")

CONVERSATIONS = ("messages", "conversations", "prompt", "instruction", "input")
"""Columns that say what the prompt is, and are replaced by it."""


@dataclass
class Texts:
    """Prompts, and as many demonstrations or none."""

    prompts: list[PromptRow] = field(default_factory=list)
    demonstrations: list[Row] = field(default_factory=list)


def load_texts(
    context: StageContext, config: DistillStage, tokenizer: PreTrainedTokenizerBase
) -> tuple[Texts, Texts]:
    """(to learn from, held out). Demonstrations to learn from are made only in modes that use them.

    Raises:
        DataError: no demonstrations where the mode needs them, and whatever reading and masking find.
    """
    context.observer.phase("preparing data")
    rows, answers = _parse(config.data)
    if config.needs_demonstrations and not answers:
        raise DataError(
            f"{config.data}: mode '{config.mode}' learns from demonstrations, and these rows are prompts; "
            "give rows with completions."
        )
    if isinstance(config.heldout, str):
        held_rows, held_answers = _parse(config.heldout)
    else:
        kept, held = holdout(
            range(len(rows)), config.heldout, lambda index: _first_words(rows[index]), context.seed
        )
        held_rows, held_answers = _at(rows, held), _at(answers, held)
        rows, answers = _at(rows, kept), _at(answers, kept)
    train = Texts(rows)
    if config.needs_demonstrations:
        train_on: TrainOn = "assistant" if config.mode == "offline" else "last"
        train = _with_demonstrations(context, config, tokenizer, rows, answers, train_on)
    heldout = Texts(held_rows)
    if held_answers:
        heldout = _with_demonstrations(context, config, tokenizer, held_rows, held_answers, "assistant")
    return train, heldout


def _parse(source: str) -> tuple[list[PromptRow], list[Instruction]]:
    """Prompts and their demonstrations; the latter are missing where the rows end with the user."""
    raw = read_rows(source)
    kind = detect(raw, source)
    if kind == "prompt":
        return prompts(raw, source), []
    if kind != "instruction":
        raise DataError(f"{source}: distillation reads demonstrations or prompts, and these are {kind} rows.")
    answers = instructions(raw, source)
    asked = [
        {
            **{name: value for name, value in row.items() if name not in CONVERSATIONS},
            "prompt": [{"role": turn.role, "content": turn.content} for turn in answer.messages[:-1]],
        }
        for row, answer in zip(raw, answers, strict=True)
    ]
    return prompts(asked, source), answers


def _with_demonstrations(
    context: StageContext,
    config: DistillStage,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[PromptRow],
    answers: Sequence[Instruction],
    train_on: TrainOn,
) -> Texts:
    data = build(
        answers, tokenizer, train_on=train_on, max_length=config.max_length, overlong=config.overlong
    )
    for reason, count in data.dropped.items():
        context.warn(f"{count} rows dropped: {reason}")
    if data.truncated:
        context.warn(f"{data.truncated} rows cut to {config.max_length} tokens")
    return Texts([rows[index] for index in data.source], data.rows)


def _at(items: Sequence[T], chosen: Sequence[int]) -> list[T]:
    return [items[index] for index in chosen] if items else []


def _first_words(row: PromptRow) -> str:
    """Rows with the same first user turn stay on one side of the split."""
    return next(message.content for message in row.messages if message.role == "user")
