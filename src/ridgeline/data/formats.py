"""The row formats of the field, normalised to typed kinds: instruction, prompt, preference, unpaired.

Rankings, outcomes and steps, which only reward models read, have modules of their own.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ridgeline.data.bulk import in_bulk
from ridgeline.data.columns import choose_form, flag, present
from ridgeline.data.messages import check_turns, parse_messages, text_of
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Message, Preference

Kind = Literal["instruction", "prompt", "preference", "unpaired", "ranking", "steps"]
DataRow = Mapping[str, Any]

INSTRUCTION_FORMS = (
    ("messages",),
    ("conversations",),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
)
PROMPT_FORMS = (("prompt",), ("messages",), ("conversations",), ("instruction",))
PREFERENCE_FORMS = (("prompt", "chosen", "rejected"), ("chosen", "rejected"))
UNPAIRED_FORMS = (("prompt", "completion", "label"),)


@dataclass(frozen=True, slots=True)
class Instruction:
    """A conversation that ends with the assistant; ``where`` names file and row for messages.

    ``weight`` multiplies the loss of the row.
    """

    messages: list[Message]
    where: str = ""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A conversation that ends with the user, and the other columns of its row (rewards read them)."""

    messages: list[Message]
    id: str
    row: dict[str, Any] = field(default_factory=dict)
    where: str = ""

    def as_seen_by_rewards(self) -> dict[str, Any]:
        """What rewards and reports find in ``sample.row``: the other columns, and the question as ``prompt``.

        A single turn of the user is its text; any other conversation the list of its messages, ``role`` and
        ``content``. A further column of the data that is called ``prompt`` stays what it is.
        """
        only = self.messages[0]
        single = len(self.messages) == 1 and only.role == "user"
        asked: Any = only.content if single else [asdict(message) for message in self.messages]
        return {"prompt": asked, **self.row}


@dataclass(frozen=True, slots=True)
class Unpaired:
    """One completion and whether it is desirable; ``stopped``: it ended by itself."""

    prompt: list[Message]
    completion: str
    label: bool
    where: str = ""
    stopped: bool = True


@in_bulk
def instructions(rows: Iterable[DataRow], where: str) -> list[Instruction]:
    """Demonstrations; ``where`` is how messages call the source.

    Accepts ``messages``; ShareGPT ``conversations``; ``prompt`` (text or messages) with ``completion`` or
    ``response``; ``instruction`` (with ``input``) with ``output`` or ``response``.

    Raises:
        DataError: missing column, wrong type, wrong order of turns, empty completion.
    """
    return [_instruction(row, f"{where}, row {number}") for number, row in enumerate(rows, start=1)]


def prompts(rows: Sequence[DataRow], where: str) -> list[PromptRow]:
    """Prompts: ``prompt`` (text or messages), ``messages`` that end with the user, or ``instruction``.

    The id is the row's own ``id``, else a hash of the messages; a repeated prompt gets ``-2``, ``-3``, ...

    Raises:
        DataError: as ``instructions``, and an ``id`` that two rows share.
    """
    seen: dict[str, int] = {}
    result = []
    for number, row in enumerate(rows, start=1):
        place = f"{where}, row {number}"
        form = choose_form(row, PROMPT_FORMS, place)
        messages = prompt_messages(row, form[0], place)
        own = row.get("id")
        own = None if own == "" else own
        identity = prompt_id(messages) if own is None else str(own)
        seen[identity] = count = seen.get(identity, 0) + 1
        if count > 1 and own is not None:
            raise DataError(f"{place}, id: '{identity}' is taken by an earlier row; ids are unique.")
        used = {*form, "id", "input"} if form[0] == "instruction" else {*form, "id"}
        extra = {key: value for key, value in row.items() if key not in used}
        result.append(PromptRow(messages, identity if count == 1 else f"{identity}-{count}", extra, place))
    return result


