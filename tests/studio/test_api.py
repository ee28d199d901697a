from __future__ import annotations

import math
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.studio.folders import append, metric

STAGE = "/api/runs/full/stages/01-policy"


def test_state_and_runs(client: TestClient) -> None:
    assert "ravine" in client.get("/api/state").json()["terrains"]
    runs = {run["id"]: run for run in client.get("/api/runs").json()}
    assert set(runs) == {"full", "world"}
    full = runs["full"]
    assert (full["state"], full["kind"], full["model"], full["seed"]) == ("finished", "run", "tiny", 3)
    (stage,) = full["stages"]
    assert (stage["id"], stage["state"], stage["steps_done"], stage["steps"]) == (
        "01-policy",
        "finished",
        20,
        20,
    )
    assert stage["has"] == {"samples": True, "landscape": False, "traces": True}
    assert runs["world"]["stages"][0]["has"]["landscape"]
    details = client.get("/api/runs/full").json()
    assert "grpo" in details["recipe"] and details["events"][-1]["kind"] == "run finished"


def test_series_of_all_three_files(client: TestClient) -> None:
    answer = client.get(f"{STAGE}/series").json()
    assert answer["steps_total"] == 20
    curves = answer["series"]
    assert curves["reward"]["step"] == list(range(20))
    assert curves["reward"]["mean"][7] == pytest.approx(0.7)
    assert curves["seconds/learn"]["mean"] == [1.5] * 20
    gold = curves["evaluation/reward/gold"]
    assert gold["step"] == [0, 10, 20]
    assert gold["low"] == pytest.approx([v - 0.1 for v in gold["mean"]])
    assert not [name for name in curves if "\0" in name]


def test_series_window_and_buckets(client: TestClient) -> None:
    query = {"names": "kl_k1", "points": 4, "from": 4, "to": 15}
    curve = client.get(f"{STAGE}/series", params=query).json()["series"]
    assert list(curve) == ["kl_k1"]
    assert curve["kl_k1"]["step"] == [7, 11, 15]
    assert curve["kl_k1"]["low"] == [4, 8, 12] and curve["kl_k1"]["high"] == [7, 11, 15]


def test_over_optimisation(client: TestClient) -> None:
    answer = client.get(f"{STAGE}/over").json()
    assert (answer["gold_name"], answer["proxy_name"]) == ("gold", "judge")
    assert [point["sqrt_kl"] for point in answer["points"]] == [0.0, 1.0, 2.0]
    assert answer["points"][1]["gold_high"] == pytest.approx(1.1)
    marks = {mark["n"]: mark["kl"] for mark in answer["best_of_n"]}
    assert marks[4] == pytest.approx(math.log(4) - 3 / 4)
    # Gold falls from 1.0 to 0.2 for every prompt alike, so halves of the prompts agree exactly.
    assert answer["peak"]["step"] == 10
    assert answer["peak"]["fall"] == pytest.approx(0.8) and answer["peak"]["over_optimised"]


def test_alerts_of_a_stage(client: TestClient) -> None:
    (alert,) = [a for a in client.get(f"{STAGE}/alerts").json() if a["kind"] == "over_optimisation"]
    assert alert["step"] == 10 and "since step 10" in alert["text"]


def test_steps_groups_and_search(client: TestClient) -> None:
    steps = client.get(f"{STAGE}/steps").json()
    assert steps[0] == {"kind": "step", "step": 0, "samples": 8, "has_trace": True}
    assert [s["step"] for s in steps if s["kind"] == "evaluation"] == [0, 10, 20]
    page = client.get(
        f"{STAGE}/groups", params={"kind": "evaluation", "step": 10, "offset": 1, "limit": 2}
    ).json()
    assert page["total"] == 4 and [g["prompt_id"] for g in page["groups"]] == ["b", "c"]
    assert page["groups"][0]["prompt"] == "question b"
    assert page["groups"][0]["completions"][1]["text"] == "b says 10"
    query = {"kind": "evaluation", "step": 10, "search": "C SAYS"}
    found = client.get(f"{STAGE}/groups", params=query).json()
    assert [group["prompt_id"] for group in found["groups"]] == ["c"]
    assert client.get(f"{STAGE}/groups", params=query | {"sort": "beauty"}).status_code == 422


def test_groups_sorted_by_what_the_trace_knows(client: TestClient) -> None:
    groups = client.get(f"{STAGE}/groups", params={"step": 0, "sort": "-kl"}).json()["groups"]
    # k1 of the only traced completion: (-1 - -1.5) + (-2 - -2.5) + (0 - -0.5)
    assert groups[0]["completions"][0]["kl"] == pytest.approx(1.5)
    assert groups[0]["completions"][0]["advantage"] == pytest.approx(0.5)
    assert groups[1]["completions"][0]["kl"] is None


