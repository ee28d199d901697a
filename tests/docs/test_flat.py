"""The flat teaching files compute what the library computes: every loss, and every parameter's gradient.

A flat file is plain torch on one padded batch; the library side goes through the engine, packed and split
into micro-batches. Both get the same weights and the same frozen numbers of a rollout.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.families import group, make_model, pure_float64
from tests.tiny import make_tiny_model, make_tokenizer
from torch import nn

from ridgeline.models.batch import MicroBatch, Row, Unit
from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import LanguageModel
from ridgeline.models.score_model import ScoreModel, score_forward, score_model_from, value_forward
from ridgeline.objectives.pair_axes import PairObjective, PairTerm
from ridgeline.objectives.policy import PRESETS
from ridgeline.schema.stages.common import Optimiser
from ridgeline.training.advantages import assign_advantages
from ridgeline.training.engine import Forward
from ridgeline.training.local import LocalEngine
from ridgeline.training.objective import Objective
from ridgeline.training.pairwise import PairwiseRanking
from ridgeline.training.policy_gradient import PolicyGradient, ValueRegression
from ridgeline.training.preference import PairwisePreference

FLAT = Path(__file__).resolve().parents[2] / "docs" / "flat"
FILES = sorted(path.stem for path in FLAT.glob("*.py"))
TIGHT = 1e-9
STORED = 2e-6
"""Fields of a row are float32, so what both sides derive from a rollout agrees to that."""


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    with pure_float64():
        yield


def flat(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"flat_{name}", FLAT / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def policy(seed: int = 0) -> Any:
    return make_model("llama", torch.float64, seed)


def scored(seed: int = 0) -> ScoreModel:
    """A score model with a head that is not 0, so that the backbone has a gradient."""
    language_model = LanguageModel(policy(seed), make_tokenizer(), "test")
    model = score_model_from(language_model, layer=None, pooling="last").double()
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(model.head.linear.weight, generator=generator)
    nn.init.normal_(model.head.linear.bias, generator=generator)
    return model


def library(
    module: nn.Module, forward: Forward, units: Sequence[Unit], objective: Objective
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients by the engine; ``module`` is left without gradients of its own."""
    engine = LocalEngine()
    engine.add(
        "learner", module, forward, packed=True, tokens_per_microbatch=20, optimiser=Optimiser(warmup=0)
    )
    metrics = engine.forward_backward("learner", units, objective)
    loss = sum(total / count for key, (total, count) in metrics.items() if key.startswith("loss/"))
    return loss, gradients(module)


def gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    """Of every parameter, in float64, and the module as it was before."""
    found = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in module.named_parameters()
    }
    module.zero_grad(set_to_none=True)
    return found


def assert_same(
    ours: tuple[float, dict[str, torch.Tensor]],
    value: torch.Tensor,
    theirs: dict[str, torch.Tensor],
    tolerance: float,
) -> None:
    loss, grads = ours
    assert loss == pytest.approx(value.item(), rel=tolerance)
    assert grads.keys() == theirs.keys()
    scale = max(float(g.abs().max()) for g in grads.values())
    assert scale > 1e-3
    for name, gradient in grads.items():
        assert float((gradient - theirs[name]).abs().max()) <= tolerance * scale, name


def rows_of(units: Sequence[Unit]) -> list[Row]:
    return [row for unit in units for row in unit]


