"""Reward functions in a process of their own, which can be killed."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

from ridgeline.rewards import wire
from ridgeline.rewards.call import Failure, Reply
from ridgeline.rewards.function_reward import FunctionReward
from ridgeline.rewards.resolve import ResolvedReward, resolve
from ridgeline.schema.errors import UsageError
from ridgeline.schema.records import Sample

STARTUP_SECONDS = 120.0
"""Starting the worker and importing the function; not part of the time a batch may take."""


class IsolatedReward(FunctionReward):
    """Runs an importable function in one long-lived worker process.

    A call that takes longer than ``timeout`` seconds is ended by killing the worker's process group; the next
    call starts a new one. The worker leads a session of its own, so Ctrl-C reaches only the parent; it ends
    when the parent does. What the function prints goes to stderr. Not for use from several threads at once.
    """

    def __init__(
        self,
        function: str | ResolvedReward,
        *,
        timeout: float = 30.0,
        name: str | None = None,
        folder: Path | None = None,
    ) -> None:
        """Resolve ``function`` (see ``resolve``); ``name`` is by default what the recipe calls it.

        Raises:
            UsageError: the function cannot be found or imported, or the timeout is not above 0.
        """
        resolved = resolve(function, folder=folder) if isinstance(function, str) else function
        super().__init__(name or resolved.name)
        if not timeout > 0:
            raise UsageError(f"reward '{self.name}': timeout = {timeout} must be above 0 seconds.")
        self.reference = resolved.reference
        self.timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._kill: weakref.finalize[..., object] | None = None

    def close(self) -> None:
        """Kill the worker and everything it started; the next call would start a new one."""
        if self._kill is not None:
            self._kill()  # at most once; also at interpreter exit
        self._process = self._kill = None

    def _attempt(self, samples: list[Sample]) -> Reply | Failure:
        request = pickle.dumps(samples)
        process = self._process
        try:
            if process is None:
                process = self._start()
                self._await_ready(process)
            requests_fd, replies_fd = _pipes(process)
            deadline = time.monotonic() + self.timeout
            wire.send(requests_fd, request, deadline)
            return wire.decode(wire.receive(replies_fd, deadline))
        except wire.Silence:
            self.close()
            return Failure("timeout", f"did not answer within {self.timeout:g} s and was killed")
        except wire.Hangup:
            self.close()
            return Failure("worker_died", f"ended its worker process ({_ending(process)})")
        except BaseException:
            # Interrupted between request and reply: the next reply would answer the wrong question.
            self.close()
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        # The worker finds modules where this process does; -P: the working directory shadows none of them.
        search = os.pathsep.join(path for path in sys.path if path)
        own = os.environ.get("PYTHONPATH", "")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ridgeline.rewards.worker", self.reference, own],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": search},
            bufsize=0,
        )
        self._kill = weakref.finalize(self, _end, self._process, os.getpid())
        for descriptor in _pipes(self._process):
            os.set_blocking(descriptor, False)
        return self._process

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        try:
            answer = wire.receive(_pipes(process)[1], time.monotonic() + STARTUP_SECONDS)
        except wire.Silence:
            raise UsageError(
                f"reward '{self.name}': importing {self.reference} in a worker took more than "
                f"{STARTUP_SECONDS:g} s; move slow work from the module's top level into the function."
            ) from None
        if answer != wire.READY:
            raise UsageError(f"in the worker process: {answer.decode()}")


def _pipes(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    assert process.stdin is not None and process.stdout is not None
    return process.stdin.fileno(), process.stdout.fileno()


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """Kill the group before reaping its leader: until then its number cannot belong to anybody else."""
    if os.getpid() != owner:
        return  # a fork of the owner (a data loader, say) inherits this duty and must not carry it out
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _ending(process: subprocess.Popen[bytes] | None) -> str:
    status = None if process is None else process.returncode
    if status is None:
        return "unknown status"
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