def test_tokens_with_and_without_a_trace(client: TestClient) -> None:
    query = {"kind": "step", "step": 0, "prompt_id": "a", "index": 0}
    answer = client.get(f"{STAGE}/tokens", params=query).json()
    token = answer["tokens"][2]
    assert (token["piece"], token["logp"], token["old_logp"]) == ("s", -0.5, 0.0)
    assert token["kl"] == pytest.approx(0.5)
    assert token["ratio"] == pytest.approx(math.exp(0.5))
    assert token["clipped"] is False  # truncated at 2
    assert answer["missing"] == {"value": "The stage has no critic."}
    assert answer["objective"]["name"] == "grpo" and "clip" in answer["objective"]["formulas"]["loss"]
    bare = client.get(f"{STAGE}/tokens", params=query | {"kind": "evaluation"}).json()
    assert bare["tokens"][0]["kl"] is None and {"ref_logp", "kl", "piece"} <= set(bare["missing"])
    assert client.get(f"{STAGE}/tokens", params=query | {"index": 9}).status_code == 404


def test_reference_is_the_first_evaluation(client: TestClient) -> None:
    answer = client.get(f"{STAGE}/reference", params={"prompt_id": "c"}).json()
    assert answer == {"text": "c says 0", "where": "samples/evaluation-000000.parquet"}
    assert client.get(f"{STAGE}/reference", params={"prompt_id": "z"}).json()["text"] is None


def test_compare_with_itself_and_with_a_world(client: TestClient) -> None:
    same = client.get("/api/compare", params={"a": "full/01-policy", "b": "full/01-policy"}).json()
    assert same["config"] == []
    rows = {row["name"]: row for row in same["table"]}
    assert rows["evaluation/reward/gold"]["difference"] == 0
    assert rows["evaluation/reward/gold"]["interval"] == [0, 0]
    assert rows["reward"]["interval"] is None
    other = client.get("/api/compare", params={"a": "full/01-policy", "b": "world/-"}).json()
    assert other["names"] == [] and {"key": "type", "a": "rl", "b": None} in other["config"]
    assert client.get("/api/compare", params={"a": "full", "b": "x"}).status_code == 404


def test_landscape_files(client: TestClient) -> None:
    base = "/api/runs/world/stages/-/landscape"
    assert client.get(f"{base}/manifest.json").json()["kind"] == "exact"
    assert client.get(f"{base}/terrain.bin").content[:4] == b"RDG1"
    absent = client.get(f"{STAGE}/landscape/manifest.json")
    assert absent.status_code == 404 and "ridgeline landscape map" in absent.json()["mend"]
    assert client.get(f"{base}/frames/000007.bin").status_code == 404


def test_world_runs_have_plain_numbers(client: TestClient) -> None:
    answer = client.get("/api/runs/world/stages/-/series").json()
    assert answer["series"]["kl"]["mean"] == [0.5, 0.75]


def test_terrains(client: TestClient) -> None:
    terrain = client.get("/api/terrains/ravine").json()
    assert terrain["layers"]["gold"]["bumps"]
    assert client.get("/api/terrains/nowhere").status_code == 404
    assert client.get("/api/terrains/..%2fravine").status_code == 404
    image = (
        'name="x"\ntitle="x"\nstart=[0,0]\nhorizon=3\nroute=[[0,0],[1,1]]\n[layers.gold]\nimage="/etc/passwd"'
    )
    answer = client.post("/api/terrains/parse", content=image)
    assert answer.status_code == 422 and "/etc/passwd" in answer.json()["error"]


def test_lines_are_seen_as_they_are_written(client: TestClient, root: Path) -> None:
    studio = client.app.app.state.studio  # type: ignore[attr-defined]
    assert client.get(f"{STAGE}/series").json()["steps_total"] == 20
    with open(root / "full/stages/01-policy/metrics.jsonl", "a") as file:
        file.write('{"step": 20, "metrics": {"rew')
    studio.poller.poll()
    assert client.get(f"{STAGE}/series").json()["steps_total"] == 20
    with open(root / "full/stages/01-policy/metrics.jsonl", "a") as file:
        file.write('ard": [4, 2]}}\n')
    append(root / "full/stages/01-policy/metrics.jsonl", [metric(21, reward=3)])
    studio.poller.poll()
    answer = client.get(f"{STAGE}/series", params={"names": "reward"}).json()
    assert answer["series"]["reward"]["mean"][-2:] == [2, 3]


def test_lessons(client: TestClient) -> None:
    lessons = client.get("/api/lessons").json()
    assert [lesson["number"] for lesson in lessons] == list(range(1, 13))
    assert client.get("/api/lessons/1").json()["slug"] == lessons[0]["slug"]
    for path in ("/api/lessons/13", "/api/lessons/13/frames"):
        assert client.get(path).status_code == 404
    assert client.get("/api/lessons/one").status_code == 422
