from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import pytest

from ridgeline.preferences.store import read_preferences, summary, write_preferences
from ridgeline.schema.errors import DataError, RunError, UsageError
from ridgeline.schema.records import Message, Preference


def preference(
    chosen: float | None,
    rejected: float | None,
    *,
    first: Literal["chosen", "rejected"] = "chosen",
    prompt: str = "p",
) -> Preference:
    scores = {} if chosen is None or rejected is None else {"chosen": chosen, "rejected": rejected}
    return Preference(
        prompt=[Message("system", "Be brief."), Message("user", "Schreib\u2028„etwas“.")],
        chosen="A\nb",
        rejected="",
        annotator="somebody",
        first_shown=first,
        prompt_id=prompt,
        scores=scores,
        rejected_stopped=False,
    )


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "preferences.jsonl"
    written = [preference(0.1 + 0.2, -1.0), preference(None, None, first="rejected")]
    write_preferences(path, written)
    assert read_preferences(path) == written
    assert [p.name for p in tmp_path.iterdir()] == ["preferences.jsonl"]
    write_preferences(path, [])
    assert read_preferences(path) == []


def test_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "preferences.jsonl"
    write_preferences(path, [preference(1.0, 0.0)])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        write_preferences(path, [])
    assert read_preferences(path) == [preference(1.0, 0.0)]


def test_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the preferences .*none\.jsonl"):
        read_preferences(tmp_path / "none.jsonl")


GOOD: dict[str, Any] = preference(1.0, 0.0).as_dict()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"prompt": [', "line 2: not valid JSON"),
        ("[1]", "line 2: a preference is a JSON object, not list"),
        (
            json.dumps({k: v for k, v in GOOD.items() if k != "chosen"}),
            "line 2: the field 'chosen' is missing",
        ),
        (json.dumps({**GOOD, "choosen": "x"}), "unknown field 'choosen'; did you mean 'chosen'"),
        (json.dumps({**GOOD, "rejected": None}), "'rejected' must be of type str, not NoneType"),
        (json.dumps({**GOOD, "first_shown": "left"}), "'first_shown' must be"),
        (json.dumps({**GOOD, "scores": {"chosen": "high"}}), "'scores.chosen' must be a number"),
        (json.dumps({**GOOD, "prompt": [{"role": "boss", "content": ""}]}), "needs a role"),
        (json.dumps({**GOOD, "prompt": ["hello"]}), "is an object with role and content"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + line + "\n\n")
    with pytest.raises(DataError, match=sentence) as caught:
        read_preferences(path)
    assert f"{path}, line 2" in str(caught.value)


def test_summary_against_hand_computed_numbers() -> None:
    pairs = [
        preference(1.0, 0.5, prompt="p"),
        preference(0.0, 1.0, prompt="p", first="rejected"),
        preference(2.0, 2.0, prompt="q"),
        preference(None, None, prompt="r"),
    ]
    result = summary(pairs, temperature=0.5)
    assert (result["pairs"], result["prompts"], result["scored"], result["ties"]) == (4, 3, 3, 1)
    assert result["annotators"] == {"somebody": 4}
    assert result["label_accuracy"] == pytest.approx(1.5 / 3)
    assert result["first_shown_chosen"] == 0.75
    low, high = result["first_shown_chosen_interval"]
    assert 0 < low < 0.75 < high < 1
    right = [1 / (1 + math.exp(-gap / 0.5)) for gap in (0.5, 1.0, 0.0)]
    assert result["ceiling_accuracy"] == pytest.approx(sum(right) / 3)
    entropy = [-p * math.log(p) - (1 - p) * math.log(1 - p) for p in right]
    assert result["ceiling_nll"] == pytest.approx(sum(entropy) / 3)
    json.dumps(result, allow_nan=False)


def test_summary_of_nothing_is_none_not_zero() -> None:
    for pairs in ([], [preference(None, None)]):
        result = summary(pairs, temperature=0.5)
        assert result["label_accuracy"] is None and result["ceiling_accuracy"] is None
    assert summary([])["first_shown_chosen"] is None
    assert summary([preference(1.0, 0.0)])["ceiling_nll"] is None
