"""Conversations from the shapes people store them in, checked turn by turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ridgeline.schema.errors import DataError, nearest
from ridgeline.schema.records import Message, Role

ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
SHAREGPT: dict[str, Role] = {
    **ROLES,
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}


def text_of(value: Any, where: str, *, required: bool = True) -> str:
    """``value`` as text; ``where`` names file, row and field.

    Raises:
        DataError: no text, empty where ``required``, or half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise DataError(f"{where}: expected text, got {type(value).__name__}.")
    if required and not value.strip():
        raise DataError(f"{where}: it is empty; write something or remove the row.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(
            f"{where}: it holds half of a surrogate pair, which is not text; mend the escape."
        ) from None
    return value


def parse_messages(value: Any, where: str) -> list[Message]:
    """A list of ``{"role", "content"}`` or ShareGPT's ``{"from", "value"}``; the order is not checked.

    Raises:
        DataError: not a list of such objects, unknown role, empty content (a system message may be empty).
    """
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise DataError(f"{where}: expected a list of messages such as {{'role': 'user', 'content': '...'}}.")
    return [_message(item, f"{where}, message {number}") for number, item in enumerate(value, start=1)]


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, Mapping):
        raise DataError(f"{where}: expected an object with role and content, got {type(item).__name__}.")
    sharegpt = "from" in item
    role_key, content_key, roles = ("from", "value", SHAREGPT) if sharegpt else ("role", "content", ROLES)
    for key in (role_key, content_key):
        if key not in item:
            raise DataError(f"{where}: '{key}' is missing; its keys are {', '.join(map(str, item))}.")
    if item.get("tool_calls"):
        raise DataError(f"{where}: tool_calls are not supported here; write the call into the content.")
    role = str(item[role_key])
    if role not in roles:
        raise DataError(f"{where}: unknown role '{role}'; {nearest(role, roles)}")
    content = text_of(item[content_key], f"{where}, {content_key}", required=roles[role] != "system")
    return Message(roles[role], content)


def check_turns(messages: Sequence[Message], where: str, *, last: Role) -> None:
    """An optional system message, then user and assistant in turn, ending with ``last``.

    Raises:
        DataError: another order; names the message.
    """
    expected: Role = "user"
    for number, message in enumerate(messages, start=1):
        if message.role == "system" and number == 1:
            continue
        if message.role != expected:
            raise DataError(
                f"{where}, message {number}: expected a turn of the {expected}, got one of the "
                f"{message.role}; turns alternate user, assistant, after at most one system message."
            )
        expected = "assistant" if expected == "user" else "user"
    if not messages or messages[-1].role != last:
        found = f"a turn of the {messages[-1].role}" if messages else "nothing"
        raise DataError(f"{where}: it ends with {found}, but has to end with one of the {last}.")
