"""The text of each token of a sequence, for reading beside its score."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

HALF = "\ufffd"
"""What decoders show for a character that is not complete yet."""


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text; joined they are the decoded text.

    A character spread over several tokens belongs to the last of them, the others add nothing. Each piece is
    decoded behind its predecessor, since some decoders drop a space at the beginning.
    """
    tokens = list(ids)
    texts = []
    context, begun = 0, 0  # tokens before `begun` are done; those from `context` on are decoded with the next
    for end in range(1, len(tokens) + 1):
        known = _decoded(tokenizer, tokens[context:begun])
        text = _decoded(tokenizer, tokens[context:end])
        if text.endswith(HALF) and end < len(tokens):
            texts.append("")
            continue
        texts.append(text[len(known) :])
        context, begun = begun, end
    return texts


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False)) if ids else ""
