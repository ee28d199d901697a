"""A lesson as data: its text, the script of its steps, the formula, and the line of code that computes it."""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import re
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from ridgeline.schema.errors import DataError, UsageError

COUNT = 12
PLACEHOLDER = re.compile("«([a-z][a-z0-9_]*)»")
_TEXTS = resources.files("ridgeline.landscape.lessons") / "texts"


@dataclass(frozen=True)
class Step:
    """One step: what is said, the messages to a session that bring it about, and what to look at."""

    title: str
    text: str
    do: tuple[Mapping[str, Any], ...]
    watch: str


@dataclass(frozen=True)
class Question:
    """One question; answer: index of the right choice; why: shown after any choice."""

    text: str
    choices: tuple[str, ...]
    answer: int
    why: str


@dataclass(frozen=True)
class Figure:
    """A number of the formula: what it is, and its unit ("" for a pure number)."""

    label: str
    unit: str


@dataclass(frozen=True)
class Formula:
    """tex: the formula. template: TeX with «names» where numbers go. figures: what the names stand for."""

    tex: str
    template: str
    figures: Mapping[str, Figure]

    def filled(self, numbers: Mapping[str, float]) -> str:
        """The template with the numbers there are; a name without one becomes a dash."""
        return PLACEHOLDER.sub(lambda found: written(numbers.get(found[1])), self.template)


@dataclass(frozen=True)
class Code:
    """The statement of the library that computes the formula. line: of its first line, counted from 1."""

    function: str
    path: str
    line: int
    text: str


@dataclass(frozen=True)
class Lesson:
    """A whole lesson. caveat: what does not hold over seeds, or what the picture leaves out."""

    number: int
    slug: str
    title: str
    summary: str
    terrain: str
    settings: Mapping[str, Any]
    steps: tuple[Step, ...]
    question: Question
    formula: Formula
    code: Code
    claim: str
    caveat: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; numbers and evidence are those of the recording, where there is one."""
        from ridgeline.landscape.lessons.recording import evidence  # it reads lessons

        found = evidence(self.number)
        first = found[0] if found else {}
        figures = {
            name: {"label": figure.label, "unit": figure.unit, "value": first.get(name)}
            for name, figure in self.formula.figures.items()
        }
        plain = asdict(self)
        plain["formula"] = {
            "tex": self.formula.tex,
            "template": self.formula.template,
            "filled": self.formula.filled(first),
            "numbers": figures,
        }
        return {**plain, "evidence": found}


def load(number: int) -> Lesson:
    """Lesson 1 to 12. Raises UsageError for another number, DataError for a text that is broken."""
    if isinstance(number, bool) or number not in range(1, COUNT + 1):
        raise UsageError(f"there is no lesson {number}; they are numbered 1 to {COUNT}.")
    return _load(number)


def summaries() -> list[dict[str, Any]]:
    """Number, slug, title and summary of every lesson, in order."""
    lessons = [load(number) for number in range(1, COUNT + 1)]
    return [{"number": x.number, "slug": x.slug, "title": x.title, "summary": x.summary} for x in lessons]


def text_of(number: int) -> str:
    """The TOML text of a lesson, as it is in the package."""
    return str(_file(number).read_text("utf-8"))


def parse(number: int, slug: str, text: str) -> Lesson:
    """The lesson of a TOML text. Raises DataError, naming the lesson and what is wrong."""
    try:
        return _lesson(number, slug, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"lesson {number} is not valid TOML: {error}") from None
    except KeyError as error:
        raise DataError(f"lesson {number}: the key {error.args[0]} is missing.") from None
    except (TypeError, ValueError, AttributeError, ImportError) as error:
        raise DataError(f"lesson {number}: {error}") from None


def written(value: float | None) -> str:
    """A number for a formula: whole, or with two to three digits that matter; a dash for none."""
    if value is None or not math.isfinite(value):
        return "\\text{--}"
    if value == int(value) and abs(value) < 10_000:
        return str(int(value))
    size = abs(value)
    if size >= 10_000 or size < 0.005:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}\\cdot 10^{{{int(exponent)}}}"
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def locate(function: str, contains: str) -> Code:
    """The statement of a function, given by its dotted name, whose text holds `contains`.

    Raises ValueError where no statement, or more than one, does.
    """
    module, name = function.rsplit(".", 1)
    found = getattr(importlib.import_module(module), name)
    source, first = inspect.getsourcelines(found)
    text = textwrap.dedent("".join(source))
    lines = text.splitlines()
    hits = [(node.lineno, node.end_lineno) for node in _statements(text) if _holds(lines, node, contains)]
    if len(hits) != 1:
        raise ValueError(f"{len(hits)} statements of {function} contain '{contains}', not one")
    start, end = hits[0]
    shown = textwrap.dedent("\n".join(lines[start - 1 : end]))
    return Code(function, f"src/{module.replace('.', '/')}.py", first + start - 1, shown)


def _statements(text: str) -> list[ast.stmt]:
    """Statements without a body of their own."""
    nodes = ast.walk(ast.parse(text))
    return [node for node in nodes if isinstance(node, ast.stmt) and not hasattr(node, "body")]


def _holds(lines: Sequence[str], node: ast.stmt, contains: str) -> bool:
    plain = not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    return plain and contains in "\n".join(lines[node.lineno - 1 : node.end_lineno])


@lru_cache(maxsize=COUNT)
def _load(number: int) -> Lesson:
    file = _file(number)
    return parse(number, file.name.removesuffix(".toml")[3:], text_of(number))


def _file(number: int) -> Any:
    files = [entry for entry in _TEXTS.iterdir() if entry.name.startswith(f"{number:02d}-")]
    if len(files) != 1:
        raise DataError(f"lesson {number} has {len(files)} texts in the package; install it anew.")
    return files[0]


def _lesson(number: int, slug: str, data: dict[str, Any]) -> Lesson:
    question = data["question"]
    lesson = Lesson(
        number=number,
        slug=slug,
        title=data["title"],
        summary=data["summary"],
        terrain=data["terrain"],
        settings=data["settings"],
        steps=tuple(Step(s["title"], s["text"], tuple(s["do"]), s["watch"]) for s in data["step"]),
        question=Question(question["text"], tuple(question["choices"]), question["answer"], question["why"]),
        formula=_formula(data["formula"]),
        code=locate(data["code"]["function"], data["code"]["contains"]),
        claim=data["claim"]["text"],
        caveat=data.get("caveat"),
    )
    if not 0 <= lesson.question.answer < len(lesson.question.choices):
        raise ValueError(f"question.answer = {lesson.question.answer} is none of the choices")
    return lesson


def _formula(data: dict[str, Any]) -> Formula:
    figures = {name: Figure(entry["label"], entry["unit"]) for name, entry in data["numbers"].items()}
    wanted = set(PLACEHOLDER.findall(data["filled"]))
    if wanted != set(figures):
        odd = ", ".join(sorted(wanted ^ set(figures)))
        raise ValueError(f"formula.numbers and the «names» of formula.filled differ in: {odd}")
    return Formula(data["tex"], data["filled"], figures)