@in_bulk
def preferences(rows: Iterable[DataRow], where: str) -> list[Preference]:
    """Pairs: ``prompt``, ``chosen``, ``rejected`` as text or messages.

    Without ``prompt``, ``chosen`` and ``rejected`` are conversations that differ in their last turn only.
    The remaining fields of ``Preference`` are read where present.

    Raises:
        DataError: as ``instructions``, and sides that do not share their prompt.
    """
    return [_preference(row, f"{where}, row {number}") for number, row in enumerate(rows, start=1)]


@in_bulk
def unpaired(rows: Sequence[DataRow], where: str) -> list[Unpaired]:
    """Single completions: ``prompt``, ``completion``, ``label`` (true: desirable), perhaps ``stopped``.

    Raises:
        DataError: as ``instructions``, and a label that is neither true nor false.
    """
    result = []
    for number, row in enumerate(rows, start=1):
        place = f"{where}, row {number}"
        choose_form(row, UNPAIRED_FORMS, place)
        prompt = prompt_messages(row, "prompt", place)
        completion = completion_text(row["completion"], f"{place}, completion")
        label = flag(row["label"], f"{place}, label")
        given = row.get("stopped")
        stopped = True if given in (None, "") else flag(given, f"{place}, stopped")
        result.append(Unpaired(prompt, completion, label, place, stopped))
    return result


def detect(rows: Sequence[DataRow], where: str = "the data") -> Kind:
    """The kind of the first row, by its columns; a conversation that ends with the user is a prompt."""
    row = rows[0]
    columns = present(row)
    if {"chosen", "rejected"} & columns:
        return "preference"
    if "completions" in columns and {"ranks", "scores"} & columns:
        return "ranking"
    if {"steps", "labels"} <= columns:
        return "steps"
    if "label" in columns and "completion" in columns:
        return "unpaired"
    if any(set(form) <= columns for form in INSTRUCTION_FORMS[2:]):
        return "instruction"
    for name in ("messages", "conversations"):
        if name in columns:
            last = parse_messages(row[name], f"{where}, row 1, {name}")[-1]
            return "instruction" if last.role == "assistant" else "prompt"
    return "prompt" if {"prompt", "instruction"} & columns else "instruction"


def prompt_id(messages: Sequence[Message]) -> str:
    """16 hexadecimal digits that depend on the messages only."""
    content = json.dumps([[message.role, message.content] for message in messages])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _instruction(row: DataRow, where: str) -> Instruction:
    form = choose_form(row, INSTRUCTION_FORMS, where)
    weight = _weight(row, where)
    if len(form) == 1:
        messages = parse_messages(row[form[0]], f"{where}, {form[0]}")
        check_turns(messages, f"{where}, {form[0]}", last="assistant")
        return Instruction(messages, where, weight)
    prompt = prompt_messages(row, form[0], where)
    answer = row[form[1]]
    if isinstance(answer, str):
        tail = [Message("assistant", text_of(answer, f"{where}, {form[1]}"))]
    else:
        tail = parse_messages(answer, f"{where}, {form[1]}")
    check_turns([*prompt, *tail], f"{where}, {form[0]} and {form[1]}", last="assistant")
    return Instruction([*prompt, *tail], where, weight)


def _weight(row: DataRow, where: str) -> float:
    if row.get("weight") in (None, ""):
        return 1.0
    weight = number_of(row["weight"], f"{where}, weight")
    if not 0 <= weight < math.inf:
        raise DataError(f"{where}, weight: {weight:g} must be a finite number of at least 0.")
    return weight


def prompt_messages(row: DataRow, column: str, where: str) -> list[Message]:
    """The conversation in ``column`` that ends with the user; a text is one turn of the user."""
    value = row[column]
    place = f"{where}, {column}"
    if isinstance(value, str):
        text = text_of(value, place)
        extra = row.get("input") if column == "instruction" else None
        if extra:
            text = f"{text}\n\n{text_of(extra, f'{where}, input')}"
        return [Message("user", text)]
    messages = parse_messages(value, place)
    check_turns(messages, place, last="user")
    return messages


