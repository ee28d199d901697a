from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from ridgeline.landscape.blocks import decode
from ridgeline.schema.errors import UsageError
from ridgeline.studio.app import build
from ridgeline.studio.security import Access
from ridgeline.studio.studio import Studio
from ridgeline.studio.world_socket import Worlds
from tests.studio.conftest import HOME


class Slow:
    """A world that takes a while for a pin, and counts what it was asked."""

    asked: list[dict[str, Any]]

    def __init__(self) -> None:
        self.asked = []
        self.playing = False
        self.frames = 0
        Slow.newest = self

    newest: Slow

    def handle(self, message: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        self.asked.append(message)
        if message["type"] == "pin":
            time.sleep(0.2)
        if message["type"] == "bad":
            raise UsageError("that is wrong.")
        if message["type"] == "bug":
            raise ZeroDivisionError
        self.playing = {"play": True, "pause": False}.get(message["type"], self.playing)
        meta = {"id": message["id"], "type": message["type"], "ok": True}
        return meta | {"thread": threading.current_thread().name}, {"x": np.zeros(3)}

    def advance(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        self.frames += 1
        return {"id": None, "type": "frame", "ok": True}, {}


def connect(root: Path) -> Any:
    studio = Studio(root, worlds=Worlds(Slow))
    client = TestClient(build(studio, Access(None)), base_url=HOME)
    return client.websocket_connect("ws://localhost/api/world", headers={"Origin": HOME})


def ask(socket: Any, **message: Any) -> None:
    socket.send_json(message)


def answer(socket: Any) -> dict[str, Any]:
    return decode(socket.receive_bytes())[0]


def test_answers_errors_and_threads(tmp_path: Path) -> None:
    with connect(tmp_path) as socket:
        ask(socket, id=1, type="roll")
        meta = answer(socket)
        assert (meta["id"], meta["ok"]) == (1, True) and meta["thread"].startswith("ridgeline-world")
        ask(socket, id=2, type="bad")
        assert answer(socket) == {"id": 2, "type": "bad", "ok": False, "error": "that is wrong."}
        ask(socket, id=3, type="bug")
        assert answer(socket)["ok"] is False
        for text in ("nonsense", "[1]", "[" * 50_000):
            socket.send_text(text)
            assert answer(socket)["ok"] is False


def test_only_the_newest_drag_is_computed_and_all_are_answered(tmp_path: Path) -> None:
    with connect(tmp_path) as socket:
        for number in range(20):
            ask(socket, id=number, type="pin", x=0, y=0)
        metas = [answer(socket) for _ in range(20)]
    assert [meta["id"] for meta in metas] == list(range(20)) and all(meta["ok"] for meta in metas)
    computed = [message["id"] for message in Slow.newest.asked]
    assert computed[-1] == 19 and len(computed) <= 4
    assert sum(meta.get("skipped", False) for meta in metas) == 20 - len(computed)


def test_playing_pushes_frames_until_paused(tmp_path: Path) -> None:
    with connect(tmp_path) as socket:
        ask(socket, id=1, type="play", every=3)
        assert answer(socket)["id"] == 1
        for _ in range(3):
            frame = answer(socket)
            assert (frame["id"], frame["type"]) == (None, "frame")
        ask(socket, id=2, type="pause")
        while answer(socket)["id"] != 2:
            pass
        count = Slow.newest.frames
        time.sleep(0.2)
        assert Slow.newest.frames == count


def test_not_too_many_worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ridgeline.studio.world_socket.SOCKETS", 0)
    with pytest.raises(Exception) as closed, connect(tmp_path):
        pass
    assert getattr(closed.value, "code", None) == 1013
