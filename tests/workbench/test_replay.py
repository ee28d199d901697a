"""One recorded rollout through many objectives: against arithmetic by hand, and the model's gradient."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.stages import recipes

import ridgeline as rl
from ridgeline.models.batch import MicroBatch
from ridgeline.models.forward import PolicyForward, token_scores
from ridgeline.models.load import LanguageModel
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.presets import PRESETS
from ridgeline.rollout.plain import PlainSampler
from ridgeline.rollout.store import write_samples
from ridgeline.schema.errors import DataError, RidgelineError, UsageError
from ridgeline.schema.records import Sample
from ridgeline.schema.run_folder import RunFolder
from ridgeline.schema.stages.common import Optimiser, Sampling
from ridgeline.training.local import LocalEngine
from ridgeline.training.policy_gradient import PolicyGradient
from ridgeline.workbench import sampling as sampling_
from ridgeline.workbench.replay import Replay, Replayed, replay
from ridgeline.workbench.replay_measures import cosine, most_different, spread_of
from ridgeline.workbench.replay_served import serve
from ridgeline.workbench.replay_source import find_rollouts

LENGTHS = (2, 6, 3, 5)
REWARDS = (0.0, 1.0, 2.0, 5.0)
TOKENS = sum(LENGTHS)
FREE = replace(PRESETS["grpo"], kl_coefficient=0.0)
ZSCORES = [s * d / (d * math.sqrt(2) + 1e-4) for d, s in ((0.5, -1), (0.5, 1), (1.5, -1), (1.5, 1))]
FIRST = "step-000000.parquet"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def model(world: Path) -> LanguageModel:
    return sampling_.load(str(world / "model"), dtype="float32")


def draw(model: LanguageModel, *, temperature: float = 1.0) -> list[Sample]:
    """Two prompts, two samples each, cut to unequal lengths; the log-probs of what is left stay true."""
    how = Sampling(max_new_tokens=8, temperature=temperature)
    samples = sampling_.sample(model, ["the sea", "rain"], how, samples=2, seed=3)
    for sample, length, reward in zip(samples, LENGTHS, REWARDS, strict=True):
        assert len(sample.completion_ids) >= length
        for field in ("completion_ids", "logprobs", "generated"):
            setattr(sample, field, getattr(sample, field)[:length])
        sample.rewards = {"spread": reward, "total": reward}
    return samples


def write_run(path: Path, world: Path, samples: list[Sample], *, file: str = FIRST, **changes: Any) -> Path:
    """A run of one rl stage ``policy`` that has left one rollout."""
    run = RunFolder(path)
    run.path.mkdir(parents=True, exist_ok=True)
    run.write_recipe(recipes.recipe(world, recipes.rl(world, samples_per_prompt=2, **changes)))
    write_samples(run.stage(0, "policy").samples / file, samples)
    return run.path


@pytest.fixture
def run(tmp_path: Path, world: Path, model: LanguageModel) -> Path:
    return write_run(tmp_path / "run", world, draw(model))


def replay_run(run: Path, objectives: Mapping[str, PolicyObjective] | Sequence[str], **more: Any) -> Replay:
    return replay(f"{run}:policy", objectives, **more)


def test_rloo_pushes_g_over_g_minus_one_times_as_hard_as_dr_grpo(run: Path) -> None:
    """On-policy, rewards 0, 1 and 2, 5: centred -+0.5 and -+1.5, left out -+1 and -+3, over 4 completions."""
    pair = {
        "dr_grpo": replace(PRESETS["dr_grpo"], length=1),
        "rloo": replace(PRESETS["max_rl"], advantage="leave_one_out"),
    }
    found = replay_run(run, pair, stale=0)
    centred, left_out = found.objectives
    for push, advantage in zip(centred.pushes, (-0.5, 0.5, -1.5, 1.5), strict=True):
        assert push.tolist() == pytest.approx([advantage / 4] * len(push), rel=1e-4)
    for push, weaker in zip(left_out.pushes, centred.pushes, strict=True):
        assert push == pytest.approx(2 * weaker, rel=1e-4)
    assert left_out.gradient_norm == pytest.approx(2 * centred.gradient_norm, rel=1e-4)
    assert left_out.cosine == pytest.approx(1, abs=1e-5)
    assert centred.ratio == 1 and centred.outside == 0
    assert centred.loss == pytest.approx(
        -sum(a * n for a, n in zip((-0.5, 0.5, -1.5, 1.5), LENGTHS, strict=True)) / 4
    )


def test_dr_grpo_divides_by_the_limit_of_the_stage(tmp_path: Path, world: Path, model: LanguageModel) -> None:
    run = write_run(tmp_path / "run", world, draw(model), sampling={"max_new_tokens": 20})
    (found,) = replay_run(run, ["dr_grpo"], stale=0).objectives
    assert found.pushes[3].tolist() == pytest.approx([1.5 / 4 / 20] * 5, rel=1e-4)


def test_grpo_and_dapo_weigh_lengths_differently(run: Path) -> None:
    """z-scores over 4 completions and their own lengths, or over all 16 tokens."""
    found = replay_run(run, {"grpo": FREE, "dapo": PRESETS["dapo"]}, stale=0)
    grpo, dapo = found.objectives
    for row, (z, length) in enumerate(zip(ZSCORES, LENGTHS, strict=True)):
        assert grpo.pushes[row].tolist() == pytest.approx([z / length / 4] * length, rel=1e-4)
        assert dapo.pushes[row].tolist() == pytest.approx([z / TOKENS] * length, rel=1e-4)
    # 2 and 3 tokens are short. Push per advantage: short (1 + 1) / 5 tokens, long 2 / 11, all 4 / 16.
    assert grpo.spread.short == pytest.approx((2 / 5) / (4 / 16), rel=1e-3)
    assert grpo.spread.long == pytest.approx((2 / 11) / (4 / 16), rel=1e-3)
    assert dapo.spread.short == pytest.approx(1, rel=1e-4) and dapo.spread.long == pytest.approx(1, rel=1e-4)
    assert (grpo.spread.up, grpo.spread.down, grpo.spread.untouched) == (11 / 16, 5 / 16, 0)
    # The two tokens pushed hardest are those of the shortest completion.
    assert grpo.spread.strongest == pytest.approx(1 / 4, rel=1e-3)
    assert dapo.cosine is not None and dapo.cosine < 0.99


def test_clipping_stops_one_side_only(tmp_path: Path, world: Path, model: LanguageModel) -> None:
    """Two tokens with ratio 1.5: the one that was pushed up already is clipped, the other pushed 1.5 fold."""
    samples = draw(model)
    for row in (0, 1):
        samples[row].logprobs[1] -= math.log(1.5)
    run = write_run(tmp_path / "run", world, samples)
    dapo, cispo = replay_run(run, ["dapo", "cispo"]).objectives
    assert dapo.pushes[1].tolist() == pytest.approx(
        [ZSCORES[1] / TOKENS, 0, *[ZSCORES[1] / TOKENS] * 4], rel=1e-3
    )
    assert dapo.pushes[0].tolist() == pytest.approx(
        [ZSCORES[0] / TOKENS, 1.5 * ZSCORES[0] / TOKENS], rel=1e-3
    )
    assert (dapo.clipped, dapo.outside) == (1 / TOKENS, 2 / TOKENS)
    assert dapo.ratio == pytest.approx((TOKENS + 1) / TOKENS, rel=1e-4)
    assert (dapo.spread.up, dapo.spread.untouched) == (10 / 16, 1 / 16)
    assert cispo.pushes[1][1] == pytest.approx(1.5 * ZSCORES[1] / TOKENS, rel=1e-3)
    assert cispo.clipped == 0


def served_presets() -> list[str]:
    return [name for name, o in PRESETS.items() if not o.needs_critic and o.advantage != "greedy_baseline"]


def test_the_push_pulled_back_through_the_model_is_the_gradient(
    tmp_path: Path, world: Path, model: LanguageModel
) -> None:
    """For every preset, off-policy: gradient = -sum_t push_t grad logp_t, here without the engine."""
    samples, noise = draw(model), np.random.default_rng(0)
    for sample, success in zip(samples, (0.0, 1.0, 1.0, 0.0), strict=True):
        sample.rewards = {recipes.reward(world, "spread"): success, "total": success}
        sample.logprobs = [value + noise.normal(0, 0.15) for value in sample.logprobs]
        last = len(sample.completion_ids) - 1
        sample.step_rewards = [(0, noise.normal()), (last, success)]
    path = write_run(tmp_path / "run", world, samples)
    found = replay_run(path, served_presets())
    fresh = sampling_.load(str(world / "model"), dtype="float32").module.requires_grad_(True)
    batch = MicroBatch.of([[row] for row in serve(find_rollouts(f"{path}:policy")).rows])
    logp_BN = token_scores(fresh, batch, packed=False)["logp"]
    first: torch.Tensor | None = None
    for each in found.objectives:
        slope_BN = torch.zeros_like(logp_BN)
        for row, push in enumerate(each.pushes):
            slope_BN[row, : len(push)] = -torch.from_numpy(push)
        parts = torch.autograd.grad(logp_BN, list(fresh.parameters()), slope_BN, retain_graph=True)
        gradient = torch.cat([part.flatten() for part in parts])
        first = gradient if first is None else first
        assert each.gradient_norm == pytest.approx(float(gradient.norm()), rel=1e-3), each.name
        expected = float(torch.cosine_similarity(first, gradient, dim=0))
        assert each.cosine == pytest.approx(expected, abs=1e-3), each.name
    assert len(found.objectives) == len(served_presets()) and not found.left_out


WORK = [{"tokens_per_microbatch": 1}, {"layout": "packed"}, {"layout": "padded", "checkpointing": True}]


@pytest.mark.parametrize("work", WORK)
def test_how_a_step_is_cut_changes_nothing(
    tmp_path: Path, world: Path, model: LanguageModel, work: dict[str, Any]
) -> None:
    samples = draw(model)
    for sample in samples:
        sample.logprobs = [value - 0.1 for value in sample.logprobs]
    names = ["grpo", "rloo", "dapo", "gspo", "topr"]
    whole = replay_run(write_run(tmp_path / "a", world, samples, work={"layout": "padded"}), names)
    cut = replay_run(write_run(tmp_path / "b", world, samples, work=work), names)
    for one, other in zip(whole.objectives, cut.objectives, strict=True):
        assert numbers(other) == pytest.approx(numbers(one), rel=1e-3, abs=1e-5)
        for left, right in zip(one.pushes, other.pushes, strict=True):
            assert right == pytest.approx(left, rel=1e-3, abs=1e-6)
    assert cut.completion == whole.completion


def numbers(line: Replayed) -> dict[str, float | None]:
    return {key: value for key, value in line.as_dict().items() if key != "name"}


def everything_below(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
    }


def test_nothing_is_sampled_and_the_run_is_left_alone(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: object, **more: object) -> None:
        raise AssertionError("a replay does not sample")

    monkeypatch.setattr(LocalEngine, "sample", forbidden)
    monkeypatch.setattr(PlainSampler, "__call__", forbidden)
    before = everything_below(run)
    found = replay(f"{run}:policy", None, stale=1)
    assert everything_below(run) == before
    assert "grpo" in [each.name for each in found.objectives]


def test_the_same_numbers_twice(run: Path) -> None:
    """Bit for bit: nothing is drawn, and no objective leaves a trace in the next."""
    first, again = (replay_run(run, ["grpo", "gspo", "grpo", "rloo"]).as_dict(9) for _ in range(2))
    alone = replay_run(run, ["rloo"]).objectives[0]
    assert first == again
    assert first["objectives"][-1]["gradient_norm"] == alone.gradient_norm


def test_models_come_from_the_run(tmp_path: Path, world: Path, run: Path, model: LanguageModel) -> None:
    found = replay_run(run, ["grpo"])
    assert found.models.policy == found.models.reference == f"{run}:base"
    assert found.models.old_in_words == "the sampler, as recorded"
    assert found.gap < 1e-5
    file = tmp_path / "elsewhere.parquet"
    write_samples(file, draw(model))
    with pytest.raises(UsageError, match=r"lies in no run.*--model"):
        replay(str(file))
    outside = replay(str(file), ["grpo"], model=str(world / "model"), dtype="float32")
    assert outside.models.reference == str(world / "model")
    assert outside.objectives[0].as_dict() == found.objectives[0].as_dict()


def test_newest_rollout_unless_a_step_is_named(run: Path, world: Path, model: LanguageModel) -> None:
    later = draw(model)
    for sample in later:
        sample.weight_version = 7
    write_run(run, world, later, file="step-000012.parquet")
    write_run(run, world, later, file="evaluation-000099.parquet")
    assert find_rollouts(f"{run}:policy").path.name == "step-000012.parquet"
    assert find_rollouts(f"{run}/stages/01-policy").path.name == "step-000012.parquet"
    assert find_rollouts(f"{run}:policy", 0).path.name == FIRST
    assert (
        find_rollouts(f"{run}/stages/01-policy/samples/evaluation-000099.parquet").stage["name"] == "policy"
    )
    with pytest.raises(UsageError, match="no step 3; it has 0 to 12"):
        find_rollouts(f"{run}:policy", 3)
    with pytest.raises(UsageError, match=f"name one of its stages: {run}:policy"):
        find_rollouts(str(run))
    with pytest.raises(UsageError, match="did you mean 'policy'"):
        find_rollouts(f"{run}:polcy")


def test_stale_is_the_policy_some_optimizer_steps_ago(tmp_path: Path, world: Path, run: Path) -> None:
    """The step taken by hand, saved and given as the model, with the start as the old policy."""
    served = serve(find_rollouts(f"{run}:policy"))
    policy = sampling_.load(str(world / "model"), dtype="float32")
    policy.module.requires_grad_(True)
    engine = LocalEngine()
    optimiser = Optimiser(**{**recipes.FAST, "betas": (0.9, 0.95)})
    engine.add("policy", policy.module, PolicyForward(), optimiser=optimiser)
    for row, score in zip(served.rows, engine.score("policy", served.units), strict=True):
        row.fields["old_logp"] = row.fields["ref_logp"] = score["logp"]
    served.assign(PRESETS["grpo"])
    engine.forward_backward("policy", served.units, PolicyGradient(PRESETS["grpo"], kl_coefficient=0.04))
    engine.step("policy", recipes.FAST["learning_rate"])
    policy.save(tmp_path / "moved")

    stale = replay_run(run, ["grpo", "cispo"], stale=1)
    by_hand = replay_run(run, ["grpo", "cispo"], model=str(tmp_path / "moved"), old_model=f"{run}:base")
    for one, other in zip(stale.objectives, by_hand.objectives, strict=True):
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-3, abs=1e-5)
        assert one.ratio != 1
    assert stale.models.old_in_words == "the policy 1 optimizer step ago"


def test_stale_zero_is_exactly_on_policy(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where scoring rounds otherwise than training: GSPO's interval is narrower than that."""
    score = LocalEngine.score

    def rounding(engine: LocalEngine, role: str, units: Any, forward: Any = None) -> list[Any]:
        return [
            {**row, "logp": row["logp"] + np.float32(0.01)} for row in score(engine, role, units, forward)
        ]

    monkeypatch.setattr(LocalEngine, "score", rounding)
    (gspo,) = replay_run(run, ["gspo"], stale=0).objectives
    assert (gspo.ratio, gspo.outside, gspo.spread.untouched) == (1, 0, 0)


def test_a_model_in_memory_does_not_move(run: Path, world: Path, model: LanguageModel) -> None:
    weights = {name: weight.clone() for name, weight in model.module.state_dict().items()}
    learns = [parameter.requires_grad for parameter in model.module.parameters()]
    found = replay_run(run, ["grpo"], model=model, stale=2)
    assert "in memory" in found.models.policy
    assert all(torch.equal(weights[name], weight) for name, weight in model.module.state_dict().items())
    assert learns == [parameter.requires_grad for parameter in model.module.parameters()]
    assert found.objectives[0].ratio != 1


def test_the_temperature_of_the_file_counts(tmp_path: Path, world: Path, model: LanguageModel) -> None:
    run = write_run(tmp_path / "run", world, draw(model, temperature=0.6))
    found = replay_run(run, ["dapo"])
    assert found.gap < 1e-5 and found.objectives[0].ratio == pytest.approx(1, abs=1e-5)


def test_what_an_environment_wrote_is_not_learned(tmp_path: Path, world: Path, model: LanguageModel) -> None:
    samples = draw(model)
    samples[1].generated[2] = False
    (dapo,) = replay_run(write_run(tmp_path / "run", world, samples), ["dapo"]).objectives
    assert [len(push) for push in dapo.pushes] == [2, 5, 3, 5]
    assert dapo.pushes[0][0] == pytest.approx(ZSCORES[0] / 15, rel=1e-4)


