"""What moves between stages: messages, samples and preferences."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
StopReason = Literal["stop", "length"]
"""``stop``: the model emitted a stop token or a stop string. ``length``: it was cut at the limit."""
RESHAPING: dict[str, Any] = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "logit_bias": {},
}
"""What makes the distribution drawn from another one than the model's own at a temperature, and the values
that do not."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(slots=True)
class Sample:
    """One completion as it was sampled: the record of truth, never re-tokenised.

    ``logprobs`` are nats per completion token under exactly the distribution the token was drawn from
    (biased, penalised, tempered and truncated as the fields from ``temperature`` to ``logit_bias`` say).
    ``text`` ends before the stop token or the stop string; the tokens are all there. ``stop_string`` is the
    one that ended it, "" where none did. ``generated`` says per completion token whether the policy wrote
    it (True) or an environment did. ``rewards`` holds the named components; None means "not applicable" or
    failed.
    ``step_rewards`` holds, with process supervision, for every step the completion token that ends it (from
    0) and its reward.
    """

    prompt_id: str
    index: int
    prompt_ids: list[int]
    completion_ids: list[int]
    logprobs: list[float]
    generated: list[bool]
    stop_reason: StopReason
    text: str
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[str, float] = field(default_factory=dict)
    stop_string: str = ""
    weight_version: int = 0
    row: dict[str, Any] = field(default_factory=dict)
    rewards: dict[str, float | None] = field(default_factory=dict)
    step_rewards: list[tuple[int, float | None]] = field(default_factory=list)

    @property
    def truncated(self) -> bool:
        return self.stop_reason == "length"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def reshaping(drawn: Any) -> list[str]:
    """Options of a `Sample` or a `Sampling` by which log-probs do not compare with those of a model."""
    return [name for name, off in RESHAPING.items() if getattr(drawn, name) != off]


@dataclass(frozen=True, slots=True)
class Preference:
    """Two completions of one prompt and which one was preferred.

    ``first_shown`` is the completion the annotator saw first ("chosen" or "rejected"), so that position bias
    can be measured; ``scores`` holds whatever the annotator saw or knew about each side. ``label`` is the
    probability that chosen really is better (0.5 is a tie), ``margin`` by how much (in units of the rating),
    ``gold`` a third, demonstrated answer.
    """

    prompt: list[Message]
    chosen: str
    rejected: str
    annotator: str
    first_shown: Literal["chosen", "rejected"] = "chosen"
    prompt_id: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    chosen_stopped: bool = True
    rejected_stopped: bool = True
    label: float = 1.0
    margin: float | None = None
    gold: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