def padded(rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask ``[B, T]`` as the flat files lay them out; padding is a token that also occurs."""
    width = max(len(row) for row in rows)
    ids_BT = torch.full((len(rows), width), 7)
    mask_BT = torch.zeros(len(rows), width, dtype=torch.float64)
    for number, row in enumerate(rows):
        ids_BT[number, : len(row)] = torch.from_numpy(row.ids)
        mask_BT[number, row.targets] = 1
    return ids_BT, mask_BT


def spread(rows: Sequence[Row], name: str, shape: torch.Size) -> torch.Tensor:
    """A field of the rows at its tokens' places in ``[B, T]``; nonsense elsewhere, which must not matter."""
    field_BT = torch.full(shape, 0.3, dtype=torch.float64)
    for number, row in enumerate(rows):
        field_BT[number, row.targets] = torch.from_numpy(row.fields[name]).double()
    return field_BT


def groups() -> list[Unit]:
    """Three prompts with three completions each, whose old and reference log-probs are near the policy's."""
    units = [group(5, [3, 1, 6], 1), group(2, [6, 2, 4], 2), group(7, [4, 4, 2], 3)]
    engine = LocalEngine()
    engine.add("frozen", policy(), PolicyForward())
    noise = np.random.default_rng(0)
    for row, score in zip(rows_of(units), engine.score("frozen", units), strict=True):
        n = len(row.targets)
        apart = np.where(np.arange(n) % 2, 0.3, -0.3) + 0.1 * noise.normal(size=n)
        row.fields["old_logp"] = (score["logp"] + apart).astype(np.float32)
        row.fields["sampler_logp"] = row.fields["old_logp"]
        row.fields["ref_logp"] = (score["logp"] + 0.4 * noise.normal(size=n)).astype(np.float32)
        row.fields["old_values"] = noise.normal(size=n).astype(np.float32)
    return units


REWARDS_PG = torch.tensor([[1.0, 0.0, 0.0], [0.5, 2.0, -1.0], [1.0, 1.0, 1.0]])


def test_the_files_are_flat() -> None:
    assert FILES == ["dpo", "grpo", "ppo", "reward_model"]
    for name in FILES:
        text = (FLAT / f"{name}.py").read_text(encoding="utf-8")
        assert len(text.splitlines()) < 200
        assert "import ridgeline" not in text and "from ridgeline" not in text


def test_token_logp_and_answer_logp_are_those_of_the_engine() -> None:
    units, module = groups(), policy()
    ids_BT, mask_BT = padded(rows_of(units))
    engine = LocalEngine()
    engine.add("frozen", policy(), PolicyForward())
    expected = [score["logp"] for score in engine.score("frozen", units)]
    with torch.no_grad():
        logp_BT = flat("grpo").token_logp(module, ids_BT, mask_BT)
        sums_B = flat("dpo").answer_logp(module, ids_BT, mask_BT)
    torch.testing.assert_close(flat("ppo").token_logp(module, ids_BT, mask_BT).detach(), logp_BT)
    assert not logp_BT[mask_BT == 0].any()
    for number, row in enumerate(rows_of(units)):
        np.testing.assert_allclose(logp_BT[number, row.targets], expected[number], rtol=1e-6)
        assert sums_B[number].item() == pytest.approx(float(expected[number].sum()), rel=1e-6)


def test_grpo() -> None:
    teach, units, module = flat("grpo"), groups(), policy()
    rows = rows_of(units)
    objective = replace(PRESETS["grpo"], kl_coefficient=teach.KL, clip_low=teach.CLIP, clip_high=teach.CLIP)
    assign_advantages(rows, REWARDS_PG, objective, kl_coefficient=teach.KL)
    advantages_B = teach.group_advantages(REWARDS_PG).flatten().double()
    for row, advantage in zip(rows, advantages_B, strict=True):
        np.testing.assert_allclose(row.fields["advantage"], advantage, rtol=STORED)
    assert not advantages_B[6:].any()  # the group of equal rewards
    ids_BT, mask_BT = padded(rows)
    batch = teach.Batch(
        ids_BT,
        mask_BT,
        torch.tensor([float(row.fields["advantage"][0]) for row in rows], dtype=torch.float64),
        spread(rows, "old_logp", ids_BT.shape),
        spread(rows, "ref_logp", ids_BT.shape),
    )
    value = teach.loss(module, batch)
    value.backward()
    theirs = gradients(module)
    gradient = PolicyGradient(objective, kl_coefficient=teach.KL)
    assert_same(library(module, PolicyForward(), units, gradient), value, theirs, TIGHT)
    with torch.no_grad():
        ratio_BT = (teach.token_logp(module, ids_BT, mask_BT) - batch.old_logp_BT).exp()
    # Both ends of the interval take part, each where the advantage makes it bind.
    good_BT, bad_BT = ((sign * advantages_B[:, None] > 0) * mask_BT.bool() for sign in (1, -1))
    assert (good_BT & (ratio_BT > 1 + teach.CLIP)).any() and (bad_BT & (ratio_BT < 1 - teach.CLIP)).any()


def ppo_batch(teach: ModuleType, units: Sequence[Unit]) -> Any:
    """The flat file's own shaping, GAE and whitening on the numbers of the rollout."""
    rows = rows_of(units)
    ids_BT, mask_BT = padded(rows)
    old, ref, values = (spread(rows, name, ids_BT.shape) for name in ("old_logp", "ref_logp", "old_values"))
    rewards_BT = teach.shaped_rewards(REWARDS_PG.flatten().double(), old, ref, mask_BT)
    advantages_BT, returns_BT = teach.gae(rewards_BT, values, mask_BT)
    return teach.Batch(ids_BT, mask_BT, old, values, teach.whiten(advantages_BT, mask_BT), returns_BT)


def ppo_objective(teach: ModuleType) -> Any:
    return replace(
        PRESETS["ppo"],
        kl_coefficient=teach.KL,
        clip_low=teach.CLIP,
        clip_high=teach.CLIP,
        gamma=teach.GAMMA,
        lam=teach.LAMBDA,
        value_coefficient=teach.VALUE_COEFFICIENT,
        value_clip=teach.VALUE_CLIP,
    )


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.7), (1.0, 0.0), (1.0, 1.0)])
def test_ppo_shaping_gae_and_whitening(gamma: float, lam: float) -> None:
    teach, units = flat("ppo"), groups()
    teach.GAMMA, teach.LAMBDA = gamma, lam
    assign_advantages(rows_of(units), REWARDS_PG, ppo_objective(teach), kl_coefficient=teach.KL)
    batch = ppo_batch(teach, units)
    for number, row in enumerate(rows_of(units)):
        for name, field_BT in (("advantage", batch.advantages_BT), ("returns", batch.returns_BT)):
            found = field_BT[number, row.targets]
            np.testing.assert_allclose(row.fields[name], found, rtol=2e-5, atol=STORED)


