"""Every page in both themes: it loads, is accessible, keeps its state in the address, its token out of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext

from tests.browser.installed import Studio
from tests.browser.visit import Visit

PAGES = {
    "home": "",
    "world": "world",
    "lessons": "lessons",
    "lesson": "lessons/1",
    "runs": "runs",
    "run": "runs/tiny",
    "world-run": "runs/world",
    "map": "map/tiny/01-policy",
    "world-map": "map/world/-",
    "completions": "completions/tiny/01-policy",
    "compare": "compare",
    "comparison": "compare",
}
QUERY = {"comparison": {"a": "tiny/01-policy", "b": "tiny-again/01-policy"}}
# The criteria that WCAG 2.2 AA consists of, as axe names them.
AA = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
each_page = pytest.mark.parametrize("name", PAGES)


def open_page(visit: Visit, name: str, **query: object) -> dict[str, Any]:
    return visit.open(PAGES[name], **QUERY.get(name, {}), still=1, **query)


def test_the_token_leaves_the_address_bar_and_is_needed(visit: Visit, studio: Studio) -> None:
    assert "token" not in visit.page.url
    assert studio.token not in visit.page.content()
    for path in ("/", "/api/runs", "/api/stream", "/world"):
        assert httpx.get(studio.origin + path).status_code == 401
        assert httpx.get(studio.origin + path, params={"token": studio.token[:-1] + "x"}).status_code == 401
    let_in = httpx.get(studio.origin + "/api/runs", headers={"Authorization": f"Bearer {studio.token}"})
    assert let_in.status_code == 200
    (cookie,) = visit.context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and cookie["value"] != studio.token


def test_without_a_token_the_browser_meets_a_page_that_asks_for_it(
    browser_context_without_token: BrowserContext, studio: Studio
) -> None:
    page = browser_context_without_token.new_page()
    answer = page.goto(studio.origin)
    assert answer is not None and answer.status == 401
    page.get_by_role("textbox").fill(studio.token)
    page.keyboard.press("Enter")
    page.get_by_role("link", name="World", exact=True).first.wait_for()
    assert "token" not in page.url


@each_page
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_load_and_meet_wcag_aa(visit: Visit, name: str, theme: str) -> None:
    open_page(visit, name, theme=theme)
    assert visit.page.locator("main").inner_text().strip()
    assert visit.page.locator("h1").count() == 1
    assert visit.page.evaluate("document.documentElement.dataset.theme") == theme
    dark = (
        visit.page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(17, 21, 26)"
    )
    assert dark == (theme == "dark")
    overflow = visit.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert overflow <= 0, f"the page is {overflow} px wider than the window"
    response = Axe().run(visit.page, options=AA).response
    assert len(response["passes"]) >= 8, "axe looked at next to nothing"
    found = response["violations"]
    told = [
        f"{each['impact']}: {each['id']}: {each['help']}: {[node['target'] for node in each['nodes'][:4]]}"
        for each in found
    ]
    assert not found, "\n".join(told)


@each_page
def test_no_page_is_wider_than_a_small_window(visit_with: Callable[..., Visit], name: str) -> None:
    visit = visit_with(viewport={"width": 390, "height": 800})
    open_page(visit, name)
    wider = visit.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wider <= 0, f"{wider} px too wide at 390 px"


@each_page
def test_a_reload_shows_the_same(visit: Visit, name: str) -> None:
    before = open_page(visit, name)
    visit.page.reload()
    after = visit.ready()
    timings = ("milliseconds", "frames", "seconds")
    steady = [{key: value for key, value in each.items() if key not in timings} for each in (before, after)]
    assert steady[0] == steady[1]


def test_an_address_of_nothing_says_so(visit: Visit) -> None:
    visit.open("nothing/here")
    assert "no such page" in visit.page.locator("main").inner_text()
    stats = visit.open("runs/none")
    assert "no run of this name" in str(stats["problem"])
    visit.expect(r"404")


def test_pages_are_reached_by_keyboard_alone(visit: Visit) -> None:
    visit.open("", still=1)
    page = visit.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Skip to content"
    for keys, name in (("gw", "world"), ("gl", "lessons"), ("gr", "runs"), ("gc", "compare")):
        page.keyboard.type(keys)
        visit.until(f"window.__studio.page === '{name}' && window.__studio.ready")
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()
    before = page.evaluate("document.documentElement.dataset.theme")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") != before


@each_page
def test_every_control_is_focusable_named_and_shows_its_focus(visit: Visit, name: str) -> None:
    """Tab through the page: focus goes on, is visible, and is never trapped."""
    open_page(visit, name)
    page = visit.page
    seen: list[str] = []
    for _ in range(150):
        page.keyboard.press("Tab")
        told = page.evaluate(
            """() => {
              const at = document.activeElement;
              if (!at || at === document.body) return null;
              const style = getComputedStyle(at);
              const box = at.getBoundingClientRect();
              const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
              const shadow = style.boxShadow !== 'none';
              if (!at.dataset.walk) at.dataset.walk = String(Math.random());
              return {id: at.dataset.walk, shown: ring || shadow, size: box.width * box.height,
                      what: at.outerHTML.slice(0, 120)};
            }"""
        )
        if told is None or told["id"] in seen:
            break
        seen.append(told["id"])
        assert told["shown"], f"focus cannot be seen on {told['what']}"
    assert len(seen) >= 5


def test_nothing_moves_by_itself_with_reduced_motion(visit_with: Callable[..., Visit]) -> None:
    visit = visit_with(reduced_motion="reduce")
    visit.open("world")
    drawn = visit.until_stats(lambda stats: stats["frames"] > 0)["frames"]
    visit.page.wait_for_timeout(400)
    settled = visit.stats()["frames"]
    visit.page.wait_for_timeout(600)
    assert visit.stats()["frames"] == settled >= drawn
    running = "(each) => each.playState === 'running' && each.effect.getTiming().duration > 1"
    assert visit.page.evaluate(f"document.getAnimations().filter({running}).length") == 0
