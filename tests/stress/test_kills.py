"""The whole pipeline in a process of its own, killed at random times until it is done."""

from __future__ import annotations

import contextlib
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
def whole(world: Path) -> Path:
    """The run that nobody disturbed."""
    assert _start(world, world / "whole").wait() == 0
    return world / "whole"


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


def _state(run: Path) -> tuple[tuple[str, int], ...]:
    """Every file and its size: changes whenever a run gets on."""
    found = []
    for folder, _, names in os.walk(run):  # unlike rglob it bears folders that vanish while it walks
        for path in (Path(folder, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                found.append((str(path), path.stat().st_size))
    return tuple(sorted(found))


def _wait_for_changes(process: subprocess.Popen[bytes], run: Path, changes: int) -> None:
    """Until the folder was seen to change so often, or the process has ended: independent of the load."""
    before = _state(run)
    while changes and process.poll() is None:
        time.sleep(0.005)
        now = _state(run)
        changes -= now != before
        before = now


def _disturb(world: Path, run: Path, number: signal.Signals, random_: random.Random) -> list[int]:
    """Signal at random moments, ten times at most, then let the run finish; exit codes of the attempts."""
    codes: list[int] = []
    while not codes or codes[-1] != 0:
        assert len(codes) <= 10, f"no end in sight: {codes}"
        process = _start(world, run)
        if len(codes) < 10:
            _wait_for_changes(process, run, random_.randrange(1, 25))
            time.sleep(random_.uniform(0, 0.05))
            process.send_signal(number)
        codes.append(process.wait(120))
        assert codes[-1] in (0, 130, -number), f"it failed by itself: {codes}"
    return codes


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_times(whole: Path, world: Path, seed: int) -> None:
    """SIGKILL: nothing is said and nothing saved, and the last byte comes out the same."""
    run = world / f"killed-{seed}"
    codes = _disturb(world, run, signal.SIGKILL, random.Random(seed))
    assert set(codes) == {0, -signal.SIGKILL}
    assert differing(whole, run) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_at_random_times(whole: Path, world: Path, number: signal.Signals) -> None:
    """130 and a state to go on from; a request in the last step of all finishes the run instead."""
    run = world / f"asked-{number.name}"
    codes = _disturb(world, run, number, random.Random(3))
    assert 130 in codes
    kinds = [event["kind"] for event in read_lines(run / "events.jsonl")]
    assert "interrupted" in kinds and kinds[-1] == "run finished"
    assert differing(whole, run) == []


@pytest.mark.parametrize("delay", [0.1, 0.5, 1.0])
def test_ctrl_c_while_starting(whole: Path, world: Path, delay: float) -> None:
    """During imports too: gone as an interrupted command should be, and the same command starts again."""
    run = world / f"early-{delay}"
    process = _start(world, run)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) in (130, -signal.SIGINT)
    assert _start(world, run).wait(300) == 0
    assert differing(whole, run) == []


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
