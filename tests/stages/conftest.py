"""Log-probs of references are cached per test session, so that no test reads what older code left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ridgeline.training import logprob_cache


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("logprobs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logprob_cache, "default_folder", lambda: folder)
        yield folder
