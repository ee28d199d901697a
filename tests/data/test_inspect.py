from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from ridgeline.data.inspect import inspect, render
from ridgeline.schema.errors import DataError

DEMOS = [{"prompt": "One?", "completion": f"{'Yes. ' * number}🙂"} for number in range(1, 6)]


def printed(report, *, marks=True, colour=False):
    out = io.StringIO()
    Console(file=out, width=200, force_terminal=colour, color_system="standard" if colour else None).print(
        render(report, marks=marks)
    )
    return out.getvalue()


def test_shows_what_is_trained(chatml):
    report = inspect(DEMOS, chatml, 1)
    assert (report.kind, report.rows, len(report.shown)) == ("instruction", 5, 1)
    trained = "".join(run.text for run in report.shown[0].runs if run.trained)
    assert trained == "Yes. 🙂<|im_end|>", "runs are decoded whole, so characters of several tokens survive"
    assert report.shown[0].tokens == report.lengths[0] and report.shown[0].trained == report.trained[0]
    text = printed(report)
    assert "⟦Yes. 🙂⟧⟦<|im_end|>⟧" in text and "<|im_end|>↵" in text
    assert "instruction, 5 rows, 5 sequences kept" in text


def test_colours_follow_the_mask(chatml):
    text = printed(inspect(DEMOS, chatml, 1), marks=False, colour=True)
    assert "\x1b[32mYes. 🙂\x1b[0m" in text and "\x1b[1;4;32m<|im_end|>\x1b[0m" in text
    assert "\x1b[2;4m<|im_start|>\x1b[0m" in text and "⟦" not in text


def test_says_what_was_left_out(chatml):
    lengths = inspect(DEMOS, chatml).lengths
    report = inspect(DEMOS, chatml, max_length=lengths[2])
    assert report.left_out == dict.fromkeys((4, 5), "longer than max_length")
    assert "2 longer than max_length (rows 4, 5)" in printed(report)
    cut = inspect(DEMOS, chatml, max_length=lengths[2], overlong="truncate")
    assert cut.truncated == 2 and f"2 cut at {lengths[2]} tokens" in printed(cut)
    with pytest.raises(DataError, match="row 4"):
        inspect(DEMOS, chatml, max_length=lengths[2], overlong="error")


def test_quantiles_are_of_lengths(chatml):
    report = inspect(DEMOS, chatml)
    assert list(report.quantiles(report.lengths)) == ["0%", "50%", "90%", "99%", "100%"]
    assert report.quantiles(report.lengths)["50%"] == sorted(report.lengths)[2]
    assert report.quantiles([]) == {}


def test_preferences_show_both_sides(chatml):
    rows = [{"prompt": "q", "chosen": "a", "rejected": "a"}, {"prompt": "q", "chosen": "a", "rejected": "b"}]
    report = inspect(rows, chatml, 1)
    assert [item.label for item in report.shown] == ["row 2, chosen", "row 2, rejected"]
    assert report.left_out == {1: "chosen and rejected are the same tokens"}


def test_prompts_and_unpaired(chatml):
    report = inspect([{"prompt": "q", "id": "x"}], chatml)
    assert report.kind == "prompt" and report.trained == [0] and report.shown[0].label == "row 1, id x"
    report = inspect([{"prompt": "q", "completion": "a", "label": False}], chatml)
    assert (
        report.kind == "unpaired" and report.shown[0].label == "row 1, undesirable" and report.trained == [2]
    )


def test_rankings_show_every_completion_best_first(chatml):
    rows = [{"prompt": "q", "completions": ["a", "b", "c"], "ranks": [2, 1, 3]}]
    rows.append({"prompt": "q", "completions": ["a", "a"], "ranks": [1, 2]})
    report = inspect(rows, chatml, 3)
    assert report.kind == "ranking" and report.rows == 2 and len(report.lengths) == 3
    assert [item.label for item in report.shown] == ["row 1, rank 1", "row 1, rank 2", "row 1, rank 3"]
    assert report.left_out == {2: "no two different completions differ in rank"}


def test_steps_show_where_they_end(chatml):
    rows = [{"prompt": "q", "steps": ["Yes.", "No."], "labels": [True, None]}]
    report = inspect(rows, chatml)
    assert (report.kind, report.trained, report.shown[0].label) == ("steps", [1], "row 1, labels 1")
    rows.append({"prompt": "q", "steps": ["Yes."], "labels": [-1]})
    report = inspect(rows, chatml)
    assert [item.label for item in report.shown] == ["row 1, labels 1", "row 2, labels -1"]
    assert "⟦<|im_end|>⟧" in printed(report)


def test_kind_can_be_forced(chatml):
    assert inspect(DEMOS, chatml, kind="prompt").trained == [0] * 5


def test_terminal_codes_and_markup_in_data_are_spelled_out(chatml):
    text = printed(inspect([{"prompt": "[bold]q[/nothing]", "completion": "a\x1b[31mb"}], chatml))
    assert "\x1b" not in text and "a\\x1b[31mb" in text and "[bold]q[/nothing]" in text


def test_report_is_json(chatml):
    report = json.loads(json.dumps(inspect(DEMOS, chatml, 2).as_dict()))
    assert report["length"]["100%"] == max(inspect(DEMOS, chatml).lengths)
    assert report["sequences"] == 5 and len(report["shown"]) == 2 and report["dropped"] == {}
