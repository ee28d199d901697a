"""The live world over one WebSocket: messages answered in order, dragging coalesced, playing pushed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from ridgeline.schema.errors import RidgelineError

SOCKETS = 8
QUEUE = 256
SUPERSEDED = ("pin", "edit", "route")
"""Messages of dragging: of several in a row only the newest counts."""
FRAME = 1 / 30
"""Seconds between two frames at the least: no screen shows more."""
logger = logging.getLogger("ridgeline.studio")
Answer = tuple[dict[str, Any], Mapping[str, np.ndarray]]


class Worlds:
    """The sockets that are open, and the threads in which their worlds compute."""

    def __init__(self, make: Callable[[], Any] | None = None) -> None:
        self.open = 0
        self._make = make or _session
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="ridgeline-world")

    async def serve(self, socket: WebSocket) -> None:
        """One socket from its opening to its end."""
        if self.open >= SOCKETS:
            await socket.close(1013, "Too many worlds are open; close one of them.")
            return
        self.open += 1
        try:
            await socket.accept()
            await _Player(socket, self._make, self._threads).run()
        finally:
            self.open -= 1

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Player:
    """Answers the messages of one socket; between them, while playing, computes and pushes frames."""

    def __init__(self, socket: WebSocket, make: Callable[[], Any], threads: ThreadPoolExecutor) -> None:
        self.socket = socket
        self.make = make
        self.threads = threads
        self.session: Any = None
        self.queue: deque[Any] = deque()
        self.arrived = asyncio.Event()
        self.gone = False

    async def run(self) -> None:
        reader = asyncio.create_task(self._read())
        try:
            while not self.gone:
                if self.queue:
                    await self._next()
                elif self.session is not None and self.session.playing:
                    await self._frame()
                else:
                    self.arrived.clear()
                    if not self.queue and not self.gone:
                        await self.arrived.wait()
        except (WebSocketDisconnect, RuntimeError):
            pass  # the browser left while an answer was on its way
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader

    async def _read(self) -> None:
        try:
            while True:
                text = await self.socket.receive_text()
                if len(self.queue) >= QUEUE:
                    await self.socket.close(1008, "Too many messages at once.")
                    break
                self.queue.append(_message(text))
                self.arrived.set()
        except (WebSocketDisconnect, RuntimeError, KeyError):
            pass
        finally:
            self.gone = True
            self.arrived.set()

    async def _next(self) -> None:
        """Answer the oldest message; one that a newer one supersedes is told so and not computed."""
        message = self.queue.popleft()
        if not isinstance(message, dict):
            await self._send(_failed(None, "A message is a JSON object with id and type."))
            return
        kind = message.get("type")
        following = self.queue[0] if self.queue else None
        if kind in SUPERSEDED and isinstance(following, dict) and following.get("type") == kind:
            await self._send(({"id": message.get("id"), "type": kind, "ok": True, "skipped": True}, {}))
            return
        await self._send(await self._in_thread(self._handle, message))

    async def _frame(self) -> None:
        """One frame nobody asked for. It is sent before the next is computed, so a slow reader slows it."""
        started = asyncio.get_running_loop().time()
        await self._send(await self._in_thread(self._advance))
        spent = asyncio.get_running_loop().time() - started
        # A message that arrives meanwhile is answered at once.
        self.arrived.clear()
        if not self.queue and not self.gone:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.arrived.wait(), max(0.0, FRAME - spent))

    async def _in_thread(self, compute: Callable[..., Answer], *arguments: Any) -> Answer:
        """The event loop stays free, so that messages arrive while a world computes."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, compute, *arguments)

    def _handle(self, message: dict[str, Any]) -> Answer:
        id_, kind = message.get("id"), message.get("type")
        try:
            if self.session is None:
                self.session = self.make()
            meta, blocks = self.session.handle(message)
        except RidgelineError as error:
            return _failed(id_, str(error), kind)
        except Exception:
            # One message must not end the world of whoever sent it.
            logger.exception("a message of type %r failed", kind)
            return _failed(id_, "The world could not compute that; this is a bug in ridgeline.", kind)
        return dict(meta), blocks

    def _advance(self) -> Answer:
        try:
            meta, blocks = self.session.advance()
        except Exception as error:
            self.session.playing = False
            if isinstance(error, RidgelineError):
                return _failed(None, str(error), "frame")
            logger.exception("a frame failed")
            return _failed(None, "The world could not go on; this is a bug in ridgeline.", "frame")
        return dict(meta), blocks

    async def _send(self, answer: Answer) -> None:
        from ridgeline.landscape.blocks import encode

        await self.socket.send_bytes(encode(*answer))


def _message(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _failed(id_: Any, sentence: str, kind: Any = None) -> Answer:
    return {
        "id": id_ if isinstance(id_, int | str) else None,
        "type": kind,
        "ok": False,
        "error": sentence,
    }, {}


def _session() -> Any:
    from importlib import import_module

    # Computing with one thread is faster at this size, and leaves the other core to the browser.
    import_module("torch").set_num_threads(1)
    return import_module("ridgeline.landscape.world.session").Session()
