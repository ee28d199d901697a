"""Every algorithm climbs, none climbs on noise, and a run can be repeated, restored and read back."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.landscape.world.walking import ALGORITHMS, GAIN, gain, gold, learner, ravine

from ridgeline.landscape.record import Record
from ridgeline.landscape.world.learning import Learner
from ridgeline.landscape.world.paths import Paths, sample_paths
from ridgeline.landscape.world.settings import Settings
from ridgeline.landscape.world.terrain import Terrain
from ridgeline.landscape.world.terrain_file import load_terrain, terrain_from_dict
from ridgeline.landscape.world.training import SCALARS, train
from ridgeline.schema.errors import UsageError
from ridgeline.schema.run_folder import read_lines

SEEDS = (0, 1, 2)


def with_random_rewards(paths: Paths) -> Paths:
    """Rewards of the same spread that have nothing to do with the paths, other ones for other paths."""
    generator = torch.Generator().manual_seed(int(paths.states[0, 0, 0] * 1e9) % 2**31)
    noise = torch.randn(paths.rewards.shape, generator=generator, dtype=torch.float64)
    return replace(paths, rewards=noise * paths.rewards.std())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_climbs(algorithm: str) -> None:
    assert all(gain(algorithm, seed) > GAIN for seed in SEEDS)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_random_rewards_teach_no_algorithm_anything(algorithm: str) -> None:
    assert all(gain(algorithm, seed, with_random_rewards) < GAIN for seed in SEEDS)


def test_a_kl_penalty_keeps_the_policy_near() -> None:
    """One penalty in the reward (ppo), one in the loss (grpo): the more it costs, the nearer."""
    for algorithm in ("ppo", "grpo"):
        found = []
        for beta in (0.0, 1.0, 8.0):
            walker = learner(algorithm, beta=beta)
            for _ in range(8):
                walker.step(exact=False)
            found.append(walker.measures.trajectory_kl(walker.policy))
        assert found[0] > 1.5 * found[1] > 1.5 * found[2]


def test_an_entropy_bonus_widens_the_policy() -> None:
    for algorithm in ("reinforce", "trpo"):
        plain, widened = learner(algorithm), learner(algorithm, entropy=3.0)
        for _ in range(5):
            plain.step(exact=False)
            widened.step(exact=False)
        assert bool(widened.policy.entropy() > plain.policy.entropy() + 0.05)


def test_a_proxy_is_climbed_past_the_point_where_gold_falls() -> None:
    """Over-optimisation: gold above 10 on the way, below the reference in the end; proxy rises all along."""
    walker = learner("trpo", layer="proxy", seed=0)
    golds, proxies = [], []
    for number in range(60):
        walker.step(exact=False)
        if number % 6 == 5:
            scalars = walker.measures.scalars(walker.policy, 1.0)
            golds.append(scalars["return_gold"])
            proxies.append(scalars["return_proxy"])
    assert max(golds) > 10
    assert golds[-1] < -5
    assert proxies[-1] > 35
    assert all(later > sooner - 1 for sooner, later in itertools.pairwise(proxies))


@pytest.mark.parametrize("settings", [{"baseline": "learned"}, {"algorithm": "grpo"}, {"algorithm": "trpo"}])
def test_a_restored_learner_repeats_itself(settings: dict[str, str]) -> None:
    walker = learner(**{"algorithm": "ppo", **settings})
    walker.step(exact=False)
    state = walker.state()
    first = [walker.step(exact=False) for _ in range(2)]
    end = walker.policy.flat()
    walker.restore(state)
    second = [walker.step(exact=False) for _ in range(2)]
    assert torch.equal(walker.policy.flat(), end)
    assert [done.scalars for done in first] == [done.scalars for done in second]
    assert torch.equal(first[-1].paths.states, second[-1].paths.states)


def test_seeds_and_nothing_else_tell_runs_apart() -> None:
    ends = []
    for seed in (1, 1, 2):
        walker = learner("ppo", seed=seed)
        torch.manual_seed(len(ends))  # the global state has no part in it
        walker.step(exact=False)
        ends.append(walker.policy.flat())
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_the_scalars_are_those_of_the_record() -> None:
    done = learner("grpo", cosine=True).step()
    assert set(done.scalars) == set(SCALARS)
    assert done.scalars["gradient_cosine"] > 0.8
    assert done.scalars["success"] is None


def test_exact_scalars_are_those_of_the_policy_after_the_step() -> None:
    walker = learner("ppo", seed=3)
    done = walker.step()
    paths = sample_paths(walker.terrain, walker.policy, 4000, 7)
    error = float(paths.returns.std()) / 4000**0.5
    assert done.scalars["return_gold"] == pytest.approx(float(paths.returns.mean()), abs=4 * error + 0.05)
    assert done.scalars["return_gold"] == pytest.approx(gold(walker), abs=1e-12)


def goal_learner(group: int, **settings: object) -> Learner:
    terrain: Terrain = load_terrain("goal")
    reference = ravine()[1]
    chosen = Settings(algorithm="grpo", paths=64 * group, group=group, **settings)  # type: ignore[arg-type]
    return Learner(terrain, reference.copy(), reference, chosen)


def test_larger_groups_are_less_often_dead() -> None:
    shares = [goal_learner(group).step(exact=False).scalars["dead_groups"] for group in (4, 8, 16)]
    assert shares[0] > shares[1] > shares[2]
    assert shares[2] > 0.02
    assert shares[0] < 0.98


def test_filtered_dead_groups_have_no_weight() -> None:
    """With a KL in the loss, a dead group would still pull; filtered, only its mask tells of it."""
    walker = goal_learner(4, filter_dead=True, beta=0.1)
    batch = walker.batch(walker.walk())
    alive_BT = batch.estimates.mask_BT
    assert 1 - float(alive_BT.view(-1, 4, walker.terrain.horizon)[:, 0, 0].mean()) == batch.estimates.dead
    assert bool((batch.estimates.advantages_BT[alive_BT == 0] == 0).all())


def test_success_is_the_share_of_paths_that_end_in_the_goal() -> None:
    walker = goal_learner(8)
    paths = walker.walk()
    assert walker.success(paths) == pytest.approx(float(paths.returns.mean()), abs=1e-12)


def test_a_run_is_written_and_read_back(tmp_path: Path) -> None:
    terrain = load_terrain("plain")
    settings = Settings(algorithm="grpo", paths=16, group=4, seed=5)
    seen: list[int] = []
    out = tmp_path / "run"
    walker = train(terrain, settings, 5, 2, out, report=lambda done: seen.append(done.number))
    assert seen == [2, 4, 5]
    record = Record(tmp_path / "run" / "landscape")
    assert [frame.step for frame in record.frames] == [0, 2, 4, 5]
    assert record.frames[-1].scalars["return_gold"] == pytest.approx(gold(walker), abs=1e-9)
    assert record.frames[0].scalars["kl"] == 0
    assert len(record.frame(-1).paths) == 16
    assert record.manifest.kind == "exact"
    assert terrain_from_dict(record.manifest.details["terrain"]) == terrain
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert ["return_gold" in line["metrics"] for line in lines] == [False, True, False, True, True]
    assert lines[-1]["metrics"]["return_gold"] == [record.frames[-1].scalars["return_gold"], 1.0]


def test_a_run_is_a_function_of_terrain_and_settings(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(load_terrain("plain"), Settings(paths=8, seed=1), 2, 1, tmp_path / name)
    for file in ("metrics.jsonl", "world.toml", "landscape/frames/000002.bin", "landscape/terrain.bin"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_an_occupied_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="not empty"):
        train(load_terrain("plain"), Settings(paths=8), 1, 1, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UsageError, match="not empty"):
        train(load_terrain("plain"), Settings(paths=8), 1, 1, tmp_path / "mine.txt")


def test_a_layer_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no layer 'proxy'"):
        train(load_terrain("plain"), Settings(layer="proxy"), 1, 1, tmp_path / "run")
    assert not (tmp_path / "run").exists()
