"""Interrupted anywhere and resumed: the same bytes as a run that never stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ridgeline.schema.errors import Interrupted
from ridgeline.schema.recipe import Recipe
from ridgeline.schema.run_folder import read_lines
from ridgeline.stages import collecting, pipeline
from tests.stages import recipes
from tests.stages.recipes import FAST, Interrupting, Table, differing, run_interrupted, stoppable

BUILT_IN: Table = {"reward": ["length"], "monitor": ["random_coin"]}
"""No worker processes, which would take most of the time here."""
JUDGE: Table = {"name": "judge", "backbone": "full", "pairs_per_step": 12}


RESAMPLED: Table = {
    "reward": ["random_coin"],
    "monitor": ["length"],
    "samples_per_prompt": 2,
    "max_resampling": 2,
}
"""Half of the groups carry no signal; the next attempt asks other prompts."""


def _rl(**changes: Any) -> Callable[[Path], list[Table]]:
    return lambda world: [recipes.rl(world, **{**BUILT_IN, "steps": 3, **changes})]


def _preference(**changes: Any) -> Callable[[Path], list[Table]]:
    base = {
        "name": "align",
        "type": "preference",
        "optimiser": FAST,
        "checkpoint_every": 2,
        "evaluate_every": 2,
    }
    return lambda world: [{**base, **changes}]


def _online(method: str, **changes: Any) -> Table:
    table = {"method": method, "prompts": "prompts.jsonl", "heldout": "heldout.jsonl", "prompts_per_step": 3}
    rest = {"steps": 3, "evaluation_samples": 2, "sampling": recipes.SAMPLING}
    return {**table, **rest, **({} if method == "d2po" else {"reward": ["length"]}), **changes}


_PAIRS: Table = {"data": "pairs.jsonl", "heldout": 0.25, "pairs_per_step": 3}
_LORA: Table = {"adapter": {"rank": 2}}

STAGES: dict[str, Callable[[Path], list[Table]]] = {
    "sft, lora": lambda world: [recipes.sft(**_LORA, checkpoint_every=2)],
    "sft, recomputing": lambda world: [recipes.sft(work={"checkpointing": True}, checkpoint_every=2)],
    "dpo": _preference(**_PAIRS),
    "bco_pair and aot, moving reference, dora": _preference(
        **_PAIRS,
        objective=[{"preset": "bco_pair"}, {"preset": "aot"}],
        refresh={"every": 2, "share": 0.5},
        adapter={"rank": 2, "kind": "dora"},
    ),
    "online dpo, replaced reference": _preference(online=_online("dpo"), refresh={"every": 1}),
    "nash_md, lora": _preference(online=_online("nash_md"), **_LORA),
    "xpo": _preference(online=_online("xpo", exploration=0.1)),
    "d2po": lambda world: [
        recipes.reward_model(name="judge", pairs_per_step=12),
        *_preference(
            online=_online(
                "d2po",
                discriminator={
                    "start": "judge",
                    "gold": "length",
                    "every": 2,
                    "updates": 2,
                    "optimiser": FAST,
                },
            )
        )(world),
    ],
    "bco, unpaired": lambda world: [
        {
            "name": "label",
            "type": "unpaired",
            "data": "labelled.jsonl",
            "objective": "bco",
            "heldout": 0.25,
            "rows_per_step": 4,
            "optimiser": FAST,
            "checkpoint_every": 2,
        }
    ],
    "sft, every step": lambda world: [recipes.sft()],
    "sft, every 3 steps": lambda world: [recipes.sft(checkpoint_every=3)],
    "reward model, frozen": lambda world: [recipes.reward_model(penalty=0.1, pooling="mean+last")],
    "reward model, full": lambda world: [
        recipes.reward_model(backbone="full", centering=0.1, checkpoint_every=2)
    ],
    "grpo": _rl(kl={"coefficient": 0.1}),
    "rloo": _rl(objective="rloo"),
    "reinforce, greedy baseline": _rl(objective={"preset": "reinforce", "advantage": "greedy_baseline"}),
    "dr_grpo": _rl(objective="dr_grpo", checkpoint_every=2),
    "dapo": _rl(objective="dapo", checkpoint_every=2),
    "ppo, critic from the policy": _rl(objective="ppo", critic={"optimiser": FAST, "warmup": 1}),
    "ppo, critic from a reward model": lambda world: [
        recipes.reward_model(**JUDGE),
        *_rl(objective="ppo", reward=["judge"], critic={"optimiser": FAST, "initialise_from": "judge"})(
            world
        ),
    ],
    "grpo, lora": _rl(kl={"coefficient": 0.1}, **_LORA, checkpoint_every=2),
    "ppo, dora, rounds, recomputing": _rl(
        objective="ppo",
        kl={"coefficient": 0.1},
        critic={"optimiser": FAST},
        adapter={"rank": 2, "kind": "dora"},
        work={"checkpointing": True},
        steps=1,
        repeat=3,
        checkpoint_every=2,
    ),
    "reinforce++": _rl(objective="reinforce++"),
    "vapo": _rl(objective="vapo", critic={"optimiser": FAST, "warmup": 1}, checkpoint_every=2),
    "process grpo": _rl(objective="process_grpo", step_separator="e", checkpoint_every=2),
    "gdpo, overlong": _rl(
        objective="gdpo",
        reward=["random_coin"],
        monitor=["length"],
        overlong={"buffer": 4},
        checkpoint_every=2,
    ),
    "topr, two epochs": _rl(objective="topr", epochs_per_rollout=2, checkpoint_every=3),
    "top entropy": _rl(objective={"preset": "dapo", "entropy_share": 0.3}, checkpoint_every=2),
    "dynamic sampling": _rl(**RESAMPLED),
    "dynamic sampling, two updates": _rl(**RESAMPLED, updates_per_rollout=2, checkpoint_every=3),
    "three rounds": _rl(kl={"coefficient": 0.1}, steps=2, repeat=3, checkpoint_every=1),
    "rounds of two updates": _rl(
        objective="ppo",
        kl={"coefficient": 0.1},
        critic={"optimiser": FAST},
        steps=1,
        repeat=3,
        updates_per_rollout=2,
        checkpoint_every=3,
    ),
    "pretraining mix": _rl(pretrain={"data": "demonstrations.jsonl", "rows_per_step": 3}, checkpoint_every=2),
    "adaptive entropy": _rl(
        entropy={"target": 100.0, "gain": 0.01, "minimum": 0.01}, epochs_per_rollout=2, checkpoint_every=3
    ),
    "several updates, adaptive KL": _rl(
        kl={"coefficient": 0.1, "target": 0.05},
        updates_per_rollout=3,
        epochs_per_rollout=2,
        checkpoint_every=4,
        optimiser={**FAST, "schedule": "cosine", "weight_decay": 0.1},
    ),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module", params=STAGES)
def whole(request: pytest.FixtureRequest, world: Path) -> tuple[Recipe, Path]:
    """A recipe and the run of it that was never interrupted."""
    name = str(request.param)
    made = recipes.recipe(world, *STAGES[name](world))
    folder = world / name.replace(" ", "-")
    pipeline.run_recipe(made, folder, resume=False)
    return made, folder


def test_asked_to_stop_after_every_step(whole: tuple[Recipe, Path], tmp_path: Path) -> None:
    """The first Ctrl-C, again and again: each resumed run makes one step and stops."""
    made, folder = whole
    stops = run_interrupted(made, tmp_path / "run", lambda attempt: 1, gently=True)
    assert stops >= 2
    assert differing(folder, tmp_path / "run") == []


def test_broken_off_in_any_phase(whole: tuple[Recipe, Path], tmp_path: Path) -> None:
    """The second Ctrl-C: nothing is saved on the way out, the last checkpoint has to do."""
    made, folder = whole
    breaks = run_interrupted(made, tmp_path / "run", lambda attempt: 6 + 5 * attempt, gently=False)
    assert breaks >= 2
    assert differing(folder, tmp_path / "run") == []


def test_every_stage_after_one_another(world: Path, tmp_path: Path) -> None:
    made = recipes.recipe(world, *recipes.everything(world))
    pipeline.run_recipe(made, world / "everything", resume=False)
    breaks = run_interrupted(made, tmp_path / "run", lambda attempt: 11 + 7 * attempt, gently=False)
    assert breaks >= 3
    assert differing(world / "everything", tmp_path / "run") == []


@pytest.mark.parametrize("kind", ["collect", "evaluate"])
def test_sampling_stages_keep_finished_parts(
    kind: str, world: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(collecting, "COMPLETIONS_PER_PART", 6)
    stage = (
        recipes.collect(world) if kind == "collect" else recipes.evaluate(world, "base", samples_per_prompt=6)
    )
    made = recipes.recipe(world, stage)
    pipeline.run_recipe(made, tmp_path / "whole", resume=False)
    with stoppable() as request, pytest.raises(Interrupted, match="after part"):
        pipeline.run_recipe(made, tmp_path / "run", resume=False, observer=Interrupting(4, request))
    first = next((tmp_path / "run" / "stages").rglob("part-0000.parquet"))
    written = first.stat().st_mtime_ns
    run_interrupted_from = pipeline.run_recipe(made, tmp_path / "run", resume=True)
    assert run_interrupted_from["stages"]
    assert first.stat().st_mtime_ns == written, "a finished part was sampled again"
    assert differing(tmp_path / "whole", tmp_path / "run") == []


def test_lines_of_steps_that_are_repeated_are_not_doubled(world: Path, tmp_path: Path) -> None:
    """Killed after metrics were written and before the checkpoint that holds their step."""
    made = recipes.recipe(world, recipes.sft(checkpoint_every=3, evaluate_every=1))
    folder = tmp_path / "run"
    watcher = Interrupting(10**9, None)
    with pytest.raises(KeyboardInterrupt):
        _stop_at_step(made, folder, watcher, 1)
    stage = recipes.stage_folder(folder)
    assert len((stage / "metrics.jsonl").read_text().splitlines()) == 2
    with (stage / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "metr')  # what a kill in the middle of a write leaves
    pipeline.run_recipe(made, folder, resume=True)
    steps = [line["step"] for line in read_lines(stage / "metrics.jsonl")]
    assert steps == list(range(len(steps)))
    shutil.rmtree(tmp_path / "whole", ignore_errors=True)
    pipeline.run_recipe(made, tmp_path / "whole", resume=False)
    assert differing(tmp_path / "whole", folder) == []


def _stop_at_step(made: Recipe, folder: Path, watcher: Interrupting, step: int) -> None:
    original = watcher.told

    def told(kind: str, text: str) -> None:
        original(kind, text)
        if (kind, text) == ("step", str(step)):
            raise KeyboardInterrupt

    watcher.told = told  # type: ignore[method-assign]
    pipeline.run_recipe(made, folder, resume=False, observer=watcher)


def test_a_stop_in_the_last_step_finishes_the_run(world: Path, tmp_path: Path) -> None:
    made = recipes.recipe(world, recipes.sft(heldout="demonstrations.jsonl", rows_per_step=16))
    with stoppable() as request:
        request.asked = True
        summary = pipeline.run_recipe(made, tmp_path / "run", resume=False)
    assert summary["stages"]["sft"]["heldout_nll_after"] < summary["stages"]["sft"]["heldout_nll_before"]


def test_killed_between_the_result_and_the_end_of_the_checkpoints(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipes.recipe(world, recipes.sft(checkpoint_every=2))

    def killed(folder: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pipeline, "forget_checkpoints", killed)
        pipeline.run_recipe(made, tmp_path / "run", resume=False)
    checkpoints = recipes.stage_folder(tmp_path / "run") / "checkpoints"
    assert checkpoints.is_dir()
    pipeline.run_recipe(made, tmp_path / "run", resume=True)
    assert not checkpoints.exists()
