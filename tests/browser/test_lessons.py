"""Lessons: every one opens, steps are addresses, numbers are the library's, a whole one can be done."""

from __future__ import annotations

import re

import pytest

from tests.browser.visit import Visit

COUNT = 12


def test_the_index_names_twelve_lessons(visit: Visit) -> None:
    visit.open("lessons")
    links = visit.page.locator("main a[href*='lessons/']")
    assert links.count() == COUNT
    links.nth(4).click()
    visit.until("window.__studio.page === 'lessons' && window.__studio.lesson === 5 && window.__studio.ready")


@pytest.mark.parametrize("number", range(1, COUNT + 1))
def test_every_lesson_opens_with_its_formula_question_and_code(visit: Visit, number: int) -> None:
    stats = visit.open(f"lessons/{number}", still=1)
    assert stats["lesson"] == number and stats["mode"] == "live" and visit.probe("steps") >= 2
    assert visit.canvas_colours() > 50
    assert visit.page.locator("section:has(#question-title) ol button").count() >= 2
    visit.until("document.querySelectorAll('.tex .katex').length >= 2")
    assert visit.page.locator(".katex-error").count() == 0
    assert "src/ridgeline/" in visit.page.locator("p.place").inner_text()
    numbers = visit.probe("numbers")
    assert numbers and any(isinstance(value, int | float) for value in numbers.values())


def test_a_whole_lesson_is_done_by_keyboard_and_button(visit: Visit) -> None:
    visit.open("lessons/1", still=1)
    steps = visit.probe("steps")
    titles = []
    for step in range(steps):
        visit.until(f"window.__studio.step === {step}")
        titles.append(visit.page.locator("#step-title").inner_text())
        if step == 0:
            visit.page.keyboard.press("ArrowRight")
        else:
            visit.page.get_by_role("button", name="Next" if step < steps - 1 else "Question").click()
    assert len(set(titles)) == steps
    choices = visit.page.locator("section:has(#question-title) ol button")
    verdict = visit.page.locator(".verdict")
    said = []
    for index in range(choices.count()):
        choices.nth(index).click()
        said.append(verdict.inner_text())
    assert sum(text.startswith("Right.") for text in said) == 1
    assert sum(text.startswith("Not this one.") for text in said) == len(said) - 1
    visit.page.get_by_role("link", name="Lesson 2").last.click()
    visit.until("window.__studio.lesson === 2")


def test_a_step_is_an_address(visit: Visit) -> None:
    visit.open("lessons/3", still=1)
    visit.page.locator("footer .dots button").nth(1).click()
    visit.until("window.__studio.step === 1")
    assert visit.query()["step"] == "1"
    before = visit.probe("numbers"), visit.page.locator("#step-title").inner_text()
    visit.page.reload()
    assert visit.ready()["step"] == 1
    assert (visit.probe("numbers"), visit.page.locator("#step-title").inner_text()) == before
    visit.page.go_back()
    visit.until("window.__studio.step === 0")


def test_recorded_frames_need_no_live_world(visit: Visit) -> None:
    stats = visit.open("lessons/2", still=1, live=0)
    assert stats["mode"] == "recorded"
    assert visit.canvas_colours() > 50
    recorded = visit.probe("numbers")
    live = visit.open("lessons/2", still=1)
    assert live["mode"] == "live"
    assert visit.probe("numbers") == pytest.approx(recorded, rel=1e-3, nan_ok=True)


def test_the_annotators_answers_grow_a_terrain(visit: Visit) -> None:
    """Lesson 11: judging pairs by keyboard or button changes the learned ground."""
    visit.open("lessons/11", still=1)
    judged = visit.page.locator(".judge .meter")
    assert judged.inner_text().startswith("0 judged")
    before = visit.probe("canvasHash()")
    visit.page.keyboard.press("a")
    visit.until("document.querySelector('.judge .meter').innerText.startsWith('1 judged')")
    visit.page.get_by_role("button", name="B is better").click()
    visit.until("document.querySelector('.judge .meter').innerText.startsWith('2 judged')")
    visit.page.get_by_role("button", name="+300").click()
    visit.until("document.querySelector('.judge .meter').innerText.startsWith('302 judged')")
    found = re.search(r"orders (\d+) %", judged.inner_text())
    assert found and int(found[1]) >= 75, judged.inner_text()
    visit.page.wait_for_timeout(300)
    assert visit.probe("canvasHash()") != before
