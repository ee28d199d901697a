"""The whole pipeline in a process of its own, killed at random times until it is done."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli_w

from ridgeline.schema.run_folder import read_lines, without_none
from tests.stages import recipes
from tests.stages.recipes import differing

pytestmark = [pytest.mark.stress, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = recipes.make_world(tmp_path_factory.mktemp("world"))
    made = recipes.recipe(folder, *recipes.everything(folder))
    (folder / "recipe.toml").write_text(tomli_w.dumps(without_none(made.model_dump(mode="json"))))
    return folder


@pytest.fixture(scope="module")
def whole(world: Path) -> tuple[Path, float]:
    """The run that nobody disturbed, and the seconds it took."""
    start = time.monotonic()
    process = _start(world, world / "whole")
    assert process.wait() == 0
    return world / "whole", time.monotonic() - start


def _start(world: Path, run: Path) -> subprocess.Popen[bytes]:
    fresh = not (run / ".recipe.json").is_file()
    what = ["run", str(world / "recipe.toml"), "--out", str(run)] if fresh else ["resume", str(run)]
    return subprocess.Popen(
        [sys.executable, "-m", "ridgeline", "--quiet", *what],
        cwd=world,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _until(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The exit code, or None while it still runs after ``seconds``."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _disturb(
    world: Path, run: Path, number: signal.Signals, random_: random.Random, longest: float
) -> list[int]:
    """Signal at random moments until the run is done; exit codes of the attempts."""
    codes: list[int] = []
    while not codes or codes[-1] != 0:
        assert len(codes) < 40, f"no end in sight: {codes}"
        # A little longer each time, so that a slow machine gets beyond its start-up.
        limit = random_.uniform(0.3, 1.0) * longest * (1 + len(codes) / 10)
        process = _start(world, run)
        if _until(process, limit) is None:
            process.send_signal(number)
            if _until(process, 60) is None:
                process.kill()
                raise AssertionError("the signal was not heard within a minute")
        codes.append(int(process.wait()))
    return codes


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_times(whole: tuple[Path, float], world: Path, seed: int) -> None:
    """SIGKILL: nothing is said and nothing saved, and the last byte comes out the same."""
    reference, seconds = whole
    run = world / f"killed-{seed}"
    codes = _disturb(world, run, signal.SIGKILL, random.Random(seed), 0.8 * seconds)
    assert set(codes) == {0, -signal.SIGKILL}
    assert differing(reference, run) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_at_random_times(
    whole: tuple[Path, float], world: Path, number: signal.Signals
) -> None:
    """130 once the run listens; before that (imports) the process may end as the signal has it."""
    reference, seconds = whole
    run = world / f"asked-{number.name}"
    codes = _disturb(world, run, number, random.Random(3), seconds)
    assert set(codes) <= {0, 130, -number}
    assert 130 in codes
    kinds = [event["kind"] for event in read_lines(run / "events.jsonl")]
    assert "interrupted" in kinds and kinds[-1] == "run finished"
    assert differing(reference, run) == []


def test_a_kill_leaves_no_reward_worker_behind(world: Path) -> None:
    run = world / "orphans"
    process = _start(world, run)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not _workers(process.pid):
        time.sleep(0.02)
    workers = _workers(process.pid)
    assert workers
    process.kill()
    process.wait()
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in workers):
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def _workers(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []
