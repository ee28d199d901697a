"""Heads of every kind: where they read, what they make of it, and that a folder remembers it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.families import group, ids, mixed_units, pure_float64
from tests.tiny import make_tokenizer
from tests.training.reward_jobs import KINDS, scored

from ridgeline.models.batch import MicroBatch, Row, completion_row
from ridgeline.models.score_heads import SHARED, HeadKind, ScoreHead
from ridgeline.models.score_model import (
    Pooling,
    feature_forward,
    head_forward,
    load_score_model,
    score_forward,
    token_forward,
)
from ridgeline.schema.errors import UsageError

OUTCOME, PROCESS, CLASSES = KINDS["outcome"], KINDS["process"], KINDS["process_3class"]
POOLINGS: list[Pooling] = ["last", "mean", "mean+last"]


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    with pure_float64():
        yield


def cut(row: Row, tokens: int) -> Row:
    """The row whose completion ends after ``tokens`` tokens."""
    end = row.prefix + tokens
    return completion_row(row.ids[: row.prefix].tolist(), row.ids[row.prefix : end].tolist())


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_verdict_at_a_token_has_seen_that_token_and_none_behind(pooling: Pooling, packed: bool) -> None:
    """One too early or too late would show: every prefix ends somewhere else."""
    model = scored(OUTCOME, torch.float64, pooling)
    units = [group(5, [4, 2], 1), group(3, [6], 2)]
    batch = MicroBatch.of(units)
    heads_BNK = model.heads(batch, packed=packed)
    assert heads_BNK.shape == (*batch.mask_BN.shape, 1)
    for number, row in enumerate(batch.rows):
        n = len(row.targets)
        logits = [
            model.heads(MicroBatch.of([[cut(row, t)]]), packed=False)[0, -1, 0] for t in range(1, n + 1)
        ]
        torch.testing.assert_close(heads_BNK[number, :n, 0], torch.stack(logits), atol=1e-9, rtol=0)
        assert len({round(float(x.detach()), 6) for x in logits}) == n


def test_the_last_token_by_hand() -> None:
    """Logits against transformers' hidden states, with the padded row the shorter one."""
    model = scored(OUTCOME, torch.float64)
    rows = [group(4, [3], 1)[0], group(2, [7], 2)[0]]
    heads_BNK = model.heads(MicroBatch.of([[row] for row in rows]), packed=False)
    for number, row in enumerate(rows):
        hidden = model.backbone(input_ids=torch.from_numpy(row.ids)[None]).last_hidden_state[0]
        expected = model.head(hidden[row.prefix :])
        torch.testing.assert_close(heads_BNK[number, : len(row.targets)], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("packed", [False, True])
def test_a_process_model_reads_the_ends_of_steps(packed: bool) -> None:
    """Between its targets a row is context; the same places of a row with every token scored agree."""
    model = scored(CLASSES, torch.float64)
    whole = group(4, [9], 1)[0]
    steps = Row(whole.ids, whole.targets[[2, 5, 8]], whole.prefix)
    every = model.heads(MicroBatch.of([[whole]]), packed=False)[0]
    some = model.heads(MicroBatch.of([group(3, [5], 2), [steps]]), packed=packed)[1, :3]
    torch.testing.assert_close(some, every[[2, 5, 8]], atol=1e-9, rtol=0)
    assert some.shape == (3, 3)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_neighbours_do_not_matter(name: str, packed: bool) -> None:
    model = scored(KINDS[name], torch.float64)
    together = score_forward(model, MicroBatch.of(mixed_units()), packed)
    for line, row in enumerate(row for unit in mixed_units() for row in unit):
        alone = score_forward(model, MicroBatch.of([[row]]), False)
        assert alone.keys() == together.keys()
        for key, value in alone.items():
            ours = together[key][line : line + 1]
            ours = ours[:, : value.shape[1]] if value.ndim > 1 else ours
            torch.testing.assert_close(ours, value, atol=1e-9, rtol=0)


def test_rewards_are_what_the_kind_makes_of_the_heads() -> None:
    batch = MicroBatch.of([group(5, [3], 1), group(2, [6], 2)])

    def heads_and_rewards(kind: HeadKind) -> tuple[torch.Tensor, torch.Tensor]:
        model = scored(kind, torch.float64)
        return model.heads(batch, packed=False), model.scores(batch, packed=False)

    heads, rewards = heads_and_rewards(HeadKind("outcome", aggregate="last"))
    torch.testing.assert_close(rewards, torch.sigmoid(torch.stack([heads[0, 2, 0], heads[1, 5, 0]])))
    heads, rewards = heads_and_rewards(HeadKind("process", aggregate="min"))
    lowest = torch.stack([torch.sigmoid(heads[0, :3, 0]).amin(), torch.sigmoid(heads[1, :, 0]).amin()])
    torch.testing.assert_close(rewards, lowest)
    heads, rewards = heads_and_rewards(HeadKind("process_3class", aggregate="product"))
    good = torch.softmax(heads, -1)[..., 1:].sum(-1)
    torch.testing.assert_close(rewards, torch.stack([good[0, :3].prod(), good[1].prod()]))
    heads, rewards = heads_and_rewards(HeadKind(heads=("a", "b", SHARED), combine="mean"))
    torch.testing.assert_close(rewards, heads[:, 0, :2].mean(-1))
    heads, rewards = heads_and_rewards(HeadKind(heads=("a", "b", SHARED), combine="b"))
    assert torch.equal(rewards, heads[:, 0, 1])
    heads, rewards = heads_and_rewards(HeadKind(heads=("a", "b", SHARED), combine=SHARED))
    assert torch.equal(rewards, heads[:, 0, 2])


def test_doubt_is_the_spread_of_what_is_combined() -> None:
    batch = MicroBatch.of(mixed_units())
    kind = HeadKind(heads=("a", "b", SHARED))
    outputs = score_forward(scored(kind, torch.float64), batch, False)
    torch.testing.assert_close(outputs["doubt"], outputs["heads"][:, 0, :2].std(-1, correction=0))
    for single in (HeadKind(), HeadKind(heads=("a", "b", SHARED), combine="a"), OUTCOME):
        assert "doubt" not in score_forward(scored(single, torch.float64), batch, False)


@pytest.mark.parametrize("name", KINDS)
def test_token_scores_of_every_kind(name: str) -> None:
    """Probabilities of outcomes and steps; of a ranking model the score of what is there so far."""
    kind = KINDS[name]
    model = scored(kind, torch.float64)
    batch = MicroBatch.of(mixed_units())
    scores_BN = token_forward(model, batch, False)["token_score"]
    assert scores_BN.shape == batch.mask_BN.shape
    if kind.per_token:
        assert ((scores_BN >= 0) & (scores_BN <= 1)).all()
        torch.testing.assert_close(scores_BN, score_forward(model, batch, False)["token_score"])
    else:
        last = torch.stack(
            [line[len(row.targets) - 1] for line, row in zip(scores_BN, batch.rows, strict=True)]
        )
        torch.testing.assert_close(last, model.scores(batch, packed=False), atol=1e-9, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", KINDS)
def test_save_and_reload_are_identical(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = scored(KINDS[name], dtype)
    model.head.standardise_scores(torch.randn(9, model.kind.outputs) * 3 + 1)
    model.save(tmp_path, make_tokenizer())
    again = load_score_model(tmp_path, dtype=dtype)
    assert again.kind == KINDS[name] and again.pooling == "last"
    batch = MicroBatch.of(mixed_units())
    for forward in (score_forward, token_forward):
        ours, theirs = forward(model, batch, True), forward(again, batch, True)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert {p.dtype for p in again.head.parameters()} == {torch.float32}


def test_a_folder_of_an_older_version_is_read(tmp_path: Path) -> None:
    """It named the pooling only, and stored offset and spread without an axis."""
    model = scored(HeadKind())
    model.head.standardise_scores(torch.randn(9, 1) * 3 + 1)
    model.save(tmp_path, make_tokenizer())
    (tmp_path / "score_head.json").write_text(json.dumps({"pooling": "last"}))
    tensors = load_file(tmp_path / "score_head.safetensors")
    tensors |= {name: tensors[name].reshape(()) for name in ("offset", "spread")}
    save_file(tensors, tmp_path / "score_head.safetensors")
    again = load_score_model(tmp_path)
    batch = MicroBatch.of(mixed_units())
    assert again.kind == HeadKind()
    assert torch.equal(again.scores(batch, packed=False), model.scores(batch, packed=False))


@pytest.mark.parametrize(
    "name", ["outcome", "pooled_outcome", "process", "process_3class", "members", "groups"]
)
def test_only_one_head_that_ranks_is_a_critic(name: str) -> None:
    model = scored(KINDS[name])
    reason = "gives probabilities, not returns" if model.kind.per_token else "3 heads cannot start a critic"
    with pytest.raises(UsageError, match=reason):
        model.values(MicroBatch.of(mixed_units()), packed=False)
    for kind in (HeadKind(), HeadKind("grouped"), HeadKind("plackett_luce")):
        assert scored(kind).values(MicroBatch.of(mixed_units()), packed=False).ndim == 2


def test_cached_features_of_tokens_score_like_the_whole_model() -> None:
    model = scored(OUTCOME)
    batch = MicroBatch.of(mixed_units())
    features_BNF = feature_forward(model, batch, True)["features"]
    for row, features in zip(batch.rows, features_BNF, strict=True):
        row.features = features[: len(row.targets)].detach().numpy().astype(np.float32)
    cached = head_forward(model.head, batch, True)["heads"]
    whole = model.heads(batch, packed=True)
    mask = batch.mask_BN[..., None]
    torch.testing.assert_close(
        torch.where(mask, cached, 0.0), torch.where(mask, whole, 0.0), atol=1e-4, rtol=1e-4
    )


def test_starts_of_members_differ_and_have_the_deviation_asked_for() -> None:
    head = ScoreHead(4000, 3)
    head.draw(0.5, seed=7)
    scores = head(torch.randn(500, 4000, generator=torch.Generator().manual_seed(0)))
    assert scores.std(0).tolist() == pytest.approx([0.5] * 3, rel=0.1)
    assert float(torch.corrcoef(scores.T.detach())[0, 1].abs()) < 0.2
    again = ScoreHead(4000, 3)
    again.draw(0.5, seed=7)
    assert torch.equal(again.linear.weight, head.linear.weight)


def test_each_output_is_standardised_by_itself() -> None:
    head = ScoreHead(5, 3)
    head.draw(4.0, seed=1)
    features = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)) + torch.tensor(
        [9.0, 0, 0, 0, 0]
    )
    head.standardise_scores(head(features).detach())
    scores = head(features).detach()
    torch.testing.assert_close(scores.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(scores.std(0), torch.ones(3), atol=1e-4, rtol=0)


def test_a_head_may_score_a_prompt_without_a_completion() -> None:
    model = scored(OUTCOME)
    empty = completion_row(ids(5, 1), [])
    outputs = score_forward(model, MicroBatch.of([[empty], group(3, [2], 7)]), False)
    assert outputs["score"][0] == 0 and outputs["score"][1] > 0
