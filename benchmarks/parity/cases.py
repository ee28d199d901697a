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
    differs: why the two must not agree; empty where they must. A name that begins with a blank is the case
        above with that reason taken away.
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
BETA = 0.1

_SUPERVISED = [
    Case("sft", "sft"),
    Case("sft, 3 micro-batches", "sft", accumulation=3),
    Case(
        "sft, conversational rows",
        "sft",
        {"conversational": True},
        differs="TRL trains the newline that the template writes behind the end-of-turn token",
    ),
    Case("  with that newline", "sft", {"conversational": True}, {"tail": "\n"}),
    Case(
        "sft, padding_idx = eos",
        "sft",
        {"padding": END},
        differs="where pad = eos, transformers gives the stop token's embedding no gradient as an input",
    ),
    Case("sft: dft", "sft", {"loss_type": "dft"}, {"loss": "dft"}),
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
        differs="with pad = eos the score is read before the end-of-turn token",
    ),
    Case("  read one token early", "reward", {"pad_token": END}, {"cut": 1}),
]


def _dpo(theirs: str, ours: str, name: str = "", differs: str = "", **options: Any) -> Case:
    """``loss_type`` of TRL, loss of Ridgeline, and options of the latter besides beta."""
    return Case(
        name or f"dpo: {theirs}",
        "dpo",
        {"loss_type": [theirs], "beta": BETA},
        {"terms": {ours: {"beta": BETA}}, **options},
        differs=differs,
    )


_PAIRS = [
    _dpo("sigmoid", "dpo"),
    Case(
        "dpo: sigmoid, 3 micro-batches",
        "dpo",
        {"loss_type": ["sigmoid"], "beta": BETA},
        {"terms": {"dpo": {"beta": BETA}}},
        accumulation=3,
    ),
    _dpo("hinge", "hinge"),
    _dpo("ipo", "ipo", differs="TRL divides each log-ratio by its length; equation 17 has sums"),
    _dpo("ipo", "ipo", "  on means per token", per_token=True),
    Case(
        "dpo: robust",
        "dpo",
        {"loss_type": ["robust"], "beta": BETA, "label_smoothing": 0.1},
        {"terms": {"robust_dpo": {"beta": BETA, "label_smoothing": 0.1}}},
    ),
    Case(
        "dpo: exo_pair",
        "dpo",
        {"loss_type": ["exo_pair"], "beta": BETA, "label_smoothing": 1e-3},
        {"terms": {"exo": {"beta": BETA, "label_smoothing": 1e-3}}},
    ),
    _dpo("nca_pair", "nca"),
    _dpo("sppo_hard", "sppo"),
    _dpo("apo_zero", "apo_zero"),
    _dpo("apo_down", "apo_down"),
    _dpo("sigmoid_norm", "dpo_norm"),
    _dpo("aot", "aot"),
    _dpo("aot_unpaired", "aot_unpaired"),
    Case(
        "dpo: aot_unpaired, 3 micro-batches",
        "dpo",
        {"loss_type": ["aot_unpaired"], "beta": BETA},
        {"terms": {"aot_unpaired": {"beta": BETA}}},
        accumulation=3,
        differs="TRL sorts within a micro-batch, Ridgeline over the step",
    ),
    _dpo("bco_pair", "bco_pair", differs="TRL's pair form leaves out the reward shift of the paper"),
    _dpo("bco_pair", "bco_pair", "  with a shift of 0", shift=0.0),
    Case(
        "dpo: discopop",
        "dpo",
        {"loss_type": ["discopop"], "beta": BETA, "discopop_tau": 0.05},
        {"terms": {"discopop": {"beta": BETA, "tau": 0.05}}},
    ),
    Case(
        "dpo: sft",
        "dpo",
        {"loss_type": ["sft"]},
        {"terms": {"sft_chosen": {}}},
        differs="TRL averages over the tokens of a micro-batch, Ridgeline over answers",
    ),
    Case(
        "  in micro-batches of one pair",
        "dpo",
        {"loss_type": ["sft"]},
        {"terms": {"sft_chosen": {}}},
        accumulation=9,
    ),
    Case(
        "dpo: sigmoid + hinge",
        "dpo",
        {"loss_type": ["sigmoid", "hinge"], "loss_weights": [0.8, 0.2], "beta": BETA},
        {"terms": {"dpo": {"beta": BETA}, "hinge": {"beta": BETA}}, "weights": [0.8, 0.2]},
    ),
    *(
        Case(
            f"dpo: {theirs}",
            "dpo",
            {"loss_type": ["sigmoid"], "beta": BETA, "f_divergence_type": theirs},
            {"terms": {"dpo": {"beta": BETA}}, "divergence": ours},
        )
        for theirs, ours in (("forward_kl", "forward_kl"), ("js_divergence", "js"))
    ),
    Case(
        "dpo: length-desensitised",
        "dpo",
        {"loss_type": ["sigmoid"], "beta": BETA, "ld_alpha": 0.5},
        {"terms": {"dpo": {"beta": BETA}}, "length_desensitised": 0.5},
    ),
    Case(
        "dpo: wpo",
        "dpo",
        {"loss_type": ["sigmoid"], "beta": BETA, "use_weighting": True},
        {"terms": {"dpo": {"beta": BETA}}, "weighting": "wpo"},
    ),
]