def test_ppo_policy_loss() -> None:
    teach, units, module = flat("ppo"), groups(), policy()
    assign_advantages(rows_of(units), REWARDS_PG, ppo_objective(teach), kl_coefficient=teach.KL)
    value = teach.policy_loss(module, ppo_batch(teach, units))
    value.backward()
    theirs = gradients(module)
    gradient = PolicyGradient(ppo_objective(teach), kl_coefficient=teach.KL)
    # Where the KL is charged to the reward there must be none in the loss.
    ours = library(module, PolicyForward(), units, gradient)
    assert_same(ours, value, theirs, STORED)


def test_ppo_value_loss() -> None:
    teach, units, model = flat("ppo"), groups(), scored()
    assign_advantages(rows_of(units), REWARDS_PG, ppo_objective(teach), kl_coefficient=teach.KL)
    critic = teach.Critic(model.backbone, model.backbone.config.hidden_size).double()
    critic.head.load_state_dict(model.head.linear.state_dict())
    batch = ppo_batch(teach, units)
    value = teach.VALUE_COEFFICIENT * teach.value_loss(critic, batch)
    value.backward()
    theirs = named_as_the_library(critic)
    regression = ValueRegression(coefficient=teach.VALUE_COEFFICIENT, clip=teach.VALUE_CLIP)
    assert_same(library(model, value_forward, units, regression), value, theirs, STORED)
    moved_BT = (critic(batch.ids_BT) - batch.old_values_BT).abs()[batch.mask_BT.bool()]
    assert (moved_BT > teach.VALUE_CLIP).any() and (moved_BT < teach.VALUE_CLIP).any()


