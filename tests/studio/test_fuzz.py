"""The API against its own OpenAPI file: no 5xx, nothing without a token."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from starlette.testclient import TestClient

from ridgeline.studio.app import build
from ridgeline.studio.security import Access
from ridgeline.studio.studio import Studio
from tests.studio.conftest import HOME, TOKEN
from tests.studio.folders import full_run, world

schemathesis = pytest.importorskip("schemathesis")
pytestmark = pytest.mark.stress
KNOWN: dict[str, list[Any]] = {
    "run": ["full", "world"],
    "stage": ["01-policy", "-"],
    "kind": ["step", "evaluation"],
    "step": [0, 10],
    "prompt_id": ["a", "d"],
    "index": [0, 1],
    "a": ["full/01-policy", "world/-"],
    "b": ["full/01-policy", "world/-"],
    "name": ["ravine", "plain"],
    "number": [1, 12],
    "file": ["manifest.json", "terrain.bin", "axes.bin", "../result.json"],
}
"""Names that there are: with them requests get past the first look-up."""


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    full_run(tmp_path)
    world(tmp_path)
    return TestClient(build(Studio(tmp_path), Access(TOKEN)), base_url=HOME, raise_server_exceptions=False)


def operations(client: TestClient, *, known: bool = False) -> list[Any]:
    """Every operation of the OpenAPI file but the stream, which has no end."""
    description = client.get("/api/openapi.json", headers=BEARER).json()
    del description["paths"]["/api/stream"]
    for path in description["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                if known and parameter["name"] in KNOWN:
                    parameter["schema"] = {"enum": KNOWN[parameter["name"]]}
    schema = schemathesis.openapi.from_dict(description)
    return [result.ok() for result in schema.get_all_operations()]


BEARER = {"Authorization": f"Bearer {TOKEN}"}


def send(client: TestClient, case: Any, headers: dict[str, str]) -> Any:
    """The request that a case describes, through the application."""
    request = case.as_transport_kwargs(base_url=HOME)
    given = {str(name): str(value) for name, value in (request.get("headers") or {}).items()}
    given = {k: v for k, v in given.items() if v.isascii() and v.isprintable() and k.lower() != "host"}
    return client.request(
        request["method"],
        request["url"],
        params=request.get("params"),
        headers=given | headers,
        content=request["data"] if isinstance(request.get("data"), bytes | str) else None,
    )


def test_no_request_breaks_the_server(client: TestClient) -> None:
    tried: Counter[int] = Counter()
    for operation in [*operations(client), *operations(client, known=True)]:

        @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            answer = send(client, case, BEARER)
            tried[answer.status_code] += 1
            assert answer.status_code < 500, (case.as_curl_command(), answer.text)
            if answer.status_code >= 400:
                assert answer.json()["error"]

        check()
    assert tried[200] > 50 and tried[404] > 20 and tried[422] > 20, tried


def test_no_request_without_a_token_succeeds(client: TestClient) -> None:
    for operation in operations(client):

        @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            assert send(client, case, {"Authorization": "Bearer no"}).status_code in (401, 403)

        check()
