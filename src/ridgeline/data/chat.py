"""Conversations as token ids, with the positions that carry loss.

Masks are made by position. A trained turn begins where the rendered prompt before it ends, and ends with the
end-of-turn token; both places are found by tokenising these prefixes of the text and comparing token ids.
No mask looks at the value of a token, so pad = eos makes no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from ridgeline.data.rendering import Renderer, TrainOn, at
from ridgeline.data.template import apply_template, end_of_turn, probe_messages
from ridgeline.data.token_cache import TokenCache
from ridgeline.data.tokenise import Tokeniser, Tokens
from ridgeline.schema.errors import UsageError
from ridgeline.schema.records import Message

__all__ = [
    "Conversation",
    "Encoded",
    "TrainOn",
    "apply_template",
    "check_stop_trained",
    "encode_completion",
    "encode_completions",
    "encode_conversation",
    "encode_conversations",
    "encode_prompt",
    "encode_prompts",
    "marked",
    "stop_token_ids",
]

BoolArray = npt.NDArray[np.bool_]
BLOCK = 4096
"""Conversations that are rendered and tokenised together; what they take in between is freed then."""


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
class Conversation:
    """What to encode: messages that end with the assistant, which of its turns are trained, whether the last
    one ended by itself, and the file and row for error messages."""

    messages: Sequence[Message]
    train_on: TrainOn = "last"
    stopped: bool = True
    where: str = ""

    @classmethod
    def answered(
        cls, prompt: Sequence[Message], completion: str, *, stopped: bool = True, where: str = ""
    ) -> Conversation:
        """A prompt and its completion, which alone is trained."""
        return cls([*prompt, Message("assistant", completion)], "last", stopped, where)


def marked(tokenizer: PreTrainedTokenizerBase, asked: Iterable[Conversation]) -> Iterator[Tokens]:
    """Ids and trained spans of each conversation, block by block, so that ``asked`` may be a generator.

    Large blocks are read from the cache where an earlier run has left them there.

    Raises:
        as ``encode_conversation``.
    """
    remaining = iter(asked)
    renderer, tokeniser, cache = Renderer(tokenizer), Tokeniser(tokenizer), TokenCache(tokenizer)
    while block := list(islice(remaining, BLOCK)):
        yield from cache.tokens(block, partial(_mark, block, renderer, tokeniser))


def _mark(block: Sequence[Conversation], renderer: Renderer, tokeniser: Tokeniser) -> list[Tokens]:
    end = renderer.end_of_turn
    texts = []
    for one in block:
        whole = renderer.whole(one.messages, one.train_on, one.where)
        texts.append(whole if one.stopped else renderer.without_end(whole))
    found = tokeniser.mark(texts)
    for one, tokens in zip(block, found, strict=True):
        ends = tokens.spans if one.stopped else tokens.spans[:-1]
        if any(tokens.ids[last - 1] != end.id for _, last in ends):
            raise UsageError(
                f"{at(one.where)}the end-of-turn token {end.token} is not where the template writes it."
            )
    return found


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
    renderer, tokeniser = Renderer(tokenizer), Tokeniser(tokenizer)
    result: list[list[int]] = []
    for start in range(0, len(conversations), BLOCK):
        block = slice(start, start + BLOCK)
        pairs = zip(conversations[block], places[block], strict=True)
        result += tokeniser.ids([renderer.with_header(messages, place) for messages, place in pairs])
    return result


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
    places = where or [""] * len(conversations)
    asked = (
        Conversation(messages, train_on, where=place)
        for messages, place in zip(conversations, places, strict=True)
    )
    return [_encoded(tokens) for tokens in marked(tokenizer, asked)]


def _encoded(tokens: Tokens) -> Encoded:
    trained = np.zeros(len(tokens.ids), dtype=np.bool_)
    for first, last in tokens.spans:
        trained[first:last] = True
    return Encoded(tokens.ids.tolist(), trained, tokens.spans)


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
    places = where or [""] * len(prompts)
    flags = stopped or [True] * len(prompts)
    asked = (
        Conversation.answered(messages, completion, stopped=stop, where=place)
        for messages, completion, stop, place in zip(prompts, completions, flags, places, strict=True)
    )
    pairs = ((tokens.ids.tolist(), tokens.spans[0][0]) for tokens in marked(tokenizer, asked))
    return [(ids[:prefix], ids[prefix:]) for ids, prefix in pairs]


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
