"""The options of sampling on the command line of ``generate`` reach what is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.call import assert_one_sentence, call
from tests.tiny import make_tiny_model, make_tokenizer

from ridgeline.schema.stages.common import Sampling
from ridgeline.workbench import sampling


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("options"))


def generated(model: Path, *options: str) -> list[dict[str, Any]]:
    called = call("--json", "generate", str(model), "hello", "-n", "4", "--max-new-tokens", "12", *options)
    assert called.code == 0, called.err
    samples: list[dict[str, Any]] = json.loads(called.out)
    return samples


def test_every_option_is_recorded(model: Path) -> None:
    numbers = {"min_p": 0.1, "repetition_penalty": 1.2, "presence_penalty": 0.3, "frequency_penalty": 0.4}
    options = [
        part for name, value in numbers.items() for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    samples = generated(model, *options, "--logit-bias", "==1.5", "--logit-bias", "7=-100")
    for sample in samples:
        assert {name: sample[name] for name in numbers} == numbers
        assert sample["logit_bias"] == {"=": 1.5, "7": -100.0}


def test_a_bias_and_a_stop_string_are_obeyed(model: Path) -> None:
    tokenizer = make_tokenizer()
    (letter,) = tokenizer.encode("x")
    for sample in generated(model, "--logit-bias", "x=1000", "--stop", "xxx"):
        assert sample["completion_ids"] == [letter] * 3
        assert (sample["text"], sample["stop_reason"], sample["stop_string"]) == ("", "stop", "xxx")


@pytest.mark.parametrize("text", ["x", "x=", "=1", "x=much"])
def test_a_bias_that_is_none(model: Path, text: str) -> None:
    assert_one_sentence(call("generate", str(model), "hello", "--logit-bias", text), 2, "write TOKEN=NUMBER")


def test_a_bias_on_two_tokens(model: Path) -> None:
    assert_one_sentence(
        call("generate", str(model), "hello", "--logit-bias", "xy=1"), 2, "'xy' is 2 tokens of this model"
    )


@pytest.mark.parametrize(
    ("options", "wanted"), [((), (0.7, 0.95, 0)), (("-t", "0", "--top-p", "1", "--top-k", "5"), (0, 1, 5))]
)
def test_chat_has_defaults_of_its_own(
    model: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], wanted: tuple[float, ...]
) -> None:
    asked = []
    draw = sampling.sample

    def watched(model: Any, prompts: Any, how: Sampling, **more: Any) -> Any:
        asked.append((how.temperature, how.top_p, how.top_k))
        return draw(model, prompts, how, **more)

    monkeypatch.setattr(sampling, "sample", watched)
    lines = iter(["hello", "/quit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    assert call("chat", str(model), "--max-new-tokens", "4", *options).code == 0
    assert asked == [wanted]
