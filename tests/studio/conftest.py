from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from ridgeline.studio.app import build
from ridgeline.studio.security import Access
from ridgeline.studio.studio import Studio
from tests.studio.folders import full_run, world

TOKEN = "a-token-of-the-tests"
HOME = "http://localhost"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with one run of a model and one of the exact world."""
    folder = tmp_path / "runs"
    full_run(folder)
    world(folder)
    return folder


@pytest.fixture
def studio(root: Path) -> Studio:
    return Studio(root)


@pytest.fixture
def client(studio: Studio) -> Iterator[TestClient]:
    """Has the token; no poller runs unless a test polls."""
    app = build(studio, Access(TOKEN))
    yield TestClient(app, base_url=HOME, headers={"Authorization": f"Bearer {TOKEN}"})


@pytest.fixture
def stranger(studio: Studio) -> TestClient:
    """Has no token."""
    return TestClient(build(studio, Access(TOKEN)), base_url=HOME, follow_redirects=False)
