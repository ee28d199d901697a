from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.families import group, ids, make_model, mixed_units, pure_float64
from tests.tiny import make_tokenizer

from ridgeline.models.batch import MicroBatch, Row, completion_row
from ridgeline.models.load import LanguageModel
from ridgeline.models.score_model import (
    Pooling,
    ScoreHead,
    ScoreModel,
    feature_forward,
    head_forward,
    load_score_model,
    score_forward,
    score_model_from,
    value_forward,
)
from ridgeline.schema.errors import UsageError

POOLINGS: list[Pooling] = ["last", "mean", "mean+last"]


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    with pure_float64():
        yield


def make_score_model(
    pooling: Pooling = "last",
    family: str = "llama",
    dtype: torch.dtype = torch.float64,
    layer: int | None = None,
) -> ScoreModel:
    language_model = LanguageModel(make_model(family, dtype), make_tokenizer(), "test")
    model = score_model_from(language_model, layer=layer, pooling=pooling)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        model.head.linear.weight.normal_(generator=generator)
        model.head.linear.bias.fill_(0.3)
        model.head.shift.normal_(generator=generator)
        model.head.scale.fill_(1.7)
        model.head.offset.fill_(0.2)
        model.head.spread.fill_(2.5)
    return model.to(dtype) if dtype == torch.float64 else model


def cut(row: Row, tokens: int) -> Row:
    """The row whose completion ends after ``tokens`` tokens."""
    end = row.prefix + tokens
    return completion_row(row.ids[: row.prefix].tolist(), row.ids[row.prefix : end].tolist())


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_value_is_the_score_of_the_prefix(pooling: Pooling, packed: bool) -> None:
    """V(s_t) is what the reward model says of the completion cut to t tokens, t = 0 included."""
    model = make_score_model(pooling)
    units = [group(5, [4, 2], 1), group(3, [6], 2)]
    values_BN = model.values(MicroBatch.of(units), packed=packed)
    scores_B = model.scores(MicroBatch.of(units), packed=packed)
    for number, row in enumerate(row for unit in units for row in unit):
        n = len(row.targets)
        prefixes = [model.scores(MicroBatch.of([[cut(row, t)]]), packed=False) for t in range(n + 1)]
        expected = torch.cat(prefixes)
        torch.testing.assert_close(values_BN[number, :n], expected[:-1], atol=1e-9, rtol=0)
        torch.testing.assert_close(scores_B[number], expected[-1], atol=1e-9, rtol=0)
        assert len(set(expected.tolist())) == n + 1


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_by_hand(pooling: Pooling) -> None:
    """Mean over the last prompt token and the completion; last is the final completion token."""
    model = make_score_model(pooling)
    (row,) = group(4, [3], 1)
    hidden_TH = model.backbone(input_ids=torch.from_numpy(row.ids)[None]).last_hidden_state[0]
    last, mean = hidden_TH[6], hidden_TH[3:7].mean(0)
    expected = {"last": last, "mean": mean, "mean+last": torch.cat([mean, last])}[pooling]
    features = model.final_features(MicroBatch.of([[row]]), packed=False)[0]
    torch.testing.assert_close(features, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_neighbours_do_not_matter(pooling: Pooling, packed: bool) -> None:
    model = make_score_model(pooling)
    together = model.scores(MicroBatch.of(mixed_units()), packed=packed)
    rows = [row for unit in mixed_units() for row in unit]
    alone = torch.cat([model.scores(MicroBatch.of([[row]]), packed=False) for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-9, rtol=0)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_an_empty_completion_is_scored_at_its_prompt_not_at_a_neighbour(pooling: Pooling) -> None:
    model = make_score_model(pooling)
    empty = completion_row(ids(5, 1), [])
    alone = model.scores(MicroBatch.of([[empty]]), packed=False)
    behind = model.scores(MicroBatch.of([group(3, [2], 7), [empty]]), packed=False)
    torch.testing.assert_close(behind[1], alone[0], atol=1e-9, rtol=0)
    longer = MicroBatch.of([[completion_row(ids(5, 1), [9])]])
    assert model.values(longer, packed=False)[0, 0].item() == pytest.approx(alone.item(), abs=1e-9)


@pytest.mark.parametrize("packed", [False, True])
def test_gradients_of_layouts_agree(packed: bool) -> None:
    def gradient(batches: list[MicroBatch], packed: bool) -> list[torch.Tensor]:
        model = make_score_model("mean+last")
        for batch in batches:
            model.scores(batch, packed=packed).square().sum().backward()
            (model.values(batch, packed=packed) * batch.mask_BN).square().sum().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    rows = [row for unit in mixed_units() for row in unit]
    whole = gradient([MicroBatch.of(mixed_units())], packed)
    single = gradient([MicroBatch.of([[row]]) for row in rows], False)
    scale = max(float(g.abs().max()) for g in single)
    for ours, theirs in zip(whole, single, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9 * scale, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "gemma3", "olmo2"])
def test_a_layer_cut_is_that_hidden_state_through_the_final_norm(family: str) -> None:
    full = make_model(family)
    model = make_score_model("last", family, torch.float32, layer=1)
    assert model.backbone.config.num_hidden_layers == 1
    batch = torch.tensor([ids(9, 1)])
    states = full(input_ids=batch, output_hidden_states=True).hidden_states
    norm = full.base_model.ln_f if family == "gpt2" else full.base_model.norm
    ours = model.backbone(input_ids=batch).last_hidden_state
    torch.testing.assert_close(ours, norm(states[1]), atol=1e-5, rtol=1e-5)
    whole = make_score_model("last", family, torch.float32).backbone(input_ids=batch).last_hidden_state
    torch.testing.assert_close(whole, states[-1], atol=1e-5, rtol=1e-5)


def test_too_many_layers_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="layer = 3, but the model has 2 layers"):
        make_score_model(layer=3)


