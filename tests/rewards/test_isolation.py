from __future__ import annotations

import contextlib
import datetime
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ridgeline.rewards import isolation
from ridgeline.rewards.isolation import IsolatedReward
from ridgeline.schema.errors import RunError, UsageError
from tests.rewards.samples import batch, make


@contextlib.contextmanager
def isolated(name: str, timeout: float = 20.0) -> Iterator[IsolatedReward]:
    reward = IsolatedReward(f"tests.rewards.functions:{name}", timeout=timeout)
    try:
        yield reward
    finally:
        reward.close()


def alive(pid: int) -> bool:
    """Running, or a zombie nobody reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def soon_gone(pid: int) -> bool:
    """Orphans are reaped by init, which may take a moment (or, in a container, leave a zombie)."""
    for _ in range(100):
        if not alive(pid) or Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_values_arrive_to_the_last_bit_and_rows_may_hold_any_value() -> None:
    with isolated("lengths") as reward:
        assert reward(batch(2, 2)) == [4 / 3] * 4
        assert reward([]) == []
    with isolated("is_date") as reward:
        assert reward([make(day=datetime.date(2024, 5, 1))]) == [2024.0]
    assert reward.counts == {} and reward.first_failure is None


def test_async_function_runs_its_samples_at_once() -> None:
    with isolated("lengths_async") as reward:
        reward(batch(1, 1))
        start = time.monotonic()
        assert reward(batch(10, 8)) == [4 / 3] * 80
        assert time.monotonic() - start < 2.0  # one after the other: 80 * 0.05 = 4 s


def test_worker_is_one_long_lived_process_in_its_own_session_without_torch() -> None:
    with isolated("process_facts") as reward:
        first, second = reward(batch()), reward(batch())
        pid, session, has_torch, _ = (int(value or 0) for value in first)
        assert pid == session != os.getsid(0)
        assert not has_torch
        assert second[:3] == first[:3] and [first[3], second[3]] == [1.0, 2.0]
        assert alive(pid)
    assert not alive(pid)  # reaped: a zombie would still answer
    third = reward(batch())  # closed, then called: a new worker
    assert third[0] != pid and third[3] == 1.0
    reward.close()
    reward.close()


def test_hanging_call_is_killed_with_its_children_and_costs_one_prompt(tmp_path: Path) -> None:
    samples = batch(3, 2)
    for sample in samples:
        sample.row["pid_file"] = str(tmp_path / "pid")
    with isolated("hangs_on_p1", timeout=1.0) as reward:
        start = time.monotonic()
        values = reward(samples)
        assert time.monotonic() - start < 20  # two calls of 1 s, not of 60 s
        assert values == [1.0, 1.0, None, None, 1.0, 1.0]
        assert reward.counts == {"timeout": 2}
        assert list(reward.failed) == [2, 3]
        assert "did not answer within 1 s" in str(reward.first_failure)
        assert "prompt 'p1', completion 0" in str(reward.first_failure)
        assert soon_gone(int((tmp_path / "pid").read_text()))


def test_function_that_always_hangs_is_given_up_after_two_prompts() -> None:
    with isolated("hangs", timeout=0.3) as reward:
        start = time.monotonic()
        assert reward(batch(30, 2)) == [None] * 60
        assert time.monotonic() - start < 8  # 31 calls would take at least 9.3 s
        assert reward.counts == {"timeout": 60}


def test_death_of_the_worker_is_counted_and_a_new_one_started() -> None:
    with isolated("dies_on_p1") as reward:
        assert reward(batch(3, 1)) == [1.0, None, 1.0]
        assert reward.counts == {"worker_died": 1}
        assert "ended its worker process (exit status 7)" in str(reward.first_failure)
        assert reward(batch(1, 2)) == [1.0, 1.0]
        assert reward.failed == {}


def test_exception_is_counted_with_its_place_on_one_line() -> None:
    with isolated("raises_on_p1") as reward:
        assert reward(batch(2, 1)) == [1.0, None]
        assert reward.counts == {"exception": 1}
        message = str(reward.first_failure)
        assert "raised ValueError: no answer here" in message and "functions.py, line " in message
        assert "\n" not in message
        worker = reward._process
        reward(batch(2, 1))
        assert reward._process is worker  # an exception does not cost the process
        assert reward.counts == {"exception": 2} and reward.first_failure == message


def test_sys_exit_in_the_function_is_an_exception() -> None:
    with isolated("leaves") as reward:
        assert reward(batch(1, 1)) == [None]
        assert reward.counts == {"exception": 1} and "SystemExit: enough" in str(reward.first_failure)


def test_bad_values_cost_their_own_sample() -> None:
    with isolated("mixed") as reward:
        assert reward(batch(3, 2)) == [None, None, None, None, 1.0, 2.0]
        assert reward.counts == {"not_finite": 2, "wrong_type": 1}
        assert list(reward.failed) == [0, 1, 2]  # the None at 3 means "not applicable"
        assert "returned nan" in reward.failed[0] and "type str" in reward.failed[2]


def test_wrong_length_is_an_error_not_a_count() -> None:
    with (
        isolated("one_too_few") as reward,
        pytest.raises(RunError, match="returned 3 values for 4 completions"),
    ):
        reward(batch())


def test_returning_no_list_is_counted() -> None:
    with isolated("nothing") as reward:
        assert reward(batch(2, 1)) == [None, None]
        assert reward.counts == {"wrong_type": 2}


def test_printing_and_reading_do_not_disturb_the_protocol(capfd: pytest.CaptureFixture[str]) -> None:
    with isolated("prints_and_reads") as reward:
        assert reward(batch(1, 2)) == [0.0, 0.0]
        assert reward(batch(1, 1)) == [0.0]
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("hello from the function") == 2 and err.count("from a child") == 2


def test_worker_restores_pythonpath(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    with isolated("python_path") as reward:
        assert reward([make(expected="/somewhere/else")]) == [1.0]


def test_large_batch_passes_the_pipes() -> None:
    text = "x" * 200_000
    with isolated("lengths") as reward:
        assert reward([make(text, "p", i) for i in range(20)]) == [200_000 / 3] * 20


def test_interrupt_inside_a_call_leaves_no_stale_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    with isolated("lengths") as reward:
        reward(batch())
        worker = reward._process
        assert worker is not None
        with monkeypatch.context() as patch:
            patch.setattr(isolation.wire, "receive", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                reward([make("123")])
        assert worker.returncode == -signal.SIGKILL
        assert reward([make("123456")]) == [2.0]


def test_a_fork_of_the_parent_does_not_kill_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    with isolated("lengths") as reward:
        reward(batch())
        worker, kill = reward._process, reward._kill
        assert worker is not None and kill is not None
        detached = kill.peek()
        assert detached is not None
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            isolation._end(*detached[2])
        assert worker.poll() is None and reward([make("123")]) == [1.0]


def _interrupted(*_: object) -> bytes:
    raise KeyboardInterrupt


def test_file_that_only_the_worker_cannot_import(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def f(samples):\n    return [1.0] * len(samples)\n")
    reward = IsolatedReward(f"{path}:f")
    path.write_text("import not_there\n")
    with pytest.raises(
        UsageError, match=r"worker process: .*ModuleNotFoundError: No module named 'not_there'"
    ):
        reward(batch())
    assert reward._process is None


def test_siblings_of_a_file_can_be_imported_late(tmp_path: Path) -> None:
    (tmp_path / "helper_of_mine.py").write_text("VALUE = 4.0\n")
    (tmp_path / "mine.py").write_text(
        "def f(samples):\n    import helper_of_mine\n    return [helper_of_mine.VALUE] * len(samples)\n"
    )
    reward = IsolatedReward("mine.py:f", folder=tmp_path)
    try:
        assert reward.name == "mine.py:f" and reward(batch(1, 1)) == [4.0]
    finally:
        reward.close()


def test_timeout_must_be_positive() -> None:
    with pytest.raises(UsageError, match="timeout"):
        IsolatedReward("tests.rewards.functions:lengths", timeout=0)


PARENT = """
import os, signal, sys
from ridgeline.rewards.isolation import IsolatedReward
from tests.rewards.samples import batch, make
interrupts = []
signal.signal(signal.SIGINT, lambda *_: interrupts.append(1))
reward = IsolatedReward("tests.rewards.functions:process_facts")
first = reward(batch())
print("pid", int(first[0]), flush=True)
sys.stdin.readline()
second = reward(batch())
print("same", second[0] == first[0] and second[3] == 2.0, len(interrupts), flush=True)
if sys.argv[1] == "hang":
    stuck = IsolatedReward("tests.rewards.functions:hangs_on_p1", timeout=50)
    stuck([make("x", "p1", pid_file=sys.argv[2])])
"""


def start_parent(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def test_ctrl_c_reaches_the_parent_only_and_exit_ends_the_worker() -> None:
    parent = start_parent("leave")
    assert parent.stdin is not None and parent.stdout is not None
    pid = int(parent.stdout.readline().split()[1])
    os.killpg(parent.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    parent.stdin.write("\n")
    parent.stdin.flush()
    assert parent.stdout.readline().split() == ["same", "True", "1"]
    assert parent.wait(timeout=20) == 0
    assert soon_gone(pid)
    parent.stdin.close()
    parent.stdout.close()


def test_worker_in_the_middle_of_a_call_ends_with_a_killed_parent(tmp_path: Path) -> None:
    parent = start_parent("hang", str(tmp_path / "pid"))
    assert parent.stdin is not None and parent.stdout is not None
    idle = int(parent.stdout.readline().split()[1])
    parent.stdin.write("\n")
    parent.stdin.flush()
    parent.stdout.readline()
    for _ in range(200):
        if (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text():
            break
        time.sleep(0.05)
    child = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    assert soon_gone(idle) and soon_gone(child)
    parent.stdin.close()
    parent.stdout.close()
