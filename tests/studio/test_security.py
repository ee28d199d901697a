from __future__ import annotations

import os
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from ridgeline.studio.app import build
from ridgeline.studio.security import Access
from ridgeline.studio.studio import Studio
from tests.studio.conftest import HOME, TOKEN
from tests.studio.folders import full_run


def test_nothing_without_a_token(stranger: TestClient) -> None:
    for path in ("/api/state", "/api/runs", "/api/stream", "/api/openapi.json", "/api/none"):
        assert stranger.get(path).status_code == 401
    page = stranger.get("/runs")
    assert page.status_code == 401 and "<form" in page.text
    wrong = {"Authorization": "Bearer wrong"}
    assert stranger.get("/api/state", headers=wrong).status_code == 401
    # A token in the address opens pages only: addresses of the API end up in logs.
    assert stranger.get("/api/state", params={"token": TOKEN}).status_code == 401
    assert stranger.get("/", params={"token": "wrong"}).status_code == 401


def test_the_token_becomes_a_cookie_and_leaves_the_address(stranger: TestClient) -> None:
    answer = stranger.get(f"/runs/a?token={TOKEN}&step=3")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/a?step=3")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and TOKEN not in cookie
    assert stranger.get("/api/state").status_code == 200
    assert stranger.get(f"{HOME}//evil.example/?token={TOKEN}").headers["location"] == "/evil.example/"


def test_login_form(stranger: TestClient) -> None:
    home = {"Origin": HOME}
    assert stranger.post("/login", data={"token": "wrong"}, headers=home).status_code == 401
    evil = {"Origin": "http://evil.example"}
    assert stranger.post("/login", data={"token": TOKEN}, headers=evil).status_code == 403
    assert stranger.post("/login", data={"token": TOKEN}, headers=home).status_code == 303
    assert stranger.get("/api/state").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "a@localhost", "", "[::1"])
def test_other_host_names_are_refused(client: TestClient, host: str) -> None:
    assert client.get("/api/state", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:99", "127.0.0.1", "[::1]:7421", "192.168.1.5:1"])
def test_own_names_and_addresses_are_let_in(client: TestClient, host: str) -> None:
    assert client.get("/api/state", headers={"Host": host}).status_code == 200


def test_writes_need_the_own_origin(stranger: TestClient) -> None:
    stranger.get(f"/?token={TOKEN}")
    for origin in ("http://evil.example", "http://localhost:5173", "null"):
        answer = stranger.post("/api/terrains/parse", content="x", headers={"Origin": origin})
        assert answer.status_code == 403
    assert stranger.post("/api/terrains/parse", content="x").status_code == 403
    assert stranger.post("/api/terrains/parse", content="x", headers={"Origin": HOME}).status_code == 422


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://evil.example"}, {"Host": "evil.example"}])
def test_sockets_need_origin_and_token(stranger: TestClient, headers: dict[str, str]) -> None:
    if headers:
        stranger.get(f"/?token={TOKEN}")
    with (
        pytest.raises(WebSocketDisconnect) as closed,
        stranger.websocket_connect("ws://localhost/api/world", headers=headers),
    ):
        pass
    assert closed.value.code == 1008


def test_headers_of_every_answer(client: TestClient, stranger: TestClient) -> None:
    for answer in (client.get("/api/state"), client.get("/"), stranger.get("/"), client.get("/api/none")):
        policy = answer.headers["content-security-policy"]
        scripts = next(part for part in policy.split("; ") if part.startswith("script-src "))
        assert "unsafe" not in scripts and "frame-ancestors 'self'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers


def test_no_way_out_of_the_runs(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    run = full_run(root)
    stage = run / "stages/01-policy"
    secret = tmp_path / "secret.json"
    secret.write_text('{"kind": "secret"}\n')
    (tmp_path / "outside").mkdir()
    os.symlink(full_run(tmp_path / "other"), root / "linked")
    (stage / "landscape/frames").mkdir(parents=True)
    os.symlink(secret, stage / "landscape/manifest.json")
    os.symlink(secret, run / "environment.json")
    os.unlink(run / "events.jsonl")
    os.symlink(secret, run / "events.jsonl")
    os.symlink(tmp_path / "outside", run / "stages/02-out")
    os.symlink(stage / "samples/step-000000.parquet", tmp_path / "outside/x")
    os.symlink(tmp_path / "outside/x", stage / "samples/step-000009.parquet")  # leads back in: fine
    app = build(Studio(root), Access(None))
    client = TestClient(app, base_url=HOME)
    assert [r["id"] for r in client.get("/api/runs").json()] == ["full"]
    details = client.get("/api/runs/full").json()
    assert details["environment"] is None and details["events"] == []
    assert [s["id"] for s in details["stages"]] == ["01-policy"]
    answers = [
        client.get(path)
        for path in (
            "/api/runs/full/stages/01-policy/landscape/manifest.json",
            "/api/runs/full/stages/01-policy/landscape/../../../../../secret.json",
            "/api/runs/full/stages/01-policy/landscape/..%2f..%2fresult.json",
            "/api/runs/..~other~full",
            "/api/runs/..%2f..%2fother",
            "/api/runs/full/stages/02-out/series",
            "/..%2f..%2fapp.py",
            "/assets/..%2f..%2fapp.py",
            "/static/%00.js",
        )
    ]
    assert all(answer.status_code in (404, 422) for answer in answers), answers
    assert not any("secret" in answer.text and "kind" in answer.text for answer in answers)


def test_root_path_stripped_or_not(tmp_path: Path) -> None:
    access = Access(TOKEN, root_path="/user/me")
    client = TestClient(build(Studio(tmp_path), access), base_url=HOME, follow_redirects=False)
    for path in ("/runs", "/user/me/runs"):
        answer = client.get(f"{path}?token={TOKEN}")
        assert answer.headers["location"] == "/user/me/runs"
    assert "Path=/user/me/" in answer.headers["set-cookie"]
    assert client.get("/user/me/api/state").status_code == 200
