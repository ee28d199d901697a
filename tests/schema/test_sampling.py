"""What the options of sampling refuse, and which of them a policy gradient cannot use."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from tests.schema.test_recipe import COLLECT, JUDGE, RL, SFT, refused, resolve

from ridgeline.schema.config import validate
from ridgeline.schema.errors import UsageError
from ridgeline.schema.records import reshaping
from ridgeline.schema.stages.common import Sampling

RESHAPES: list[dict[str, Any]] = [
    {"top_p": 0.9},
    {"top_k": 5},
    {"min_p": 0.1},
    {"repetition_penalty": 1.1},
    {"presence_penalty": 0.1},
    {"frequency_penalty": -0.1},
    {"logit_bias": {"4": 1.0}},
]


@pytest.mark.parametrize("options", RESHAPES, ids=str)
def test_policy_gradients_need_the_models_own_distribution(options: dict[str, Any]) -> None:
    (name,) = options
    assert f"remove sampling.{name} (" in refused(SFT, COLLECT, JUDGE, {**RL, "sampling": options})
    student = {
        "name": "small",
        "type": "distill",
        "mode": "minillm",
        "teacher": "base",
        "data": "prompts.jsonl",
        "sampling": options,
    }
    assert f", no {name}" in refused(student)
    assert reshaping(Sampling(**options)) == [name]


def test_a_stop_string_and_a_temperature_leave_the_distribution_to_the_model() -> None:
    sampling = {"temperature": 0.7, "stop": ["\n\n"]}
    policy = resolve(SFT, COLLECT, JUDGE, {**RL, "sampling": sampling}).stage_named("policy")
    assert policy.sampling.stop == ["\n\n"] and reshaping(policy.sampling) == []


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"stop": ["a", ""]}, "sampling: stop: an empty text is in every completion; remove it"),
        (
            {"logit_bias": {"a": float("-inf")}},
            "sampling: logit_bias: a bias must be finite; -100 bans a token",
        ),
        ({"min_p": 1.5}, "min_p = 1.5"),
        ({"repetition_penalty": 0}, "repetition_penalty = 0"),
        ({"presence_penalty": float("nan")}, "presence_penalty = nan"),
        ({"repetition_penalti": 1.1}, "did you mean 'repetition_penalty'?"),
    ],
)
def test_what_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        validate(Sampling, options, "sampling")
    assert sentence in str(error.value)


def test_a_bias_is_a_table_of_toml() -> None:
    read = tomllib.loads('[logit_bias]\n42 = -100\n" yes" = 1.5\n')
    assert Sampling(**read).logit_bias == {"42": -100.0, " yes": 1.5}
    assert Sampling(logit_bias={42: -100}).logit_bias == {"42": -100.0}  # type: ignore[dict-item]