def named_as_the_library(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name.replace("head.", "head.linear."): g for name, g in gradients(module).items()}


def pairs() -> list[Unit]:
    return [group(5, [3, 1], 1), group(2, [6, 2], 2), group(7, [4, 4], 3), group(3, [1, 5], 4)]


def sides(units: Sequence[Unit]) -> list[Row]:
    """The flat files put all chosen rows first."""
    return [unit[side] for side in (0, 1) for unit in units]


def test_dpo() -> None:
    teach, units, module = flat("dpo"), pairs(), policy()
    engine = LocalEngine()
    engine.add("frozen", policy(seed=1), PolicyForward())
    for row, score in zip(rows_of(units), engine.score("frozen", units), strict=True):
        row.fields["ref_logp"] = score["logp"].astype(np.float32)
    ids_BT, mask_BT = padded(sides(units))
    reference = [row.fields["ref_logp"].astype(np.float64).sum() for row in sides(units)]
    batch = teach.Batch(ids_BT, mask_BT, torch.tensor(reference, dtype=torch.float64))
    value, rewards_2N = teach.loss(module, batch)
    value.backward()
    theirs = gradients(module)
    objective = PairObjective(terms=(PairTerm(loss="dpo", options={"beta": teach.BETA}),))
    ours = library(module, PolicyForward(), units, PairwisePreference(objective))
    assert_same(ours, value, theirs, TIGHT)
    assert rewards_2N.shape == (2, 4)
    assert rewards_2N.abs().max() > 0.1  # far enough from policy = reference for the sigmoid to bend


def test_dpo_starts_at_log_two() -> None:
    teach, module = flat("dpo"), policy()
    ids_BT, mask_BT = padded(sides(pairs()))
    with torch.no_grad():
        batch = teach.Batch(ids_BT, mask_BT, teach.answer_logp(module, ids_BT, mask_BT))
        value, rewards_2N = teach.loss(module, batch)
    assert value.item() == pytest.approx(np.log(2))
    assert not rewards_2N.any()


def test_reward_model() -> None:
    teach, units, model = flat("reward_model"), pairs(), scored()
    flat_model = teach.RewardModel(model.backbone, model.backbone.config.hidden_size).double()
    flat_model.head.load_state_dict(model.head.linear.state_dict())
    ids_BT, _ = padded(sides(units))
    batch = teach.Batch(ids_BT, torch.tensor([len(row) - 1 for row in sides(units)]))
    value, scores_2N = teach.loss(flat_model, batch)
    value.backward()
    theirs = named_as_the_library(flat_model)
    ranking = PairwiseRanking(centering=teach.CENTERING)
    assert_same(library(model, score_forward, units, ranking), value, theirs, TIGHT)
    with torch.no_grad():
        expected = score_forward(model, MicroBatch.of(units), False)["score"].view(-1, 2).T
    torch.testing.assert_close(scores_2N, expected)


def test_the_flat_reward_model_and_critic_are_one_module() -> None:
    """What ppo.py says of initialising a critic: the score is the value after the last token."""
    reward_model, ppo, model = flat("reward_model"), flat("ppo"), scored()
    rows = sides(pairs())
    ids_BT, _ = padded(rows)
    score = reward_model.RewardModel(model.backbone, 32).double()
    critic = ppo.Critic(model.backbone, 32).double()
    nn.init.normal_(score.head.weight)
    critic.load_state_dict(score.state_dict())
    last_B = torch.tensor([len(row) - 1 for row in rows])
    longer_BT = torch.cat([ids_BT, ids_BT[:, :1]], 1)
    values_BT = critic(longer_BT)
    torch.testing.assert_close(
        score(reward_model.Batch(ids_BT, last_B)), values_BT[torch.arange(len(rows)), last_B + 1]
    )


@pytest.mark.parametrize("name", FILES)
def test_the_file_runs(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_tiny_model(tmp_path / "model")
    flat(name).main(["--model", str(model), "--steps", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["step", "0"], ["step", "1"]]
    assert "nan" not in "".join(lines)
