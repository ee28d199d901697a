"""The wheel: built without npm, run without Node.js, ended by Ctrl-C."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.browser.installed import Installed, Studio, build_wheel, clean_copy


def test_the_wheel_brings_the_front_end_and_needs_no_node(
    installed: Installed, studio: Studio, wheel: Path
) -> None:
    assert shutil.which("node", path=installed.path) is None
    assert shutil.which("npm", path=installed.path) is None
    cookie = httpx.get(studio.url).cookies
    page = httpx.get(studio.origin, cookies=cookie)
    assert page.status_code == 200 and "assets/" in page.text
    version = httpx.get(studio.origin + "/api/state", cookies=cookie).json()["version"]
    assert f"ridgeline-{version}-" in wheel.name


@pytest.mark.parametrize("open_stream", [False, True])
def test_ctrl_c_ends_it_with_nothing_left_behind(
    installed: Installed, tmp_path: Path, open_stream: bool
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    studio = Studio(installed, runs)
    with httpx.Client(cookies=httpx.get(studio.url).cookies) as client:
        if open_stream:
            with client.stream("GET", studio.origin + "/api/stream?runs=-") as stream:
                assert stream.status_code == 200
                assert studio.stop() == 0
        else:
            assert studio.stop() == 0
    assert studio.left_behind() == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(studio.origin)
    assert "Traceback" not in studio.log.read_text(encoding="utf-8")
    assert list(runs.iterdir()) == []


def test_the_wheel_is_built_without_npm(nodeless_path: str, wheel: Path, tmp_path: Path) -> None:
    """Node.js then comes from PyPI into the build environment; what is built is the same."""
    if os.environ.get("RIDGELINE_WHEEL"):
        pytest.skip("a given wheel is under test")
    other = build_wheel(clean_copy(tmp_path / "tree"), tmp_path / "out", nodeless_path)
    names = []
    for path in (wheel, other):
        with zipfile.ZipFile(path) as archive:
            names.append([name for name in archive.namelist() if "/studio/static/" in name])
    assert len(names[0]) > 20 and sorted(names[0]) == sorted(names[1])
