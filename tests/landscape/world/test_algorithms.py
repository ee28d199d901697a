"""Settings, how they move the presets, and the trust region's parts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
from tests.landscape.world.walking import ALGORITHMS, learner, moved

from ridgeline.landscape.world.algorithms import objective_of
from ridgeline.landscape.world.settings import OPEN, Settings
from ridgeline.landscape.world.trust_region import (
    conjugate_gradient,
    mean_kl,
    natural_direction,
    trust_region_step,
)
from ridgeline.landscape.world.updates import gradient_of, loss_of, terms_of
from ridgeline.objectives.presets import PRESETS
from ridgeline.schema.errors import UsageError


def states() -> torch.Tensor:
    return torch.rand(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4 - 2


def differences(algorithm: str, **settings: Any) -> set[str]:
    objective = objective_of(Settings(algorithm=algorithm, **settings).resolved(1.0))  # type: ignore[arg-type]
    preset = asdict(PRESETS["ppo" if algorithm == "trpo" else algorithm])
    return {name for name, value in asdict(objective).items() if value != preset[name]}


def test_defaults_are_the_presets_but_for_what_the_world_changes() -> None:
    assert differences("reinforce") == {"advantage", "kl_coefficient"}
    assert differences("rloo") == {"kl_coefficient"}
    assert differences("grpo") == {"kl_coefficient"}
    assert differences("ppo") == {"kl_coefficient", "value_clip"}
    unclipped = {"bounding", "clip_low", "clip_high"}
    without_critic = {"advantage", "value_coefficient"}
    assert differences("trpo") == {"kl_coefficient", "value_clip"} | unclipped | without_critic


def test_settings_move_the_axes_they_name() -> None:
    def made(**settings: Any) -> Any:
        return objective_of(Settings(**settings).resolved(0.9))

    assert made(algorithm="grpo", normalise_std=False).advantage == "group_centred"
    assert made(algorithm="ppo", clip=0.0).bounding == "none"
    assert made(algorithm="ppo", clip=0.1).clip_high == 0.1
    assert made(algorithm="ppo", lam=0.5).lam == 0.5
    assert made(algorithm="ppo").gamma == 0.9
    assert made(algorithm="ppo", gamma=0.8).gamma == 0.8
    assert made(algorithm="grpo", beta=0.3).kl_coefficient == 0.3
    assert made(algorithm="rloo", normalise_std=True).whiten
    assert made(algorithm="ppo", entropy=0.1).entropy_coefficient == 0.1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_resolved_settings_leave_nothing_open_and_stay_so(algorithm: str) -> None:
    resolved = Settings(algorithm=algorithm).resolved(0.9)  # type: ignore[arg-type]
    assert None not in resolved.as_dict().values()
    assert resolved.resolved(0.5) == resolved
    assert set(OPEN[algorithm]) <= set(resolved.as_dict())


BAD = [
    ({"algorithm": "pppo"}, "did you mean"),
    ({"paths": 1}, "paths"),
    ({"paths": 10.0}, "paths"),
    ({"paths": True}, "paths"),
    ({"beta": float("nan")}, "beta"),
    ({"beta": -0.1}, "beta"),
    ({"clip": 2.0}, "clip"),
    ({"lam": "much"}, "lam"),
    ({"learning_rate": 0.0}, "learns nothing"),
    ({"algorithm": "grpo", "paths": 12}, "whole groups"),
    ({"algorithm": "grpo", "baseline": "time"}, "does not fit"),
    ({"algorithm": "ppo", "baseline": "group"}, "does not fit"),
    ({"algorithm": "reinforce", "epochs": 4}, "no use"),
    ({"algorithm": "ppo", "filter_dead": True}, "needs groups"),
    ({"normalise_std": 1}, "true or false"),
    ({"layer": 3}, "layer"),
    ({"baseline": "mean"}, "choose one of"),
]


@pytest.mark.parametrize(("settings", "says"), BAD)
def test_settings_without_sense_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Settings(**settings)


def test_another_algorithm_takes_back_what_belonged_to_the_last() -> None:
    before = Settings(algorithm="ppo", baseline="learned", epochs=9, learning_rate=0.1, beta=0.4)
    after = before.changed({"algorithm": "grpo"}).resolved(1.0)
    assert (after.baseline, after.epochs, after.learning_rate) == ("group", 6, OPEN["grpo"]["learning_rate"])
    assert after.beta == 0.4
    assert before.changed({"algorithm": "ppo", "clip": 0.1}).epochs == 9
    with pytest.raises(UsageError, match="did you mean 'baseline'"):
        before.changed({"basline": "none"})


def test_conjugate_gradients_solve_a_linear_system() -> None:
    generator = torch.Generator().manual_seed(1)
    half = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    matrix = half @ half.T + torch.eye(12, dtype=torch.float64)
    right = torch.randn(12, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        conjugate_gradient(lambda v: matrix @ v, right, 12), torch.linalg.solve(matrix, right)
    )


def test_the_fisher_product_is_the_curvature_of_the_kl() -> None:
    """KL(old || old + e d) = e^2 d' F d / 2, to second order."""
    policy = moved()
    gradient = torch.randn(356, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    direction, image = natural_direction(policy, gradient, states())
    size = 1e-3 / float(direction.norm())
    stepped = policy.copy()
    stepped.assign(policy.flat() + size * direction)
    kl = float(mean_kl(policy, stepped, states()).detach())
    assert kl == pytest.approx(float(direction @ image) * size**2 / 2, rel=0.02)


@pytest.mark.parametrize("budget", [0.001, 0.01, 0.1])
def test_a_trust_region_step_keeps_its_budget_and_uses_it(budget: float) -> None:
    walker = learner("trpo", budget=budget)
    before = walker.policy.copy()
    done = walker.step(exact=False)
    kl = float(mean_kl(before, walker.policy, done.paths.states[:, :-1]).detach())
    assert 0.1 * budget < kl <= budget
    assert done.update.trials[-1].taken
    assert done.update.trials[-1].kl == pytest.approx(kl, rel=1e-9)


def test_a_step_that_gains_nothing_is_not_taken() -> None:
    policy = moved()
    start = policy.flat()
    gradient = torch.ones(356, dtype=torch.float64)
    calls = iter(range(100))
    trials = trust_region_step(policy, gradient, lambda: torch.tensor(-float(next(calls))), states(), 0.01)
    assert len(trials) == 10 and not any(trial.taken for trial in trials)
    assert torch.equal(policy.flat(), start)
    assert trust_region_step(policy, 0 * gradient, lambda: torch.tensor(0.0), states(), 0.01) == []


def test_equal_kl_not_equal_length_is_what_a_natural_step_buys() -> None:
    """At one and the same budget the plain gradient direction gains less surrogate than the natural one."""
    walker = learner("trpo", paths=256)
    batch = walker.batch(walker.walk())
    gradient = gradient_of(walker.policy, batch, walker.objective)
    direction, _ = natural_direction(walker.policy, gradient, batch.states_BTS)

    def gain(along: torch.Tensor) -> float:
        """Surrogate at the longest step along it that keeps 0.01 nats, by bisection."""
        low, high = 0.0, 100.0 / float(along.norm())
        for _ in range(40):
            middle = (low + high) / 2
            stepped = walker.policy.copy()
            stepped.assign(walker.policy.flat() + middle * along)
            inside = float(mean_kl(walker.policy, stepped, batch.states_BTS).detach()) <= 0.01
            low, high = (middle, high) if inside else (low, middle)
        stepped = walker.policy.copy()
        stepped.assign(walker.policy.flat() + low * along)
        return -float(
            loss_of(stepped, terms_of(stepped, batch, walker.objective), batch, walker.objective).detach()
        )

    assert gain(direction) > 1.1 * gain(gradient)  # measured 1.19


def test_the_clip_holds_ratios_that_run_free_without_it() -> None:
    """Epochs 20: with the clip most of the step's gradient is gone, without it the ratios go on."""
    outside = {}
    for clip in (0.2, 0.0):
        walker = learner("ppo", baseline="time", clip=clip, epochs=20)
        done = walker.step(exact=False)
        outside[clip] = float(done.update.ratios_BT.log().square().mean())
    assert outside[0.2] < 0.6 * outside[0.0]
