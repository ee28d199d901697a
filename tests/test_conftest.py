"""The suite's own rule: where RIDGELINE_NO_SKIPS is set, a skipped test fails the run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PASSES = "def test_passes(): pass\n"
SKIPS_A_TEST = "import pytest\ndef test_skips(): pytest.skip('no such program')\n" + PASSES
SKIPS_THE_MODULE = "import pytest\npytest.skip('no such program', allow_module_level=True)\n"


def run_pytest(folder: Path, *options: str, no_skips: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    (folder / "test_other.py").write_text(PASSES)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(folder)]
    environment = {**os.environ, "RIDGELINE_NO_SKIPS": no_skips}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("source", [SKIPS_A_TEST, SKIPS_THE_MODULE])
@pytest.mark.parametrize("options", [(), ("-n", "1")])
def test_a_skip_fails_the_run_where_forbidden(tmp_path: Path, source: str, options: tuple[str, ...]) -> None:
    (tmp_path / "test_some.py").write_text(source)
    result = run_pytest(tmp_path, *options, no_skips="1")
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout
    assert "which RIDGELINE_NO_SKIPS forbids" in result.stdout
    assert "no such program" in result.stdout


@pytest.mark.parametrize(("source", "no_skips"), [(SKIPS_A_TEST, ""), (SKIPS_A_TEST, "0"), (PASSES, "1")])
def test_otherwise_the_run_passes(tmp_path: Path, source: str, no_skips: str) -> None:
    (tmp_path / "test_some.py").write_text(source)
    result = run_pytest(tmp_path, no_skips=no_skips)
    assert result.returncode == pytest.ExitCode.OK, result.stdout
    assert "forbids" not in result.stdout