_UNPAIRED = [
    Case(
        "kto",
        "kto",
        {"loss_type": "kto", "beta": BETA, "undesirable_weight": 1.2},
        {"loss": "kto", "options": {"beta": BETA, "undesirable_weight": 1.2}},
    ),
    Case(
        "kto: apo_zero_unpaired",
        "kto",
        {"loss_type": "apo_zero_unpaired", "beta": BETA},
        {"loss": "apo_zero_unpaired", "options": {"beta": BETA}},
    ),
]

# A coefficient large enough for the KL to show beside the policy term.
_GRPO = {"loss_type": "grpo", "beta": 0.5, "use_bias_correction_kl": False}
_OURS = {"preset": "grpo", "kl_coefficient": 0.5}
_DAPO = {"loss_type": "dapo", "epsilon_high": 0.28}

_GROUPS = [
    Case("grpo", "grpo", _GRPO, _OURS),
    Case("grpo at temperature 0.7", "grpo", {**_GRPO, "temperature": 0.7}, {**_OURS, "temperature": 0.7}),
    Case(
        "grpo, KL as TRL has it",
        "grpo",
        {**_GRPO, "use_bias_correction_kl": True},
        _OURS,
        differs="TRL multiplies k3 by the live ratio unless told otherwise; the paper does not",
    ),
    Case(
        "  with kl_corrected",
        "grpo",
        {**_GRPO, "use_bias_correction_kl": True},
        {**_OURS, "kl_corrected": True},
    ),
    Case(
        "grpo, two-sided clip",
        "grpo",
        {**_GRPO, "delta": 1.25},
        {**_OURS, "preset": "two_sided", "clip_delta": 1.25},
    ),
    Case(
        "grpo, off-policy mask",
        "grpo",
        {**_GRPO, "off_policy_mask_threshold": 0.02},
        {**_OURS, "off_policy_limit": 0.02},
    ),
    Case(
        "dr_grpo",
        "grpo",
        {"loss_type": "dr_grpo", "scale_rewards": "none"},
        {"preset": "dr_grpo", "length": MAX_COMPLETION},
    ),
    Case("dapo", "grpo", _DAPO, {"preset": "dapo"}),
    Case("dapo, 3 micro-batches", "grpo", _DAPO, {"preset": "dapo"}, accumulation=3),
    Case(
        "dapo, entropy bonus",
        "grpo",
        {**_DAPO, "entropy_coef": 0.1},
        {"preset": "dapo", "entropy_coefficient": 0.1},
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
    Case(
        "luspo",
        "grpo",
        {
            "loss_type": "luspo",
            "importance_sampling_level": "sequence",
            "epsilon": 0.02,
            "epsilon_high": 0.02,
        },
        {"preset": "luspo", "clip_low": 0.02, "clip_high": 0.02},
    ),
    # TRL's epsilon_high is the bound itself here; ours is its distance from 1, as everywhere else.
    Case(
        "cispo",
        "grpo",
        {"loss_type": "cispo", "epsilon_high": 1.1},
        {"preset": "cispo", "clip_high": 0.1},
    ),
    Case("sapo", "grpo", {"loss_type": "sapo"}, {"preset": "sapo"}),
    Case("vespo", "grpo", {"loss_type": "vespo"}, {"preset": "vespo"}),
]

CASES = [*_SUPERVISED, *_PAIRS, *_UNPAIRED, *_GROUPS]
