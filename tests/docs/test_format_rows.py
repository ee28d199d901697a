"""Rows of ``docs/formats.md`` that only some losses read: each is accepted by its reader, and by no other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ridgeline.data import formats
from ridgeline.data.outcomes import outcomes
from ridgeline.data.rankings import rankings
from ridgeline.data.steps import solutions
from ridgeline.schema.errors import DataError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats.md"


def rows(title: str) -> list[dict[str, Any]]:
    """The lines of all ``jsonl`` blocks under a heading."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```jsonl\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [json.loads(line) for block in blocks for line in block.splitlines()]


def test_rankings() -> None:
    ordered, tied = rankings(rows("Rankings"), "the page")
    assert not ordered.has_ties and tied.has_ties
    assert formats.detect(rows("Rankings")) == "ranking"


def test_outcomes() -> None:
    read = outcomes(rows("Unpaired feedback"), "the page")
    assert [item.label for item in read] == [1.0, 0.0, 0.5]
    assert [item.stopped for item in read] == [True, False, True]


def test_steps_of_two_and_of_three_classes() -> None:
    two, three = rows("Steps")
    assert formats.detect([two]) == "steps"
    assert solutions([two], "the page", classes=2)[0].labels == [1.0, 0.0, None]
    assert solutions([three], "the page", classes=3)[0].labels == [0.0, 1.0, -1.0]
    with pytest.raises(DataError):
        solutions([three], "the page", classes=2)


def test_text() -> None:
    assert all(row.keys() == {"text"} and row["text"] for row in rows("Text"))


def test_optional_columns_of_preferences_and_instructions_are_read() -> None:
    text = PAGE.read_text(encoding="utf-8")
    given = [json.loads(line) for line in re.findall(r"^\{.*\}$", text, re.MULTILINE)]
    (pair,) = formats.preferences([row for row in given if "margin" in row], "the page")
    assert (pair.label, pair.margin, pair.gold) == (0.8, 2.0, "Seven is a prime.")
    (weighted,) = formats.instructions([row for row in given if "weight" in row], "the page")
    assert weighted.weight == 0.5
