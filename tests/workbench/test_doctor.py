"""Each check passes on a sound model and fails on the fault it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.tiny import make_tiny_model

from ridgeline.models.load import LanguageModel
from ridgeline.schema.records import Sample
from ridgeline.schema.stages import RlStage
from ridgeline.schema.stages.common import RewardSpec, Sampling
from ridgeline.workbench import sampling as sampling_
from ridgeline.workbench.checks import learning, rewards, sampled

LIMIT = Sampling(max_new_tokens=8)


@pytest.fixture
def model(tmp_path: Path) -> LanguageModel:
    return sampling_.load(str(make_tiny_model(tmp_path / "model")), dtype="float32")


@pytest.fixture
def drawn(model: LanguageModel) -> list[Sample]:
    return sampling_.sample(model, ["the sea", "rain"], LIMIT, samples=2, seed=1)


def test_sound_model_passes(model: LanguageModel, drawn: list[Sample]) -> None:
    for check in (
        sampled.stop_token(model),
        sampled.ratio(model, drawn, 1.0),
        sampled.gap(model, drawn, 1.0),
        learning.zero_rate(model, drawn),
    ):
        assert check.passed, check


def test_gap_notices_another_temperature_and_wrong_records(model: LanguageModel, drawn: list[Sample]) -> None:
    assert not sampled.gap(model, drawn, 0.5).passed
    for sample in drawn:
        sample.logprobs = [value + 0.01 for value in sample.logprobs]
    check = sampled.gap(model, drawn, 1.0)
    assert not check.passed and check.value == pytest.approx(0.01, rel=0.01)


def test_stop_token_that_sampling_ignores(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled, "stop_ids", lambda model: [7])
    assert not sampled.stop_token(model).passed


def test_zero_rate_notices_a_weight_that_moves(
    model: LanguageModel, drawn: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaky(engine: object, role: str, rate: float) -> float:
        with torch.no_grad():
            next(iter(model.module.parameters())).flatten()[3] += 1e-4
        return 1.0

    monkeypatch.setattr(learning.LocalEngine, "step", leaky)
    check = learning.zero_rate(model, drawn)
    assert not check.passed and check.value == 1


def test_truncated_share(drawn: list[Sample]) -> None:
    for sample, reason in zip(drawn, ("length", "length", "length", "stop"), strict=True):
        sample.stop_reason = reason  # type: ignore[assignment]
    check = sampled.truncated(drawn, LIMIT)
    assert check.value == 0.75 and check.passed and "max_new_tokens" in check.detail
    for sample in drawn:
        sample.stop_reason = "length"
    assert not sampled.truncated(drawn, LIMIT).passed
    for sample in drawn:
        sample.stop_reason = "stop"
    assert "max_new_tokens" not in sampled.truncated(drawn, LIMIT).detail


def test_rewards_that_fail_and_groups_without_signal(tmp_path: Path, drawn: list[Sample]) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "def same(samples):\n    return [1.0] * len(samples)\n"
        "def split(samples):\n    return [float(s.index) for s in samples]\n"
        "def broken(samples):\n    raise RuntimeError('no')\n"
    )
    assert rewards.works(RewardSpec(function=f"{file}:split"), drawn).value == 0.5
    broken = rewards.works(RewardSpec(function=f"{file}:broken"), drawn)
    assert not broken.passed and "RuntimeError: no" in broken.detail

    def stage(function: str) -> RlStage:
        return RlStage(name="policy", prompts="p", reward=[RewardSpec(function=f"{file}:{function}")])

    assert rewards.spread(stage("same"), drawn, 2).value == 0.0
    assert not rewards.spread(stage("same"), drawn, 2).passed
    assert rewards.spread(stage("split"), drawn, 2).value == 1.0
