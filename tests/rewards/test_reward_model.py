"""Reward models as components: ids as sampled, steps where the model answers, doubt beside the score."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch

from ridgeline.data.steps import step_ends
from ridgeline.models.batch import Unit
from ridgeline.models.load import LanguageModel
from ridgeline.models.score_heads import HeadKind
from ridgeline.models.score_model import ScoreModel, score_forward, score_model_from
from ridgeline.rewards.combine import RewardSet
from ridgeline.rewards.reward_model import EnsembleDoubt, JudgeReward, ModelReward
from ridgeline.schema.errors import UsageError
from ridgeline.schema.records import Sample
from ridgeline.training.local import LocalEngine
from tests.models.families import make_model
from tests.rewards.samples import make
from tests.tiny import make_tokenizer
from tests.training.reward_jobs import KINDS

TOKENIZER = make_tokenizer()
TEXTS = ("I like it.\n\nIt is bad.\n\nYes.<|im_end|>", "No.<|im_end|>", "Yes.\n\nNo.\n\n<|im_end|>")


def samples() -> list[Sample]:
    made = [make(text, f"p{number}") for number, text in enumerate(TEXTS)]
    for sample in made:
        sample.prompt_ids = TOKENIZER("Write.")["input_ids"]
        sample.completion_ids = TOKENIZER(sample.text, add_special_tokens=False)["input_ids"]
    return made


def judge(kind: HeadKind) -> tuple[JudgeReward, ScoreModel]:
    language_model = LanguageModel(make_model("llama", vocab_size=len(TOKENIZER)), TOKENIZER, "test")
    model = score_model_from(language_model, layer=None, pooling="last", kind=kind)
    model.head.draw(2.0, seed=1)
    engine = LocalEngine()
    engine.add("judge", model, score_forward)
    ends = partial(step_ends, tokenizer=TOKENIZER, separator=kind.step_separator) if kind.has_steps else None
    reward = JudgeReward("prm", partial(engine.score, "judge"), step_ends=ends, heads=len(kind.combining))
    return reward, model


def by_hand(model: ScoreModel, sample: Sample) -> torch.Tensor:
    """P(right) after every completion token, from transformers' hidden states."""
    ids = torch.tensor([[*sample.prompt_ids, *sample.completion_ids]])
    with torch.no_grad():
        hidden = model.backbone(input_ids=ids).last_hidden_state[:, len(sample.prompt_ids) :]
        return model.kind.token_scores(model.head(hidden))[0]


@pytest.mark.parametrize("kind", [KINDS["process"], KINDS["process_3class"]])
def test_step_scores_stand_at_the_tokens_that_end_the_steps(kind: HeadKind) -> None:
    reward, model = judge(kind)
    found = reward.step_scores(samples())
    texts = [
        [TOKENIZER.decode(sample.completion_ids[: end + 1]) for end, _ in steps]
        for sample, steps in zip(samples(), found, strict=True)
    ]
    assert texts == [
        ["I like it.\n\n", "I like it.\n\nIt is bad.\n\n", TEXTS[0]],
        ["No.<|im_end|>"],
        ["Yes.\n\n", "Yes.\n\nNo.\n\n"],
    ]
    for sample, steps in zip(samples(), found, strict=True):
        expected = by_hand(model, sample)
        assert [value for _, value in steps] == pytest.approx(
            [float(expected[end]) for end, _ in steps], abs=1e-5
        )


def test_the_reward_aggregates_steps_and_no_other_token() -> None:
    reward, _ = judge(HeadKind("process", aggregate="mean"))
    steps = reward.step_scores(samples())
    means = [sum(value for _, value in own) / len(own) for own in steps]
    assert reward(samples()) == pytest.approx(means, abs=1e-5)


def test_an_outcome_model_aggregates_every_completion_token() -> None:
    reward, model = judge(HeadKind("outcome", aggregate="mean"))
    expected = [float(by_hand(model, sample).mean()) for sample in samples()]
    assert reward(samples()) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(UsageError, match="does not judge steps; train one with"):
        reward.step_scores(samples())


def test_doubt_is_recorded_beside_the_reward_and_never_added() -> None:
    reward, _ = judge(KINDS["members"])
    calls: list[int] = []
    inner = reward.score

    def counted(units: Sequence[Unit]) -> Any:
        calls.append(len(units))
        return inner(units)

    reward.score = counted
    scored = samples()
    RewardSet([(reward, 2.0)], [EnsembleDoubt(reward)]).score(scored)
    assert calls == [3], "the model runs once"
    for sample in scored:
        assert set(sample.rewards) == {"prm", "prm spread", "total"}
        assert float(sample.rewards["prm spread"] or 0) > 0
        assert sample.rewards["total"] == pytest.approx(2 * float(sample.rewards["prm"] or 0))


def test_a_single_head_has_no_doubt() -> None:
    reward, _ = judge(HeadKind())
    assert all(isinstance(value, float) for value in reward(samples()))
    assert reward.doubts == [None] * 3


def test_a_plain_component_scores_the_ids_as_they_are() -> None:
    seen: list[Unit] = []

    def score(units: Sequence[Unit]) -> list[float]:
        seen.extend(units)
        return [float(len(unit[0].targets)) for unit in units]

    lengths = [len(sample.completion_ids) for sample in samples()]
    assert ModelReward("length", score)(samples()) == lengths
    for sample, (row,) in zip(samples(), seen, strict=True):
        assert row.ids.tolist() == [*sample.prompt_ids, *sample.completion_ids]
        assert row.prefix == len(sample.prompt_ids)
