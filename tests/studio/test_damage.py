from __future__ import annotations

import fcntl
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from ridgeline.studio.app import build
from ridgeline.studio.locks import held_locks, is_locked
from ridgeline.studio.runs_index import RunsIndex
from ridgeline.studio.security import Access
from ridgeline.studio.studio import Studio
from tests.studio.conftest import HOME
from tests.studio.folders import append, full_run, metric, sample, write_run, write_step

STAGE = "/api/runs/full/stages/01-policy"


def open_client(root: Path) -> TestClient:
    return TestClient(build(Studio(root), Access(None)), base_url=HOME)


def spoil(path: Path) -> None:
    """Nothing has been written for a long time."""
    for folder, _, files in os.walk(path):
        for name in files:
            os.utime(Path(folder) / name, (0, 0))
        os.utime(folder, (0, 0))


def test_states(tmp_path: Path) -> None:
    killed = write_run(tmp_path / "killed", finished=False)
    interrupted = write_run(tmp_path / "interrupted", finished=False)
    append(interrupted / "events.jsonl", [{"time": 1, "kind": "interrupted", "stage": "policy", "step": 3}])
    failed = write_run(tmp_path / "failed", finished=False)
    append(failed / "events.jsonl", [{"time": 1, "kind": "nonfinite", "stage": "policy", "step": 3}])
    fresh = write_run(tmp_path / "group" / "fresh", finished=False)
    headless = write_run(tmp_path / "headless")
    (headless / "recipe.toml").unlink()
    garbled = write_run(tmp_path / "garbled")
    (garbled / "recipe.toml").write_text("= 3")
    for run in (killed, interrupted, failed, headless, garbled):
        spoil(run)
    runs = {run.id: run for run in RunsIndex(tmp_path).all()}
    states = {id_: run.state for id_, run in runs.items()}
    assert states == {
        "killed": "interrupted",
        "interrupted": "interrupted",
        "failed": "failed",
        "group~fresh": "running",
        "headless": "damaged",
        "garbled": "damaged",
    }
    assert "ridgeline resume" in (runs["killed"].problem or "")
    assert runs["headless"].problem == "recipe.toml is missing."
    assert "TOML" in (runs["garbled"].problem or "")
    assert [stage.id for stage in runs["garbled"].stages.values()] == ["01-policy"]
    assert fresh.is_dir()


@pytest.mark.skipif(held_locks() is None, reason="this system does not list its locks")
def test_a_lock_is_seen_and_not_taken(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", finished=False)
    spoil(run)
    index = RunsIndex(tmp_path)
    with open(run / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert is_locked(run, held_locks())
        index.refresh()
        assert index.run("run").state == "running"
    index.refresh()
    assert index.run("run").state == "interrupted"


def test_the_studio_writes_nothing(tmp_path: Path) -> None:
    run = full_run(tmp_path)

    def everything() -> list[tuple[str, int]]:
        return sorted((str(p), p.stat().st_mtime_ns) for p in run.rglob("*"))

    before = everything()
    client = open_client(tmp_path)
    for path in ("", "/series", "/over", "/alerts", "/steps", "/groups?step=0", "/reference?prompt_id=a"):
        assert client.get(f"{STAGE}{path}" if path else "/api/runs/full").status_code == 200
    assert everything() == before


def test_damaged_files_are_told_and_everything_else_is_shown(tmp_path: Path) -> None:
    run = full_run(tmp_path)
    stage = run / "stages/01-policy"
    with open(stage / "metrics.jsonl", "a") as file:
        file.write('{"step": 20, "met\n' + "[" * 100_000 + "\n")
    (stage / "result.json").write_text('{"a": ')
    (run / "environment.json").write_bytes(b"\xff\xfe")
    (run / "summary.json").write_text('{"x": NaN, "y": 1e999, "z": "\\ud800"}')
    append(run / "events.jsonl", [{"kind": "odd", "time": "soon", "text": "\ud800", "deep": 1e308}])
    (stage / "samples/step-000000.parquet").write_bytes(b"PAR1nonsensePAR1")
    (stage / "traces/step-000000.parquet").write_bytes(b"")
    client = open_client(tmp_path)
    assert client.get(f"{STAGE}/series").json()["steps_total"] == 20
    details = client.get("/api/runs/full").json()
    assert "2 damaged lines" in details["problem"] and "result.json" in details["problem"]
    assert details["summary"] == {"x": None, "y": None, "z": "?"} and details["environment"] is None
    steps = client.get(f"{STAGE}/steps").json()
    assert [step["kind"] for step in steps] == ["step", *["evaluation"] * 3] and steps[0]["samples"] == 0
    groups = client.get(f"{STAGE}/groups", params={"step": 0})
    assert groups.status_code == 422 and "step-000000.parquet" in groups.json()["error"]


def test_parquet_of_other_columns_is_refused_in_words(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    run = full_run(tmp_path)
    samples = run / "stages/01-policy/samples"
    tables = [
        {"x": [1]},
        {
            "prompt_id": [1],
            "index": ["a"],
            "text": [3.5],
            "rewards": [7],
            "row": [b"\xff"],
            "completion_ids": ["x"],
        },
        {"prompt_id": [None], "index": [None], "text": [None], "rewards": ["[1]"], "completion_ids": [None]},
    ]
    for number, table in enumerate(tables):
        pq.write_table(pa.Table.from_pydict(table), samples / f"step-{number:06d}.parquet")
    client = open_client(tmp_path)
    for number in range(len(tables)):
        for path, query in (
            ("groups", {"search": "x", "sort": "reward"}),
            ("groups", {"sort": "-length"}),
            ("tokens", {"prompt_id": "1", "index": 0}),
            ("reference", {"prompt_id": "a"}),
        ):
            answer = client.get(f"{STAGE}/{path}", params=query | {"step": number})
            assert answer.status_code < 500, (number, path, answer.text)
    assert client.get(f"{STAGE}/over").status_code == 200


def test_a_stage_name_that_is_a_path_is_ignored(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [{"name": "fine", "type": "sft"}])
    (tmp_path / "run/recipe.toml").write_text(
        '[[stage]]\nname = "../../x"\ntype = "rl"\n[[stage]]\ntype = 3\n'
    )
    (run,) = RunsIndex(tmp_path).all()
    assert list(run.stages) == ["01-fine"]


def test_a_run_that_appears_and_vanishes(tmp_path: Path) -> None:
    import shutil

    studio = Studio(tmp_path)
    run = write_run(tmp_path / "deep" / "er" / "run")
    write_run(tmp_path / "too" / "deep" / "for" / "us")
    studio.poller.poll()
    assert [r.id for r in studio.index.all()] == ["deep~er~run"]
    shutil.rmtree(run)
    studio.poller.poll()
    assert studio.index.all() == []
    kinds = [event.kind for event in studio.log.since(0)[0]]  # type: ignore[index]
    assert kinds == ["runs", "reset"]


def test_a_folder_that_is_a_run_itself(tmp_path: Path) -> None:
    run = full_run(tmp_path)
    assert open_client(run).get(f"{STAGE}/series").json()["steps_total"] == 20


def test_many_completions_are_paged(tmp_path: Path) -> None:
    run = write_run(tmp_path / "full")
    stage = run / "stages/01-policy"
    many = [sample(f"p{k // 8:05d}", k % 8, f"text number {k}", judge=k % 7) for k in range(20_000)]
    write_step(stage, "step", 0, many)
    client = open_client(tmp_path)
    studio = client.app.app.state.studio  # type: ignore[attr-defined]
    page = client.get(f"{STAGE}/groups", params={"step": 0, "offset": 2000, "limit": 20}).json()
    assert page["total"] == 2500 and page["groups"][0]["prompt_id"] == "p02000"
    read = studio.samples.tables.rows_read
    hit = client.get(f"{STAGE}/groups", params={"step": 0, "search": "number 19999"}).json()
    assert [group["prompt_id"] for group in hit["groups"]] == ["p02499"]
    assert studio.samples.tables.rows_read == read  # the second page came from memory


def test_a_resumed_run_makes_everybody_fetch_anew(tmp_path: Path) -> None:
    run = full_run(tmp_path)
    studio = Studio(tmp_path)
    studio.poller.poll()
    metrics = run / "stages/01-policy/metrics.jsonl"
    aside = run / "aside"
    append(aside, [metric(step, reward=1) for step in range(5)])
    aside.rename(metrics)
    studio.poller.poll()
    kinds = [event.kind for event in studio.log.since(0)[0]]  # type: ignore[index]
    assert kinds[0] == "reset"
    assert studio.index.stage("full", "01-policy").tables()["metrics"].rows == 5


def test_a_run_deleted_and_a_stage_replaced_while_many_ask(tmp_path: Path) -> None:
    """Whatever happens to the folders meanwhile, every answer is a page, a sentence or a 404."""
    full_run(tmp_path)
    client = open_client(tmp_path)
    stage = tmp_path / "full/stages/01-policy"
    paths = ["/api/runs", "/api/runs/full", f"{STAGE}/series", f"{STAGE}/groups?step=0", f"{STAGE}/over"]

    def ask() -> set[int]:
        with ThreadPoolExecutor(16) as pool:
            return set(pool.map(lambda path: client.get(path).status_code, paths * 20))

    assert ask() == {200}
    shutil.rmtree(stage)
    stage.write_text("no folder")
    assert ask() <= {200, 404}
    assert client.get(f"{STAGE}/groups?step=0").status_code == 404
    shutil.rmtree(tmp_path / "full")
    assert ask() <= {200, 404}
