"""Load a model by any name and sample from it, outside of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ridgeline.data.chat import apply_template, encode_prompt
from ridgeline.data.formats import prompt_id
from ridgeline.data.messages import check_turns, parse_messages
from ridgeline.models.hardware import resolve_device, resolve_dtype
from ridgeline.models.load import LanguageModel
from ridgeline.models.load import load_model as load_by_name
from ridgeline.rewards.combine import RewardSet, function_reward
from ridgeline.rollout.native import NATIVE, new_sampler
from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.errors import UsageError
from ridgeline.schema.records import Message, Sample
from ridgeline.schema.stages.common import Sampling
from ridgeline.stages.context import stop_ids
from ridgeline.workbench.names import resolve_model

Prompt = str | Sequence[Message] | Sequence[Mapping[str, str]]


def load(
    name: str, *, device: str = "auto", dtype: str = "auto", chat_template: str | None = None
) -> LanguageModel:
    """A model under any name that ``workbench.names`` accepts, with its chat template installed.

    Raises:
        UsageError: it cannot be found or loaded, or has no chat template and none is given.
    """
    found = resolve_model(name)
    place = resolve_device(device)
    model = load_by_name(found.source, dtype=resolve_dtype(dtype, place), device=place)
    apply_template(model.tokenizer, chat_template or found.chat_template)
    return model


def sample(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    samples: int = 1,
    seed: int = 0,
    rows: Sequence[dict[str, Any]] | None = None,
) -> list[Sample]:
    """Completions in prompt-major order; ``rows`` are the columns that rewards may read, one dict per prompt.

    Raises:
        UsageError: no prompt, or a bias on what is not one token of the model.
        DataError: a prompt that is no conversation ending with the user, or one beyond the model's positions.
    """
    if not prompts:
        raise UsageError("there is no prompt to sample from; give at least one.")
    conversations = [as_messages(prompt, f"prompt {number}") for number, prompt in enumerate(prompts, 1)]
    columns = rows or [{} for _ in conversations]
    requests = [
        # Two equal prompts are two requests with draws of their own.
        PromptRequest(
            f"{prompt_id(messages)}-{number}", encode_prompt(model.tokenizer, messages), samples, row=row
        )
        for number, (messages, row) in enumerate(zip(conversations, columns, strict=True))
    ]
    sampler, _ = new_sampler(model.module, model.tokenizer, stop_ids(model))
    return sampler(requests, sampling, seed=seed, step=0)


def slower_sampler(model: LanguageModel) -> str | None:
    """Which sampler `sample` uses and why, for the user, where that is not the native one."""
    _, which = new_sampler(model.module, model.tokenizer, stop_ids(model))
    return None if which == NATIVE else f"sampled by the slower sampler: {which}"


def as_messages(prompt: Prompt, where: str) -> list[Message]:
    """A text is one turn of the user; anything else is a conversation that ends with the user."""
    if isinstance(prompt, str):
        return [Message("user", prompt)]
    plain = [
        {"role": turn.role, "content": turn.content} if isinstance(turn, Message) else turn for turn in prompt
    ]
    messages = parse_messages(plain, where)
    check_turns(messages, where, last="user")
    return messages


def score(samples: list[Sample], rewards: Sequence[str | Callable[..., Any]]) -> None:
    """Write every reward, and their sum as ``total``, into ``sample.rewards``."""
    components = [(function_reward(reward), 1.0) for reward in rewards]
    scorer = RewardSet(components)
    try:
        scorer.score(samples)
    finally:
        scorer.close()