def test_bfloat16_accumulates_in_float32(run: Path) -> None:
    exact, rounded = (
        replay_run(run, ["grpo", "dapo"], stale=0, dtype=dtype) for dtype in ("float32", "bfloat16")
    )
    for one, other in zip(exact.objectives, rounded.objectives, strict=True):
        assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=0.1)
        assert other.cosine == pytest.approx(one.cosine, abs=0.02)
        assert other.ratio == 1


def test_groups_without_signal_leave_no_gradient(tmp_path: Path, world: Path, model: LanguageModel) -> None:
    samples = draw(model)
    for sample in samples:
        sample.rewards["total"] = 3.0
    found = replay_run(write_run(tmp_path / "run", world, samples), ["dapo", "dr_grpo"])
    for each in found.objectives:
        assert each.gradient_norm == 0 and each.cosine is None
        assert (each.spread.untouched, each.spread.short, each.spread.strongest) == (1, None, None)
    assert found.completion.index == 0


def test_what_the_file_cannot_serve_is_left_out_or_refused(
    tmp_path: Path, world: Path, model: LanguageModel
) -> None:
    path = write_run(tmp_path / "run", world, draw(model))
    rollouts = f"{path}:policy"
    left_out = replay(rollouts).left_out
    assert set(left_out) == {"ppo", "vapo", "remax", "process_grpo", "max_rl", "gdpo"}
    assert "critic" in left_out["ppo"] and "greedy" in left_out["remax"] and "0 or 1" in left_out["max_rl"]
    with pytest.raises(UsageError, match=r"'ppo' cannot be replayed on .*critic"):
        replay(rollouts, ["grpo", "ppo"])
    with pytest.raises(UsageError, match="unknown objective 'grop'; did you mean 'grpo'"):
        replay(rollouts, ["grop"])
    with pytest.raises(UsageError, match="give one of them"):
        replay(rollouts, stale=1, old_model="x")


