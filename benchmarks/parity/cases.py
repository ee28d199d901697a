"""What is compared: one case is one objective with the settings that mean the same on both sides.

Read by both sides, so it imports neither library.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["sft", "reward", "dpo", "kto", "grpo"]


@dataclass(frozen=True)
class Case:
    """One row of the table.

    trl: options of the TRL config. ours: how Ridgeline is set up, see ``ridgeline_side.py``.
    accumulation: micro-batches into which TRL cuts the step.
    differs: why the two must not agree; empty where they must.
    """

    name: str
    kind: Kind
    trl: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)
    accumulation: int = 1
    differs: str = ""


PAD, END = "<|endoftext|>", "<|im_end|>"
MAX_COMPLETION = 24
"""Tokens; the constant divisor of Dr. GRPO."""

# A coefficient large enough for the KL to show beside the policy term.
_GRPO = {"loss_type": "grpo", "beta": 0.5, "use_bias_correction_kl": False}
_OURS = {"preset": "grpo", "kl_coefficient": 0.5}

_SUPERVISED = [
    Case("sft", "sft"),
    Case("sft, 3 micro-batches", "sft", accumulation=3),
    Case(
        "sft, conversational rows",
        "sft",
        {"conversational": True},
        differs="TRL also trains the newline that the template writes behind the end-of-turn token",
    ),
    Case("reward model", "reward", {"pad_token": PAD}),
    Case("reward model, 3 micro-batches", "reward", {"pad_token": PAD}, accumulation=3),
    Case(
        "reward model, centred",
        "reward",
        {"pad_token": PAD, "center_rewards_coefficient": 0.1},
        {"centering": 0.1},
    ),
    Case(
        "reward model, pad = eos",
        "reward",
        {"pad_token": END},
        differs="with pad = eos the score is read one token early, before the end-of-turn token",
    ),
    Case("  read one token early", "reward", {"pad_token": END}, {"cut": 1}),
]

_GROUPS = [
    Case("grpo", "grpo", _GRPO, _OURS),
    Case("grpo at temperature 0.7", "grpo", {**_GRPO, "temperature": 0.7}, {**_OURS, "temperature": 0.7}),
    Case(
        "grpo, KL as TRL has it",
        "grpo",
        {**_GRPO, "use_bias_correction_kl": True},
        _OURS,
        differs="TRL multiplies k3 by the live ratio by default, which changes value and gradient",
    ),
    Case(
        "dr_grpo",
        "grpo",
        {"loss_type": "dr_grpo", "scale_rewards": "none"},
        {"preset": "dr_grpo", "length": MAX_COMPLETION},
    ),
    Case("dapo", "grpo", {"loss_type": "dapo", "epsilon_high": 0.28}, {"preset": "dapo"}),
    Case(
        "dapo, 3 micro-batches",
        "grpo",
        {"loss_type": "dapo", "epsilon_high": 0.28},
        {"preset": "dapo"},
        accumulation=3,
    ),
    Case(
        "gspo",
        "grpo",
        {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon": 0.02,
            "epsilon_high": 0.02,
        },
        {"preset": "gspo", "clip_low": 0.02, "clip_high": 0.02},
    ),
    # TRL's epsilon_high is the bound itself here; ours is its distance from 1, as everywhere else.
    Case(
        "cispo",
        "grpo",
        {"loss_type": "cispo", "epsilon_high": 1.1},
        {"preset": "cispo", "clip_high": 0.1},
    ),
]

CASES = [*_SUPERVISED, *_GROUPS]
