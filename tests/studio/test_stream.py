from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import ridgeline.studio
from ridgeline.studio.runs_index import RunsIndex
from ridgeline.studio.serve import Handle
from ridgeline.studio.stream import EventLog
from tests.studio.folders import append, full_run, metric

Seen = tuple[str | None, str | None, Any]


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[Handle]:
    full_run(tmp_path)
    served = ridgeline.studio.launch(tmp_path, port=0, block=False)
    yield served
    served.close()


def listen(handle: Handle, count: int, last: str | None = None, runs: str = "full") -> list[Seen]:
    """The first ``count`` events: id, kind, data."""
    address, token = handle.url.split("?token=")
    headers = {"Authorization": f"Bearer {token}"} | ({"Last-Event-ID": last} if last else {})
    seen: list[Seen] = []
    with httpx.stream("GET", f"{address}api/stream?runs={runs}", headers=headers, timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
                continue
            if "id" in fields:
                seen.append((fields.get("id"), fields.get("event"), json.loads(fields.get("data", "null"))))
            fields = {}
            if len(seen) == count:
                break
    return seen


def test_points_arrive_and_the_cursor_goes_on(handle: Handle, tmp_path: Path) -> None:
    metrics = tmp_path / "full/stages/01-policy/metrics.jsonl"

    def write() -> None:
        for step in (20, 21, 22):
            time.sleep(1.3)
            append(metrics, [metric(step, reward=step)])

    writer = threading.Thread(target=write)
    writer.start()
    seen = listen(handle, 6)
    writer.join()
    assert seen[0][1] is None  # an id alone: the cursor before anything has happened
    points = [data for _, kind, data in seen if kind == "points"]
    assert points[0] == {"run": "full", "stage": "01-policy", "rows": [{"step": 20, "reward": 20.0}]}
    # Reconnect after the first points: nothing twice, nothing left out.
    first = next(id_ for id_, kind, _ in seen if kind == "points")
    again = listen(handle, 1 + len(seen) - 1 - [id_ for id_, _, _ in seen].index(first), last=first)
    assert again[1:] == seen[[id_ for id_, _, _ in seen].index(first) + 1 :][: len(again) - 1]


def test_an_unknown_epoch_is_told_to_fetch_anew(handle: Handle) -> None:
    for last in ("deadbeef.3", "nonsense", f"{'9' * 50}.{'9' * 50}"):
        assert listen(handle, 1, last)[0][1] == "reset"


def test_the_log_forgets_and_says_so() -> None:
    log = EventLog(kept=3)
    for number in range(10):
        log.publish("runs", [number])
    assert log.since(5) is None and log.since(99) is None
    events, newest = log.since(7)  # type: ignore[misc]
    assert [event.data for event in events] == ["[7]", "[8]", "[9]"] and newest == 10
    assert log.cursor(f"{log.epoch}.9") == 9
    assert log.cursor(f"{log.epoch}.2") is None and log.cursor(f"{log.epoch}.11") is None


def test_closing_frees_the_port_although_somebody_listens(tmp_path: Path) -> None:
    handle = ridgeline.studio.launch(tmp_path, port=0, block=False)
    port = int(handle.url.split(":")[2].split("/")[0])
    listener = threading.Thread(target=lambda: _ignore(handle), daemon=True)
    listener.start()
    time.sleep(0.5)
    started = time.monotonic()
    handle.close()
    assert not handle.is_running and time.monotonic() - started < 5
    ridgeline.studio.launch(tmp_path, port=port, block=False).close()


def _ignore(handle: Handle) -> None:
    with contextlib.suppress(httpx.HTTPError):
        listen(handle, 99)


def test_a_look_does_not_wait_for_whoever_reads_the_curves(tmp_path: Path) -> None:
    run = full_run(tmp_path)
    index = RunsIndex(tmp_path)
    stage = index.run("full").stages["01-policy"]
    append(run / "stages/01-policy/metrics.jsonl", [metric(20, reward=1.0)])
    held, done = threading.Event(), threading.Event()

    def read() -> None:
        with stage.lock:
            held.set()
            done.wait(20)

    reader = threading.Thread(target=read)
    reader.start()
    assert held.wait(5)
    assert index.refresh()["full"].points == []
    done.set()
    reader.join()
    assert index.refresh()["full"].points == [("01-policy", [{"step": 20, "reward": 1.0}])]