def test_separate_components_take_their_weights_from_the_recipe(
    tmp_path: Path, world: Path, model: LanguageModel
) -> None:
    """The first prompt differs in a reward of weight 3, the second in the penalty, of weight 1.

    z-scores -+3 z and -+z, whose sample deviation over the step is sqrt(20 / 3) z.
    """
    name, samples = recipes.reward(world, "spread"), draw(model)
    for sample, value, penalty in zip(samples, (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, -1.0, 0.0), strict=True):
        sample.rewards = {name: value, "overlong": penalty, "total": 3 * value + penalty}
    stage = {"reward": [{"function": name, "weight": 3.0}], "overlong": {"buffer": 2, "coefficient": 1.0}}
    run = write_run(tmp_path / "run", world, samples, **stage)
    (gdpo,) = replay_run(run, ["gdpo"], stale=0).objectives
    deviation = math.sqrt(20 / 3)
    for push, advantage in zip(gdpo.pushes, (-3, 3, -1, 1), strict=True):
        assert push.tolist() == pytest.approx([advantage / deviation / len(push) / 4] * len(push), rel=2e-3)


def break_rewards(samples: list[Sample]) -> None:
    for sample in samples:
        sample.rewards = {"spread": 1.0}


def break_lengths(samples: list[Sample]) -> None:
    samples[2].logprobs.pop()