def test_the_score_model_owns_its_weights() -> None:
    language_model = LanguageModel(make_model("llama"), make_tokenizer(), "test")
    model = score_model_from(language_model, layer=None, pooling="last")
    before = [p.clone() for p in model.parameters()]
    with torch.no_grad():
        for p in language_model.module.parameters():
            p.zero_()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert model.scores(MicroBatch.of([group(3, [2], 1)]), packed=False).item() == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_save_and_reload_are_identical(pooling: Pooling, dtype: torch.dtype, tmp_path: Path) -> None:
    model = make_score_model(pooling, dtype=dtype)
    model.save(tmp_path, make_tokenizer())
    again = load_score_model(tmp_path, dtype=dtype)
    batch = MicroBatch.of(mixed_units())
    assert torch.equal(again.scores(batch, packed=True), model.scores(batch, packed=True))
    assert torch.equal(again.values(batch, packed=True), model.values(batch, packed=True))
    assert {p.dtype for p in again.head.parameters()} == {torch.float32}
    assert not again.backbone.training


def test_a_reward_model_initialises_a_critic(tmp_path: Path) -> None:
    """No conversion: the critic's value of a finished state is the reward the judge gave."""
    judge = make_score_model("mean", dtype=torch.float32)
    judge.save(tmp_path, make_tokenizer())
    critic = load_score_model(tmp_path)
    (row,) = group(4, [5], 2)
    longer = completion_row(row.ids[:4].tolist(), [*row.ids[4:].tolist(), 9])
    reward = judge.scores(MicroBatch.of([[row]]), packed=False)
    value = critic.values(MicroBatch.of([[longer]]), packed=False)[0, 5]
    assert float(value) == pytest.approx(float(reward), abs=1e-5)
    value.backward()
    assert all(p.grad is not None for name, p in critic.named_parameters() if "head" in name)


def test_a_folder_without_head_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no reward model"):
        load_score_model(tmp_path)


def test_a_missing_backbone_weight_is_not_replaced_by_random_numbers(tmp_path: Path) -> None:
    make_score_model(dtype=torch.float32).save(tmp_path, make_tokenizer())
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop("layers.0.mlp.up_proj.weight")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match="up_proj"):
        load_score_model(tmp_path)


def test_the_saved_head_is_plain_files(tmp_path: Path) -> None:
    make_score_model("mean", dtype=torch.float32).save(tmp_path, make_tokenizer())
    config = json.loads((tmp_path / "score_head.json").read_text())
    assert (config["pooling"], config["loss"], config["heads"]) == ("mean", "bradley_terry", ["score"])
    assert load_file(tmp_path / "score_head.safetensors")["linear.weight"].shape == (1, 32)


def test_standardised_features_and_scores() -> None:
    head = ScoreHead(4)
    features = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * 3 + 5
    features[:, 2] = 7.0  # constant: must not be divided by zero
    head.standardise_features(features)
    torch.nn.init.constant_(head.linear.weight, 1.0)
    standard = (features - head.shift) / head.scale
    torch.testing.assert_close(standard.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard.std(0), torch.tensor([1.0, 1.0, 0.0, 1.0]), atol=1e-5, rtol=0)
    for _ in range(2):  # a second fit starts from the scores as they are then
        head.standardise_scores(head(features).detach())
        scores = head(features).detach()[:, 0]
        assert float(scores.mean()) == pytest.approx(0, abs=1e-5)
        assert float(scores.std()) == pytest.approx(1, abs=1e-5)
    order = features.sub(head.shift).div(head.scale).sum(1).argsort()
    assert torch.equal(scores.argsort(), order)  # the ranking is untouched
    head.standardise_scores(scores[:1, None])
    assert torch.isfinite(head(features)).all()


def test_standardisation_is_no_parameter() -> None:
    names = {name for name, _ in ScoreHead(3).named_parameters()}
    assert names == {"linear.weight", "linear.bias"}


def test_cached_features_score_like_the_whole_model() -> None:
    model = make_score_model("mean+last")
    batch = MicroBatch.of(mixed_units())
    features = feature_forward(model, batch, True)["features"]
    for row, feature in zip(batch.rows, features, strict=True):
        row.features = feature.detach().numpy().astype(np.float32)
    scores = score_forward(model, batch, True)["score"]
    heads = head_forward(model.head, batch, True)["heads"]
    assert heads.shape == (len(batch.rows), 1, 1)
    torch.testing.assert_close(heads[:, 0, 0], scores, atol=1e-4, rtol=1e-4, check_dtype=False)
    assert value_forward(model, batch, True)["values"].shape == batch.mask_BN.shape


@pytest.mark.parametrize("take", [False, True])
@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_the_layers_are_copied_unless_they_are_taken(family: str, take: bool) -> None:
    source = LanguageModel(make_model(family, torch.float32), make_tokenizer(), "test")
    tokens = torch.arange(1, 9)[None]
    model = score_model_from(source, layer=None, pooling="last", take=take)
    theirs, ours = (dict(each.named_parameters()) for each in (source.module.base_model, model.backbone))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(weight.requires_grad and weight.dtype == torch.float32 for weight in ours.values())
    assert all((ours[name].data_ptr() == theirs[name].data_ptr()) == take for name in ours)
    with torch.no_grad():
        expected = source.module.base_model(tokens).last_hidden_state
        assert torch.equal(model.backbone(tokens).last_hidden_state, expected)