def completion_text(value: Any, where: str) -> str:
    """A completion given as text or as one message of the assistant."""
    if isinstance(value, str):
        return text_of(value, where)
    return _only_answer(parse_messages(value, where), where)


def _only_answer(messages: Sequence[Message], where: str) -> str:
    if len(messages) != 1 or messages[0].role != "assistant":
        raise DataError(f"{where}: expected text or exactly one message of the assistant.")
    return messages[0].content


def _preference(row: DataRow, where: str) -> Preference:
    form = choose_form(row, PREFERENCE_FORMS, where)
    prompt = prompt_messages(row, "prompt", where) if "prompt" in form else None
    sides: list[str] = []
    for name in ("chosen", "rejected"):
        own, completion = _side(row[name], f"{where}, {name}", explicit=prompt is not None)
        if own is not None and prompt is not None and own[-1] != prompt[-1]:
            raise DataError(f"{where}, {name}: it answers another prompt than the rest of the row.")
        if own is not None and prompt is not None and len(sides) == 1 and own != prompt:
            raise DataError(f"{where}, {name}: chosen and rejected may differ in their last turn only.")
        prompt = prompt if own is None else own
        sides.append(completion)
    assert prompt is not None
    return Preference(prompt, sides[0], sides[1], **_annotation(row, where))


def _side(value: Any, where: str, *, explicit: bool) -> tuple[list[Message] | None, str]:
    """The side's own prompt, where it is a whole conversation, and its completion."""
    if isinstance(value, str):
        if not explicit:
            raise DataError(f"{where}: it is text, so the row needs a column 'prompt'.")
        return None, text_of(value, where)
    messages = parse_messages(value, where)
    if len(messages) == 1 and explicit:
        return None, _only_answer(messages, where)
    check_turns(messages, where, last="assistant")
    return messages[:-1], messages[-1].content


def _annotation(row: DataRow, where: str) -> dict[str, Any]:
    """The optional fields of a preference."""
    values: dict[str, Any] = {"annotator": str(row.get("annotator") or "unknown")}
    if row.get("prompt_id"):
        values["prompt_id"] = str(row["prompt_id"])
    if row.get("first_shown"):
        if row["first_shown"] not in ("chosen", "rejected"):
            raise DataError(
                f"{where}, first_shown: expected 'chosen' or 'rejected', got {row['first_shown']!r}."
            )
        values["first_shown"] = row["first_shown"]
    if row.get("scores"):
        values["scores"] = _scores(row["scores"], f"{where}, scores")
    if row.get("label") not in (None, ""):
        label = number_of(row["label"], f"{where}, label")
        if not 0 <= label <= 1:
            raise DataError(f"{where}, label: {label:g} is no probability; 1 is sure, 0.5 is a tie.")
        values["label"] = label
    if row.get("margin") not in (None, ""):
        values["margin"] = number_of(row["margin"], f"{where}, margin")
    if row.get("gold") not in (None, ""):
        values["gold"] = text_of(row["gold"], f"{where}, gold")
    for name in ("chosen_stopped", "rejected_stopped"):
        if row.get(name) not in (None, ""):
            values[name] = flag(row[name], f"{where}, {name}")
    return values


def number_of(value: Any, where: str) -> float:
    """A finite number as people store it, also as text (CSV has nothing else)."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise DataError(f"{where}: expected a number, got {value!r}.") from None
    if not math.isfinite(number):
        raise DataError(f"{where}: {value!r} is not a finite number.")
    return number


def _scores(value: Any, where: str) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: expected an object of numbers, got {type(value).__name__}.")
    scores = {}
    for name, score in value.items():
        # Parquet gives every row the union of the names, null where a row has none.
        if score is None:
            continue
        if not isinstance(score, int | float):
            raise DataError(f"{where}, {name}: expected a number, got {type(score).__name__}.")
        scores[str(name)] = float(score)
    return scores