def break_numbers(samples: list[Sample]) -> None:
    samples[1].logprobs[0] = math.nan


def break_sampling(samples: list[Sample]) -> None:
    samples[0].top_p = 0.9


def break_temperature(samples: list[Sample]) -> None:
    samples[0].temperature = 0.5


def break_groups(samples: list[Sample]) -> None:
    samples.pop()


def break_everything(samples: list[Sample]) -> None:
    samples.clear()


BROKEN = [
    (break_rewards, "no row has a reward 'total'"),
    (break_lengths, "row 3: completion_ids, logprobs and generated differ in length"),
    (break_numbers, "row 2: a log-prob is missing or not finite"),
    (break_sampling, "row 1: .*top_p = 0.9"),
    (break_temperature, "different temperatures"),
    (break_groups, "1 to 2 samples"),
    (break_everything, "not a file of samples|holds no samples"),
]


@pytest.mark.parametrize(("breaking", "sentence"), BROKEN)
def test_files_that_cannot_be_learned_from(
    tmp_path: Path, model: LanguageModel, breaking: Any, sentence: str
) -> None:
    samples = draw(model)
    breaking(samples)
    file = tmp_path / "samples.parquet"
    write_samples(file, samples)
    with pytest.raises(DataError, match=sentence):
        find_rollouts(str(file))


