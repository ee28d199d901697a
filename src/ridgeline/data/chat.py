"""Conversations as token ids, with the positions that carry loss.

Masks are made by position. A trained turn begins where the rendered prompt before it ends, and ends with the
end-of-turn token; both places are found by tokenising these prefixes of the text and comparing token ids.
No mask looks at the value of a token, so pad = eos makes no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from ridgeline.data.template import EndOfTurn, apply_template, end_of_turn, probe_messages, render
from ridgeline.schema.errors import DataError, UsageError
from ridgeline.schema.records import Message

__all__ = [
    "Encoded",
    "apply_template",
    "check_stop_trained",
    "encode_completion",
    "encode_completions",
    "encode_conversation",
    "encode_conversations",
    "encode_prompt",
    "encode_prompts",
    "stop_token_ids",
]

TrainOn = Literal["assistant", "last"]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One conversation up to its last trained token; what a template writes behind that can carry no loss.

    ids: ``[T]`` token ids.
    trained: ``[T]``, True where the token carries loss: content and end-of-turn token of trained turns.
    spans: first and one-past-last token of each trained turn.
    """

    ids: list[int]
    trained: BoolArray
    spans: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class _Text:
    """A rendered conversation and the characters of its trained turns."""

    text: str
    spans: list[tuple[int, int]]
    where: str

    def prefixes(self) -> list[str]:
        return [self.text[:cut] for span in self.spans for cut in span]

    def pieces(self) -> list[str]:
        cuts = [0, *(cut for span in self.spans for cut in span)]
        return [self.text[first:last] for first, last in pairwise(cuts)]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Ids of ``messages`` and the header of the assistant's turn: what a sampler continues."""
    return encode_prompts(tokenizer, [messages])[0]


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Message]],
    *,
    where: Sequence[str] = (),
) -> list[list[int]]:
    """``encode_prompt`` for many at once; ``where`` names each one's file and row for error messages."""
    places = where or [""] * len(conversations)
    texts = [
        render(tokenizer, messages, header=True, where=place)
        for messages, place in zip(conversations, places, strict=True)
    ]
    return _tokenise(tokenizer, texts)


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], train_on: TrainOn = "assistant"
) -> Encoded:
    """Ids and loss mask of a conversation that ends with the assistant.

    ``train_on``: ``assistant`` trains every assistant turn, ``last`` the last one; the end-of-turn token
    included, the newline behind it not. There is exactly one beginning-of-sequence token where the tokenizer
    uses one, and none else.

    Raises:
        UsageError: no chat template, one without end-of-turn token, or one that rewrites earlier turns.
        DataError: the template refuses the conversation.
    """
    return encode_conversations(tokenizer, [messages], train_on)[0]


def encode_conversations(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Message]],
    train_on: TrainOn = "assistant",
    *,
    where: Sequence[str] = (),
) -> list[Encoded]:
    """``encode_conversation`` for many, in batched calls; ``where`` names each one's file and row."""
    end = end_of_turn(tokenizer)
    places = where or [""] * len(conversations)
    texts = [
        _rendered(tokenizer, messages, train_on, end, place)
        for messages, place in zip(conversations, places, strict=True)
    ]
    encoded = _encode_texts(tokenizer, texts)
    for item, text in zip(encoded, texts, strict=True):
        if any(item.ids[last - 1] != end.id for _, last in item.spans):
            raise UsageError(
                f"{_at(text.where)}the end-of-turn token {end.token} is not where the template writes it."
            )
    return encoded


def encode_completion(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], completion: str, *, stopped: bool = True
) -> tuple[list[int], list[int]]:
    """(prompt ids, completion ids); the latter end with the end-of-turn token if the completion ``stopped``.

    Raises:
        as ``encode_conversation``.
    """
    return encode_completions(tokenizer, [messages], [completion], stopped=[stopped])[0]


def encode_completions(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[Message]],
    completions: Sequence[str],
    *,
    stopped: Sequence[bool] = (),
    where: Sequence[str] = (),
) -> list[tuple[list[int], list[int]]]:
    """``encode_completion`` for many, in batched tokeniser calls; ``where`` names each one's file and row."""
    end = end_of_turn(tokenizer)
    places = where or [""] * len(prompts)
    flags = stopped or [True] * len(prompts)
    texts = []
    for messages, completion, stop, place in zip(prompts, completions, flags, places, strict=True):
        whole = _rendered(tokenizer, [*messages, Message("assistant", completion)], "last", end, place)
        if not stop:
            first, last = whole.spans[0]
            last -= len(end.token)
            whole = _Text(whole.text[:last], [(first, last)], place)
        texts.append(whole)
    encoded = _encode_texts(tokenizer, texts)
    return [(item.ids[: item.spans[0][0]], item.ids[item.spans[0][0] :]) for item in encoded]


