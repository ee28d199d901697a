"""The process in which one reward function runs; ``IsolatedReward`` starts it and talks to it over pipes."""

from __future__ import annotations

import io
import os
import pickle
import queue
import signal
import sys
import threading
from pathlib import Path

from ridgeline.rewards import wire
from ridgeline.rewards.call import Failure, RewardFunction, evaluate
from ridgeline.rewards.resolve import load
from ridgeline.schema.errors import RidgelineError


def main(reference: str, python_path: str) -> None:
    """Load the function, say that it is ready (or why not), answer requests until the parent is gone.

    ``python_path`` is what PYTHONPATH was before the parent put its own search path there.
    """
    requests_fd, replies_fd = _take_pipes()
    os.environ["PYTHONPATH"] = python_path
    place = reference.rpartition(":")[0]
    if place.endswith(".py"):
        sys.path.insert(0, str(Path(place).parent))
    else:
        # Last, so that a file called random.py in the working directory replaces nothing.
        sys.path.append(os.getcwd())
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests_fd, requests), daemon=True).start()
    try:
        function = load(reference)
    except RidgelineError as error:
        wire.send(replies_fd, str(error).encode())
        return
    wire.send(replies_fd, wire.READY)
    while True:
        wire.send(replies_fd, _answer(function, requests.get()))


def _take_pipes() -> tuple[int, int]:
    """Move the two pipes away from descriptors 0 and 1, so that printing and reading cannot disturb them."""
    requests_fd, replies_fd = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    return requests_fd, replies_fd


def _listen(descriptor: int, requests: queue.SimpleQueue[bytes]) -> None:
    """A thread of its own, so that the death of the parent is noticed in the middle of a long call too."""
    while True:
        try:
            requests.put(wire.receive(descriptor))
        except wire.Hangup:
            # Whatever the function started too. By own number, not 0: never a group that somebody else leads.
            os.killpg(os.getpid(), signal.SIGKILL)


def _answer(function: RewardFunction, request: bytes) -> bytes:
    try:
        outcome = evaluate(function, pickle.loads(request))
    except RidgelineError as error:
        outcome = Failure("exception", f"raised {type(error).__name__}: {error}")
    return wire.encode(outcome)


if __name__ == "__main__":
    main(*sys.argv[1:])
