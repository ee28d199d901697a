"""Server-sent events with a cursor: whoever reconnects goes on where the connection broke."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from ridgeline.studio.runs_index import RunsIndex

KEPT = 4096
"""Events kept for whoever reconnects; who was away for longer fetches everything anew."""
ROWS = 500
"""Rows of one event."""
SILENCE = 15.0
INTERVAL = 1.0
PAUSE = 5.0
"""The longest pause between two looks."""
logger = logging.getLogger("ridgeline.studio")


@dataclass(frozen=True)
class Event:
    """``data`` is JSON; ``run``: whose points they are."""

    number: int
    kind: str
    run: str | None
    data: str


class EventLog:
    """The newest events, numbered from 1 within one ``epoch`` (one life of the server)."""

    def __init__(self, kept: int = KEPT) -> None:
        self.epoch = secrets.token_hex(4)
        self.closed = False
        self._events: deque[Event] = deque(maxlen=kept)
        self._number = 0
        self._lock = threading.Lock()
        self._listeners: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def publish(self, kind: str, data: Any, run: str | None = None) -> None:
        """Append one event and wake whoever listens."""
        text = json.dumps(data, separators=(",", ":"), allow_nan=False)
        with self._lock:
            self._number += 1
            self._events.append(Event(self._number, kind, run, text))
        self._wake()

    def close(self) -> None:
        """End all streams."""
        self.closed = True
        self._wake()

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def since(self, number: int) -> tuple[list[Event], int] | None:
        """Events after ``number`` and the newest number; None where some of them are no longer kept."""
        with self._lock:
            newest = self._number
            oldest = self._events[0].number if self._events else newest + 1
            if number > newest or number < oldest - 1:
                return None
            return [event for event in self._events if event.number > number], newest

    def cursor(self, last_event_id: str | None) -> int | None:
        """The number in a ``Last-Event-ID``: the newest without one, None for one that is not known here."""
        if not last_event_id:
            return self._number
        epoch, _, number = last_event_id.partition(".")
        if epoch != self.epoch or not (number.isascii() and number.isdigit()) or len(number) > 15:
            return None
        return int(number) if self.since(int(number)) is not None else None

    async def follow(self, last_event_id: str | None, runs: frozenset[str] | None) -> AsyncIterator[str]:
        """The stream of one client, as text. ``runs``: whose points are wanted; None: everybody's."""
        woken = asyncio.Event()
        self._listeners[woken] = asyncio.get_running_loop()
        try:
            cursor = self.cursor(last_event_id)
            yield "retry: 1000\n\n"
            if cursor is None:
                cursor = self._number
                yield self._text("reset", cursor, "{}")
            else:
                # An id without data: the browser then knows the cursor before anything has happened.
                yield f"id: {self.epoch}.{cursor}\n\n"
            while not self.closed:
                woken.clear()
                fresh = self.since(cursor)
                if fresh is None:
                    cursor = self._number
                    yield self._text("reset", cursor, "{}")
                    continue
                events, newest = fresh
                for event in events:
                    if event.kind != "points" or runs is None or event.run in runs:
                        yield self._text(event.kind, event.number, event.data)
                cursor = newest
                if not events:
                    try:
                        await asyncio.wait_for(woken.wait(), SILENCE)
                    except TimeoutError:
                        yield ": still here\n\n"
        finally:
            self._listeners.pop(woken, None)

    def _text(self, kind: str, number: int, data: str) -> str:
        return f"id: {self.epoch}.{number}\nevent: {kind}\ndata: {data}\n\n"

    def _wake(self) -> None:
        for woken, loop in list(self._listeners.items()):
            try:
                loop.call_soon_threadsafe(woken.set)
            except RuntimeError:
                self._listeners.pop(woken, None)  # that loop has ended


class Poller:
    """A thread that looks at the runs every second and tells the log what is new."""

    def __init__(self, index: RunsIndex, log: EventLog, interval: float = INTERVAL) -> None:
        self.index = index
        self.log = log
        self.interval = interval
        self._stop = threading.Event()
        self._summaries = {run.id: run.summary() for run in index.all()}
        self._thread = threading.Thread(target=self._work, name="ridgeline-studio-poller", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def poll(self) -> None:
        """One look."""
        vanished = self.index.scan()
        changes = self.index.refresh()
        if vanished or any(change.anew for change in changes.values()):
            self.log.publish("reset", {})
        summaries = {run.id: run.summary() for run in self.index.all()}
        changed = [new for id_, new in summaries.items() if new != self._summaries.get(id_)]
        self._summaries = summaries
        if changed:
            self.log.publish("runs", changed)
        for run, change in changes.items():
            for stage, rows in change.points:
                for first in range(0, len(rows), ROWS):
                    data = {"run": run, "stage": stage, "rows": rows[first : first + ROWS]}
                    self.log.publish("points", data, run)
            if change.events:
                self.log.publish("events", {"run": run, "events": change.events})

    def _work(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self.poll()
            except Exception:
                # The studio goes on showing what it has; the next look may succeed.
                logger.exception("looking at the runs failed")
            # On a slow network disk looking must not become all that the server does; where it was slow for
            # once, what is new must not wait for long.
            took = time.monotonic() - started
            self._stop.wait(max(self.interval, min(PAUSE, 4 * took)))