def stop_token_ids(
    tokenizer: PreTrainedTokenizerBase, generation_eos: Sequence[int] | int | None = None
) -> list[int]:
    """Ids that end a completion: the template's end-of-turn token first, then every end of sequence.

    ``generation_eos`` is ``eos_token_id`` of the model's generation config, which knows ids the tokenizer
    does not name.
    """
    more = [generation_eos] if isinstance(generation_eos, int) else list(generation_eos or [])
    ids = [
        end_of_turn(tokenizer).id,
        *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]),
        *more,
    ]
    return list(dict.fromkeys(ids))


def check_stop_trained(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the end-of-turn token, after proof that it carries loss at the end of each assistant turn.

    Raises:
        UsageError: it does not, or there is none.
    """
    end = end_of_turn(tokenizer)
    encoded = encode_conversation(tokenizer, probe_messages(tokenizer), "last")
    last = len(encoded.ids) - 1
    if encoded.ids[last] != end.id or not encoded.trained[last]:
        raise UsageError(
            f"the end-of-turn token {end.token} carries no loss, so the model would never learn to stop."
        )
    return end.id


def _rendered(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    train_on: TrainOn,
    end: EndOfTurn,
    where: str,
) -> _Text:
    turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
    if not turns:
        raise DataError(f"{_at(where)}there is no assistant turn to train on.")
    text = render(tokenizer, messages, where=where)
    spans = []
    for index in turns if train_on == "assistant" else turns[-1:]:
        header = render(tokenizer, messages[:index], header=True, where=where)
        upto = render(tokenizer, messages[: index + 1], where=where)
        ending = end.token + end.after
        if not (text.startswith(upto) and upto.startswith(header) and upto.endswith(ending)):
            raise UsageError(_not_preserving(where, index + 1))
        spans.append((len(header), len(upto) - len(end.after)))
    return _Text(text[: spans[-1][1]], spans, where)


def _not_preserving(where: str, number: int) -> str:
    return (
        f"{_at(where)}the chat template renders message {number} differently once later messages follow, "
        'so its loss mask has no definite place; use train_on = "last", or chat_template = "chatml".'
    )


def _encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[_Text]) -> list[Encoded]:
    """All texts and all their prefixes in one call of the (batched) tokenizer."""
    prefixes = [prefix for text in texts for prefix in text.prefixes()]
    ids = _tokenise(tokenizer, [*(text.text for text in texts), *prefixes])
    wholes, rest = ids[: len(texts)], iter(ids[len(texts) :])
    result = []
    for whole, text in zip(wholes, texts, strict=True):
        heads = [next(rest) for _ in range(2 * len(text.spans))]
        if any(whole[: len(head)] != head for head in heads):
            whole, cuts = _in_pieces(tokenizer, whole, text)
        else:
            cuts = [len(head) for head in heads]
        result.append(_encoded(whole, list(zip(cuts[::2], cuts[1::2], strict=True)), text.where))
    return result


def _in_pieces(
    tokenizer: PreTrainedTokenizerBase, whole: list[int], text: _Text
) -> tuple[list[int], list[int]]:
    """Ids and cuts of a text whose tokens merge across the header (content that begins with a newline, say).

    The header ends a token there when the model samples, so that is where the training text is cut too.
    """
    ids: list[int] = []
    cuts = []
    for piece in text.pieces():
        more = tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
        ids.extend(more if ids else _with_bos(tokenizer, more, wanted=_adds_bos(tokenizer)))
        cuts.append(len(ids))
    if tokenizer.decode(ids) != tokenizer.decode(whole):
        raise UsageError(
            f"{_at(text.where)}the tokenizer merges the assistant's header with the content behind it, "
            'so the loss mask has no definite place; use chat_template = "chatml".'
        )
    return ids, cuts


def _encoded(ids: list[int], spans: list[tuple[int, int]], where: str) -> Encoded:
    trained = np.zeros(len(ids), dtype=np.bool_)
    for first, last in spans:
        if last <= first:
            raise DataError(f"{_at(where)}an assistant turn holds no token.")
        trained[first:last] = True
    return Encoded(ids, trained, spans)


def _tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Ids of rendered texts. Templates write their special tokens themselves; only a missing BOS is added."""
    if not texts:
        return []
    batch = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]
    wanted = _adds_bos(tokenizer)
    return [_with_bos(tokenizer, ids, wanted=wanted) for ids in batch]


def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the model expects a beginning-of-sequence token: its tokenizer adds one to plain text."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def _with_bos(tokenizer: PreTrainedTokenizerBase, ids: list[int], *, wanted: bool) -> list[int]:
    if wanted and ids[:1] != [tokenizer.bos_token_id]:
        return [tokenizer.bos_token_id, *ids]
    return ids


def _at(where: str) -> str:
    return f"{where}: " if where else ""
