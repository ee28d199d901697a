"""A tab of the browser that notices everything that goes wrong in it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response

from tests.browser.installed import Studio

LAUNCH = [
    "--no-sandbox",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WITHOUT_WEBGL = ["--no-sandbox", "--disable-gpu", "--disable-webgl", "--disable-3d-apis"]
# Runs before any script of a page: a lost context of the graphics card is remembered.
NOTICE_LOST_CONTEXT = """
window.__lost = 0;
addEventListener('webglcontextlost', () => window.__lost++, true);
"""
# More than one colour among 32 x 32 samples of what the canvas shows.
CANVAS_COLOURS = """(canvas) => {
  const copy = document.createElement('canvas');
  copy.width = copy.height = 32;
  const context = copy.getContext('2d');
  context.drawImage(canvas, 0, 0, 32, 32);
  const data = context.getImageData(0, 0, 32, 32).data;
  const colours = new Set();
  for (let i = 0; i < data.length; i += 4) colours.add(data.slice(i, i + 4).join());
  return colours.size;
}"""


class Visit:
    """One tab on one studio, signed in by the address with the token.

    ``troubles`` holds console errors, uncaught errors, failed requests and answers of 400 and above;
    ``expect`` takes those away that a test provokes.
    """

    def __init__(self, context: BrowserContext, studio: Studio) -> None:
        self.studio = studio
        self.context = context
        self.troubles: list[str] = []
        self.requests: list[str] = []
        context.add_init_script(NOTICE_LOST_CONTEXT)
        self.page: Page = context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.troubles.append(f"uncaught: {error}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._answered)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(studio.url)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.troubles.append(f"console: {message.text}")

    def _failed(self, request: Request) -> None:
        # What the next page aborts (the event stream above all) has not failed.
        if "ERR_ABORTED" not in (request.failure or ""):
            self.troubles.append(f"failed: {request.url} {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.troubles.append(f"{response.status}: {response.url}")

    def open(self, path: str = "", **query: object) -> dict[str, Any]:
        """Go to ``path``, wait until the page shows what it asks for; its numbers."""
        tail = urlencode({key: value for key, value in query.items() if value is not None})
        self.page.goto(f"{self.studio.origin}/{path}{'?' + tail if tail else ''}")
        return self.ready()

    def ready(self) -> dict[str, Any]:
        self.until("window.__studio?.ready === true", seconds=30)
        return self.stats()

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self.page.evaluate("window.__studio.stats")
        return found

    def probe(self, expression: str) -> Any:
        """``window.__studio.EXPRESSION``."""
        return self.page.evaluate(f"window.__studio.{expression}")

    def until(self, javascript: str, seconds: float = 15) -> Any:
        """The value of an expression once it is truthy; asserts that it comes to be.

        Not Playwright's wait_for_function, which needs the eval that the studio's policy forbids.
        """
        end = time.monotonic() + seconds
        while not (found := self.page.evaluate(javascript)):
            told = f"{javascript} did not come true within {seconds} s; troubles: {self.troubles}"
            assert time.monotonic() < end, told
            self.page.wait_for_timeout(30)
        return found

    def until_stats(self, fits: Callable[[dict[str, Any]], bool], seconds: float = 15) -> dict[str, Any]:
        """The page's numbers once they fit; asserts that they come to."""
        end = time.monotonic() + seconds
        while not fits(found := self.stats()):
            assert time.monotonic() < end, f"the page's numbers did not come to fit: {found}"
            self.page.wait_for_timeout(30)
        return found

    def query(self) -> dict[str, str]:
        found: dict[str, str] = self.page.evaluate("Object.fromEntries(new URLSearchParams(location.search))")
        return found

    def asked(self, pattern: str) -> list[str]:
        """Addresses requested so far that contain ``pattern``."""
        return [url for url in self.requests if re.search(pattern, url)]

    def canvas_colours(self, selector: str = "canvas") -> int:
        """Distinct colours in the shown canvas; 1 means that it is blank."""
        found: int = self.page.locator(selector).first.evaluate(CANVAS_COLOURS)
        return found

    def expect(self, pattern: str) -> None:
        """Troubles that match were provoked; there must be some."""
        fits = [trouble for trouble in self.troubles if re.search(pattern, trouble)]
        assert fits, f"nothing like {pattern!r} among {self.troubles}"
        self.troubles = [trouble for trouble in self.troubles if trouble not in fits]

    def check(self) -> None:
        """Nothing went wrong that the test did not expect."""
        assert not self.troubles, "\n".join(self.troubles)
        if not self.page.is_closed():
            assert self.page.evaluate("window.__lost") == 0, "the WebGL context was lost"
