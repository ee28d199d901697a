"""What parent and worker say to each other: frames of 4 bytes of length and a body.

Requests are pickled samples (the worker is our own child, and prompt rows may hold dates or arrays). Replies
are JSON: the parent unpickles nothing that came out of a process in which foreign code ran.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time

from ridgeline.rewards.call import Failure, Reply

HEADER = struct.Struct("<I")
READY = b"ready"


class Silence(Exception):
    """The other side said nothing before the deadline."""


class Hangup(Exception):
    """The other side closed its end."""


def send(descriptor: int, body: bytes, deadline: float | None = None) -> None:
    """Write one frame; with a deadline (``time.monotonic`` seconds) the descriptor must not block.

    Raises:
        Silence: the deadline passed. Hangup: nobody reads any more.
    """
    left = memoryview(HEADER.pack(len(body)) + body)
    while left:
        _wait(descriptor, select.POLLOUT, deadline)
        try:
            left = left[os.write(descriptor, left[: 1 << 16]) :]
        except BlockingIOError:
            continue
        except BrokenPipeError:
            raise Hangup from None


def receive(descriptor: int, deadline: float | None = None) -> bytes:
    """Read one frame. Raises Silence and Hangup as ``send`` does."""
    (length,) = HEADER.unpack(_read(descriptor, HEADER.size, deadline))
    return _read(descriptor, length, deadline)


def _read(descriptor: int, count: int, deadline: float | None) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        _wait(descriptor, select.POLLIN, deadline)
        try:
            part = os.read(descriptor, min(count - len(parts), 1 << 20))
        except BlockingIOError:
            continue
        if not part:
            raise Hangup
        parts += part
    return bytes(parts)


def _wait(descriptor: int, event: int, deadline: float | None) -> None:
    if deadline is None:
        return
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise Silence


def encode(outcome: Reply | Failure) -> bytes:
    """An outcome as JSON."""
    if isinstance(outcome, Failure):
        return json.dumps({"kind": outcome.kind, "message": outcome.message}).encode()
    failures = [[position, f.kind, f.message] for position, f in outcome.failures.items()]
    return json.dumps({"values": outcome.values, "failures": failures}).encode()


def decode(body: bytes) -> Reply | Failure:
    """The inverse of ``encode``; floats come back to the last bit."""
    fields = json.loads(body)
    if "kind" in fields:
        return Failure(fields["kind"], fields["message"])
    failures = {position: Failure(kind, message) for position, kind, message in fields["failures"]}
    return Reply(fields["values"], failures)
