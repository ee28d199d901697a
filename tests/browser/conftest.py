"""One wheel, one installation, one folder of runs, one studio and one browser for all browser tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="needs playwright: pip install -e '.[dev]'")

from playwright.sync_api import Browser, BrowserContext, Playwright, sync_playwright

from tests.browser import runs_root
from tests.browser.installed import Installed, Studio, build_wheel, clean_copy, install, path_without_node
from tests.browser.visit import LAUNCH, WITHOUT_WEBGL, Visit

CHROMIUM = os.environ.get("RIDGELINE_CHROMIUM", "/usr/bin/chromium")
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def nodeless_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return path_without_node(tmp_path_factory.mktemp("bin"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RIDGELINE_WHEEL names one that is built already (a release before it is published)."""
    if given := os.environ.get("RIDGELINE_WHEEL"):
        return Path(given)
    base = tmp_path_factory.mktemp("wheel")
    return build_wheel(clean_copy(base / "tree"), base / "out")


@pytest.fixture(scope="session")
def installed(wheel: Path, nodeless_path: str, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(wheel, tmp_path_factory.mktemp("installed") / "venv", nodeless_path)


@pytest.fixture(scope="session")
def runs(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny (real, with its map), tiny-again, world, hostile, damaged, half and crowded."""
    root = tmp_path_factory.mktemp("studio") / "runs"
    root.mkdir()
    runs_root.make_real_run(installed, tmp_path_factory.mktemp("data"), root / "tiny")
    runs_root.copy_real_run(root / "tiny", root / "tiny-again")
    runs_root.make_world_run(installed, root / "world")
    runs_root.make_hostile_run(root / "hostile")
    runs_root.make_damaged_run(root / "damaged")
    runs_root.make_half_written_run(root / "half")
    runs_root.make_crowded_run(root / "crowded")
    return root


@pytest.fixture(scope="session")
def studio(installed: Installed, runs: Path) -> Iterator[Studio]:
    """Ends by Ctrl-C, with exit code 0 and no process left."""
    running = Studio(installed, runs)
    yield running
    assert running.stop() == 0
    assert running.left_behind() == []


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    if not Path(CHROMIUM).exists():
        pytest.skip("needs a browser at /usr/bin/chromium (or RIDGELINE_CHROMIUM): apt-get install chromium")
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    running = playwright.chromium.launch(executable_path=CHROMIUM, args=LAUNCH)
    yield running
    running.close()


@pytest.fixture(scope="session")
def browser_without_webgl(playwright: Playwright) -> Iterator[Browser]:
    running = playwright.chromium.launch(executable_path=CHROMIUM, args=WITHOUT_WEBGL)
    yield running
    running.close()


@pytest.fixture
def browser_context_without_token(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    yield context
    context.close()


@pytest.fixture
def visit(browser: Browser, studio: Studio) -> Iterator[Visit]:
    """A tab of 1280 x 800 in a context of its own; at the end nothing may have gone wrong in it."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    tab = Visit(context, studio)
    yield tab
    try:
        tab.check()
    finally:
        context.close()


@pytest.fixture
def visit_with(browser: Browser, studio: Studio) -> Iterator[Callable[..., Visit]]:
    """The same with options of the context: ``visit_with(reduced_motion="reduce")``."""
    opened: list[Visit] = []

    def open_with(**options: object) -> Visit:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))  # type: ignore[arg-type]
        opened.append(Visit(context, studio))
        return opened[-1]

    yield open_with
    try:
        for tab in opened:
            tab.check()
    finally:
        for tab in opened:
            tab.context.close()
