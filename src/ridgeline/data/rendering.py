"""Conversations as rendered text with the characters that are trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

from transformers import PreTrainedTokenizerBase

from ridgeline.data.plain_template import is_plain
from ridgeline.data.template import EndOfTurn, end_of_turn, render
from ridgeline.schema.errors import DataError, RidgelineError, UsageError
from ridgeline.schema.records import Message, Role

TrainOn = Literal["assistant", "last"]
MARK = "\ue000{}\ue001"
MARKED = re.compile("\ue000([0-9]+)\ue001")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered conversation and the characters of its trained turns, end-of-turn token included."""

    text: str
    spans: list[tuple[int, int]]
    where: str = ""

    @property
    def cuts(self) -> list[int]:
        """Ends of headers and of turns, in turn."""
        return [cut for span in self.spans for cut in span]

    def pieces(self) -> list[str]:
        return [self.text[first:last] for first, last in pairwise([0, *self.cuts])]


@dataclass(frozen=True, slots=True)
class Outline:
    """What a plain template writes for a sequence of roles: pieces between cuts, contents left open."""

    pieces: list[tuple[str, list[int]]]
    """A format for ``%`` and the numbers of the messages whose contents fill it."""

    @classmethod
    def of(cls, rendered: Rendered) -> Outline:
        """From a conversation whose contents are marks."""
        return cls(
            [
                (MARKED.sub("%s", piece.replace("%", "%%")), [int(found) for found in MARKED.findall(piece)])
                for piece in rendered.pieces()
            ]
        )

    def fill(self, messages: Sequence[Message], where: str) -> Rendered:
        pieces = [form % tuple([messages[number].content for number in order]) for form, order in self.pieces]
        ends = list(accumulate(map(len, pieces)))
        return Rendered("".join(pieces), list(zip(ends[::2], ends[1::2], strict=True)), where)


class Renderer:
    """Renders many conversations with one tokenizer's template.

    A plain template is rendered once for each sequence of roles; any other one for each conversation, and a
    prompt that several conversations in a row begin with only once.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        template = tokenizer.chat_template
        own = type(tokenizer).apply_chat_template is PreTrainedTokenizerBase.apply_chat_template
        self.plain = isinstance(template, str) and own and "\ue000" not in template and is_plain(template)
        self.outlines: dict[tuple[object, ...], Outline | None] = {}
        self.end: EndOfTurn | None = None
        self.prompt: tuple[Sequence[Message], str] = ([], "")

    def with_header(self, messages: Sequence[Message], where: str = "") -> str:
        """What a sampler continues; see ``template.render``."""
        key = ("header", *(message.role for message in messages))
        if self.plain and key not in self.outlines:
            self.outlines[key] = self._outline_of_prompt(messages)
        outline = self.outlines.get(key)
        if outline is None:
            return render(self.tokenizer, messages, header=True, where=where)
        return outline.fill(messages, where).text

    def whole(self, messages: Sequence[Message], train_on: TrainOn, where: str = "") -> Rendered:
        """Up to the last trained token.

        Raises:
            UsageError: the template rewrites earlier turns or ends none.
            DataError: nothing to train on, or the template refuses the conversation.
        """
        key = (train_on, *(message.role for message in messages))
        if self.plain and key not in self.outlines:
            self.outlines[key] = self._outline(messages, train_on)
        outline = self.outlines.get(key)
        if outline is None:
            return self._render(messages, train_on, where)
        return outline.fill(messages, where)

    def without_end(self, rendered: Rendered) -> Rendered:
        """The same, cut where its last turn would have ended."""
        first, last = rendered.spans[-1]
        last -= len(self.end_of_turn.token)
        return Rendered(rendered.text[:last], [*rendered.spans[:-1], (first, last)], rendered.where)

    @property
    def end_of_turn(self) -> EndOfTurn:
        if self.end is None:
            self.end = end_of_turn(self.tokenizer)
        return self.end

    def _outline(self, messages: Sequence[Message], train_on: TrainOn) -> Outline | None:
        try:
            return Outline.of(self._render(_marks([message.role for message in messages]), train_on, ""))
        except RidgelineError:
            return None  # the conversation itself says what is wrong, by its own name

    def _outline_of_prompt(self, messages: Sequence[Message]) -> Outline | None:
        try:
            text = render(self.tokenizer, _marks([message.role for message in messages]), header=True)
        except RidgelineError:
            return None
        return Outline.of(Rendered(text, [(len(text), len(text))]))

    def _render(self, messages: Sequence[Message], train_on: TrainOn, where: str) -> Rendered:
        turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
        if not turns:
            raise DataError(f"{at(where)}there is no assistant turn to train on.")
        end = self.end_of_turn
        text = render(self.tokenizer, messages, where=where)
        spans = []
        for index in turns if train_on == "assistant" else turns[-1:]:
            header = self._header(messages[:index], where)
            upto = text
            if index + 1 < len(messages):
                upto = render(self.tokenizer, messages[: index + 1], where=where)
            ending = end.token + end.after
            if not (text.startswith(upto) and upto.startswith(header) and upto.endswith(ending)):
                raise UsageError(_not_preserving(where, index + 1))
            spans.append((len(header), len(upto) - len(end.after)))
        return Rendered(text[: spans[-1][1]], spans, where)

    def _header(self, messages: Sequence[Message], where: str) -> str:
        if self.prompt[0] != messages:
            self.prompt = (messages, render(self.tokenizer, messages, header=True, where=where))
        return self.prompt[1]


def _marks(roles: Sequence[Role]) -> list[Message]:
    return [Message(role, MARK.format(number)) for number, role in enumerate(roles)]


def _not_preserving(where: str, number: int) -> str:
    return (
        f"{at(where)}the chat template renders message {number} differently once later messages follow, "
        'so its loss mask has no definite place; use train_on = "last", or chat_template = "chatml".'
    )


def at(where: str) -> str:
    """The beginning of a sentence about a place in a file."""
    return f"{where}: " if where else ""