def test_files_that_are_none(tmp_path: Path, run: Path) -> None:
    text = tmp_path / "notes.parquet"
    text.write_text("nothing")
    with pytest.raises(DataError, match="not a file of samples"):
        find_rollouts(str(text))
    with pytest.raises(UsageError, match="check the path"):
        find_rollouts(str(tmp_path / "none.parquet"))
    with pytest.raises(UsageError, match="is one file"):
        find_rollouts(str(text), 3)
    with pytest.raises(UsageError, match="has no rollouts"):
        find_rollouts(str(tmp_path))


def test_a_model_with_another_vocabulary(tmp_path: Path, world: Path, model: LanguageModel) -> None:
    samples = draw(model)
    samples[0].completion_ids[0] = 40_000
    run = write_run(tmp_path / "run", world, samples)
    with pytest.raises(RidgelineError, match="another tokenizer"):
        replay_run(run, ["grpo"])


def test_one_prompt_drawn_twice_makes_two_groups(tmp_path: Path, world: Path, model: LanguageModel) -> None:
    samples = draw(model)
    for number, sample in enumerate(samples):
        sample.prompt_id, sample.index = "same", number
    assert find_rollouts(f"{write_run(tmp_path / 'run', world, samples)}:policy").prompts == 2


def test_the_api_returns_what_the_command_prints(run: Path) -> None:
    summary = rl.replay(f"{run}:policy", ["grpo", "gspo"], tokens=3)
    assert summary == replay_run(run, ["grpo", "gspo"]).as_dict(3)
    assert len(summary["completion"]["tokens"]) <= 3
    assert set(summary["completion"]["pushes"]) == {"grpo", "gspo"}


def test_spread_of_a_push() -> None:
    push = [np.array([4.0, -1.0], dtype=np.float32), np.array([0.0, 1.0, 1e-9, -3.0], dtype=np.float32)]
    ones = [np.ones(2, dtype=np.float32), np.ones(4, dtype=np.float32)]
    spread = spread_of(push, ones)
    assert (spread.up, spread.down, spread.untouched) == pytest.approx((2 / 6, 2 / 6, 2 / 6))
    assert spread.strongest == pytest.approx(4 / 9)
    assert (spread.short, spread.long) == pytest.approx(((5 / 2) / (9 / 6), (4 / 4) / (9 / 6)))
    assert spread_of(push[:1] * 2, ones[:1] * 2).short is None


@pytest.mark.parametrize(("lengths", "short"), [((1, 2, 2, 5), 3), ((2, 8, 8, 8), 1), ((3, 3, 3, 3), None)])
def test_the_median_counts_as_short_unless_nothing_is_longer(
    lengths: tuple[int, ...], short: int | None
) -> None:
    """Each completion is pushed by 1 per advantage in all: a half weighs its rows over its tokens."""
    push = [np.full(n, 1 / n, dtype=np.float32) for n in lengths]
    spread = spread_of(push, [np.ones(n, dtype=np.float32) for n in lengths])
    if short is None:
        assert spread.short is spread.long is None
        return
    overall = len(lengths) / sum(lengths)
    assert spread.short == pytest.approx(short / sum(lengths[:short]) / overall)
    assert spread.long == pytest.approx((len(lengths) - short) / sum(lengths[short:]) / overall)


def test_cosine_of_gradients() -> None:
    one = {"a": torch.tensor([[1.0, 0.0]]), "b": torch.tensor([1.0])}
    assert cosine(one, {"a": torch.tensor([[2.0, 0.0]]), "b": torch.tensor([2.0])}) == pytest.approx(1)
    assert cosine(one, {"a": torch.tensor([[-1.0, 0.0]]), "b": torch.tensor([-1.0])}) == pytest.approx(-1)
    assert cosine(one, {"a": torch.tensor([[0.0, 5.0]]), "b": torch.tensor([0.0])}) == 0
    assert cosine(one, {"a": torch.zeros(1, 2), "b": torch.zeros(1)}) is None
    assert cosine(one, {"a": torch.full((1, 2), math.nan), "b": torch.zeros(1)}) is None


def test_most_different_completion_ignores_scale() -> None:
    def push(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.array(values, dtype=np.float32)

    first = [push(1, 1), push(1, 1), push(2, 2)]
    scaled = [100 * part for part in first]
    turned = [push(1, 1), push(1, -1), push(2, 2)]
    assert most_different([first, scaled]) == 2  # all agree: where the push is hardest
    assert most_different([first, scaled, turned]) == 1
    assert most_different([[push(0, 0)], [push(0, 0)]]) == 0
