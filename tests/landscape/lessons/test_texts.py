"""The twelve texts: whole, in step with the code they point at, and refused where they are broken."""

from __future__ import annotations

import json
import linecache
import re
from pathlib import Path

import pytest

from ridgeline.landscape import lessons
from ridgeline.landscape.lessons.lesson import COUNT, locate, parse, text_of, written
from ridgeline.landscape.lessons.script import script
from ridgeline.landscape.world import messages
from ridgeline.schema.errors import DataError, UsageError

ROOT = Path(__file__).parents[3]
NUMBERS = range(1, COUNT + 1)


def _broken(number: int, old: str, new: str) -> str:
    text = text_of(number)
    assert old in text
    return text.replace(old, new, 1)


def test_the_summaries_are_of_the_twelve_lessons_in_order():
    found = lessons.summaries()
    assert [each["number"] for each in found] == list(NUMBERS)
    assert len({each["slug"] for each in found}) == COUNT
    assert all(each["title"] and each["summary"].endswith(".") for each in found)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_lesson_is_json_with_3_to_5_steps_and_one_question(number):
    lesson = lessons.load(number)
    plain = json.loads(json.dumps(lesson.as_dict(), allow_nan=False))
    assert 3 <= len(plain["steps"]) <= 5
    assert 0 <= plain["question"]["answer"] < len(plain["question"]["choices"])
    assert "«" not in plain["formula"]["filled"]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_code_is_the_line_of_the_file_in_the_repository(number):
    code = lessons.load(number).code
    first = linecache.getline(str(ROOT / code.path), code.line)
    assert first.strip() == code.text.splitlines()[0].strip() != ""


@pytest.mark.parametrize("number", NUMBERS)
def test_every_message_of_every_step_is_one_a_session_understands(number):
    lesson = lessons.load(number)
    for step in range(len(lesson.steps)):
        for message in script(lesson, step, seed=3):
            kind, _ = messages.parse({"id": 1, **message})
            assert kind == message["type"]


def test_a_script_leaves_out_what_a_reset_undoes_and_cuts_training_into_a_curve():
    found = script(lessons.load(9), 3, seed=0)  # ends with: reset, set, train 120
    assert [m["type"] for m in found[:2]] == ["open", "reset"]
    trained = [m["iterations"] for m in found if m["type"] == "train"]
    assert sum(trained) == 120 and max(trained) == 6
    kinds = [m["type"] for m in found]
    assert kinds.index("train") > len(kinds) - 1 - kinds[::-1].index("reset")


def test_the_world_of_a_pruned_script_is_that_of_the_whole_one():
    from ridgeline.landscape.world.session import Session

    lesson = lessons.load(5)
    whole = Session(0)
    opened = script(lesson, 0, 0)[0]
    for message in (opened, *(dict(m) for step in lesson.steps[:2] for m in step.do)):
        meta, _ = whole.handle(message)
        assert meta["ok"], meta
    pruned = lessons.live(5, 1, 0).world
    assert pruned.learner.policy.flat().equal(whole.world.learner.policy.flat())


@pytest.mark.parametrize("number", [0, 13, -1, True])
def test_other_numbers_are_refused(number):
    with pytest.raises(UsageError, match="1 to 12"):
        lessons.load(number)


def test_a_step_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="steps are 0 to 3"):
        lessons.run(1, 4, 0)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('title = "Pin', "title = Pin", "not valid TOML"),
        ("answer = 1", "answer = 7", "none of the choices"),
        ("summary = ", "resume = ", "key summary is missing"),
        ("«mean»", "«median»", "differ in: mean, median"),
        ('contains = "return gae("', 'contains = "return gea("', "0 statements"),
        ("advantages.rewards_to_go", "advantages.rewards_to_come", "rewards_to_come"),
        ("[[step]]", "[[stage]]", "differ|missing|step"),
    ],
)
def test_a_broken_text_is_said_to_be_broken_and_how(old, new, complaint):
    text = _broken(1, old, new) if old != "[[step]]" else text_of(1).replace(old, new)
    with pytest.raises(DataError, match=f"lesson 1.*({complaint})"):
        parse(1, "path", text)


def test_a_passage_that_occurs_twice_names_no_line():
    with pytest.raises(ValueError, match=r"[23] statements"):
        locate("ridgeline.objectives.advantages.gae", "next_value = ")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.9431, "0.94"), (-12.345, "-12.3"), (137.2, "137"), (30.0, "30"), (0.00123, "1.2\\cdot 10^{-3}")],
)
def test_numbers_are_written_with_the_digits_that_matter(value, shown):
    assert written(value) == shown


def test_a_number_that_is_not_there_is_a_dash():
    formula = lessons.load(3).formula
    filled = formula.filled({"cosine_0": 0.5, "cosine_5": float("nan")})
    assert "0.50" in filled and filled.count("--") == len(re.findall("«", formula.template)) - 1
