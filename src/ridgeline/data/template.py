"""Chat templates: install one, render conversations with it, find out how it ends a turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError, TemplateSyntaxError
from transformers import PreTrainedTokenizerBase

from ridgeline.schema.errors import DataError, UsageError
from ridgeline.schema.records import Message

TEMPLATES = Path(__file__).parent / "templates"

PROBE_QUESTION = "Where does the path lead?"
PROBE_ANSWER = "Along the ridgeline."


def apply_template(tokenizer: PreTrainedTokenizerBase, template: str | None) -> None:
    """Install ``template`` on ``tokenizer``, which is saved with it.

    ``chatml`` is built in (it adds no system message of its own); anything else is the path of a Jinja file;
    None keeps the tokenizer's own. Where the vocabulary lacks ``<|im_end|>``, chatml ends turns with the
    tokenizer's end-of-sequence token, which the model knows, and spells its headers in ordinary tokens.

    Raises:
        UsageError: no such template, bad Jinja, or None for a tokenizer that has no template.
    """
    if template is None:
        _require_template(tokenizer)
    elif template == "chatml":
        tokenizer.chat_template = _chatml(tokenizer)
    else:
        _install_file(tokenizer, Path(template).expanduser())


def _require_template(tokenizer: PreTrainedTokenizerBase) -> None:
    if tokenizer.chat_template is None:
        raise UsageError(
            'the tokenizer has no chat template; give one: chat_template = "chatml", '
            "or the path of a Jinja file."
        )


def _chatml(tokenizer: PreTrainedTokenizerBase) -> str:
    text = (TEMPLATES / "chatml.jinja").read_text(encoding="utf-8")
    if "<|im_end|>" in tokenizer.get_vocab():
        return text
    if tokenizer.eos_token is None:
        raise UsageError(
            "chat_template = 'chatml' needs <|im_end|> or an end-of-sequence token, "
            "and the tokenizer has neither; set tokenizer.eos_token and save it again."
        )
    return text.replace("'<|im_end|>'", "eos_token")


def _install_file(tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f'cannot read the chat template {path}: {reason}; use chat_template = "chatml", '
            "or the path of a Jinja file."
        ) from None
    before, tokenizer.chat_template = tokenizer.chat_template, text
    try:
        probe_messages(tokenizer)
    except TemplateSyntaxError as error:
        tokenizer.chat_template = before
        place = f"{path}, line {error.lineno}"
        raise UsageError(f"the chat template {place}: not valid Jinja: {error.message}") from None


def render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, header: bool = False, where: str = ""
) -> str:
    """``messages`` as the text the model reads; ``header`` adds the beginning of the assistant's next turn.

    Raises:
        UsageError: the tokenizer has no chat template.
        DataError: the template refuses this conversation; ``where`` names file and row.
    """
    _require_template(tokenizer)
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=header)
    except TemplateSyntaxError:
        raise
    except TemplateError as error:
        raise DataError(f"{where or 'a conversation'}: the chat template refuses it: {error}.") from None
    assert isinstance(text, str)
    return text


@dataclass(frozen=True, slots=True)
class EndOfTurn:
    """What a template writes after the content of an assistant turn.

    ``token`` is the end-of-turn token's text and ``id`` its id; ``after`` is the text behind it, usually a
    newline, which belongs to the next turn.
    """

    id: int
    token: str
    after: str


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> EndOfTurn:
    """How the tokenizer's template ends an assistant turn, found out by rendering one.

    Raises:
        UsageError: no special token there, so a model could never learn to stop.
    """
    text = render(tokenizer, probe_messages(tokenizer))
    tail = text[text.rfind(PROBE_ANSWER) + len(PROBE_ANSWER) :]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    for token_id in tokenizer(tail, add_special_tokens=False)["input_ids"]:
        if token_id in special:
            token = str(tokenizer.convert_ids_to_tokens(token_id))
            return EndOfTurn(token_id, token, tail[tail.index(token) + len(token) :])
    raise UsageError(
        "the chat template ends the assistant's turn with no special token, so the model could never "
        'learn to stop; use chat_template = "chatml", or a template that writes eos_token after the content.'
    )


def probe_messages(tokenizer: PreTrainedTokenizerBase) -> list[Message]:
    """A question and its answer, behind a system message where the template insists on one."""
    talk = [Message("user", PROBE_QUESTION), Message("assistant", PROBE_ANSWER)]
    try:
        render(tokenizer, talk)
    except DataError:
        return [Message("system", "Be brief."), *talk]
    return talk
