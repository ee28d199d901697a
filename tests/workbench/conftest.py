"""Fixtures of the workbench's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from ridgeline.models.kernels.build import kernel_library


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of the user's cache, in which timings of tests must not stay."""
    kernel_library()  # from the user's cache, and for this process: else it would be compiled again
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("RIDGELINE_CACHE", str(folder))
    return folder
