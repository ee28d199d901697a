from __future__ import annotations

import pytest

from ridgeline.data.formats import detect
from ridgeline.data.rankings import ALL_EQUAL, as_ranking, build_rankings, rankings
from ridgeline.data.supervised import TOO_LONG
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Message, Preference

ROW = {"prompt": "One?", "completions": ["No.", "Yes.", "The cat sat."], "ranks": [3, 1, 2]}


def texts(tokenizer, unit):
    return [tokenizer.decode(row.ids[row.targets]).removesuffix("<|im_end|>") for row in unit]


def test_a_unit_holds_all_completions_best_first_behind_one_prompt(chatml):
    (unit,) = build_rankings(rankings([ROW], "f"), chatml).units
    assert texts(chatml, unit) == ["Yes.", "The cat sat.", "No."]
    assert [row.values["rank"] for row in unit] == [1, 2, 3]
    assert len({row.prefix for row in unit}) == 1
    assert len({tuple(row.ids[: row.prefix]) for row in unit}) == 1
    assert all(row.targets.tolist() == list(range(row.prefix, len(row))) for row in unit)
    assert detect([ROW]) == "ranking"


def test_scores_rank_the_other_way_round(chatml):
    row = {"prompt": "One?", "completions": ["No.", "Yes.", "Perhaps."], "scores": [-2.5, 7.0, 7]}
    (item,) = rankings([row], "f")
    assert item.ranks == [2.5, -7.0, -7.0] and item.has_ties
    (unit,) = build_rankings([item], chatml).units
    assert texts(chatml, unit)[-1] == "No."


def test_messages_prompt_id_and_unfinished_completions(chatml):
    row = {
        **ROW,
        "prompt": [{"role": "user", "content": "One?"}],
        "completions": ["Yes.", [{"role": "assistant", "content": "Yes."}], "No."],
        "prompt_id": 7,
        "stopped": [True, False, "true"],
    }
    data = build_rankings(rankings([row], "f"), chatml)
    assert data.prompt_ids == ["7"] and data.repeated == 0
    ended = [row.ids[-1] == chatml.eos_token_id for row in data.units[0]]
    assert ended == [False, True, True]


def test_copies_ties_and_long_ones_are_counted(chatml):
    rows = [
        {"prompt": "One?", "completions": ["Yes.", "No.", "Yes."], "ranks": [3, 2, 1]},
        {"prompt": "Two?", "completions": ["Yes.", "Yes."], "ranks": [1, 2]},
        {"prompt": "Two?", "completions": ["Yes.", "No."], "ranks": [1, 1]},
        {"prompt": "Two?", "completions": ["Yes.", "The river is wide. " * 9], "ranks": [1, 2]},
    ]
    data = build_rankings(rankings(rows, "f"), chatml, max_length=40)
    assert texts(chatml, data.units[0]) == ["Yes.", "No."] and data.repeated == 1
    assert data.source == [0]
    assert data.left_out == {1: ALL_EQUAL, 2: ALL_EQUAL, 3: TOO_LONG}
    with pytest.raises(DataError, match=r"f, row 4: \d+ tokens, but max_length is 40"):
        build_rankings(rankings(rows, "f"), chatml, max_length=40, overlong="error")
    with pytest.raises(DataError, match=r"f: no ranking is left .*2 no two different completions"):
        build_rankings(rankings(rows[1:3], "f"), chatml, where="f")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"ranks": None}, "column 'ranks' is missing"),
        ({"ranks": None, "rank": [1, 2, 3]}, "did you mean 'rank'"),
        ({"completions": "Yes."}, "row 1, completions: expected a list, got str"),
        ({"completions": ["Yes."], "ranks": [1]}, "a ranking needs at least two, got 1"),
        ({"ranks": [1, 2]}, "row 1, ranks: it has 2 items for 3"),
        ({"ranks": [1, 2, "x"]}, "row 1, ranks, item 3: expected a number, got 'x'"),
        ({"ranks": [1, 2, float("nan")]}, "item 3: nan is not a finite number"),
        ({"completions": ["Yes.", "", "No."]}, "row 1, completions, item 2: it is empty"),
        ({"stopped": [True]}, "row 1, stopped: it has 1 items for 3"),
        ({"stopped": [True, True, "perhaps"]}, "row 1, stopped, item 3: expected true or false"),
    ],
)
def test_bad_rows_name_the_field(change, match):
    with pytest.raises(DataError, match=match) as caught:
        rankings([{**ROW, **change}], "f")
    assert str(caught.value).startswith("f, row 1") and "\n" not in str(caught.value)


def test_a_pair_is_a_ranking_of_two(chatml):
    pair = Preference([Message("user", "q")], "Yes.", "No.", "me", prompt_id="p", rejected_stopped=False)
    (unit,) = build_rankings([as_ranking(pair)], chatml).units
    assert texts(chatml, unit) == ["Yes.", "No."] and unit[1].ids[-1] != chatml.eos_token_id
    reverse = Preference(pair.prompt, "Yes.", "No.", "me", label=0.0)
    assert texts(chatml, build_rankings([as_ranking(reverse)], chatml).units[0]) == ["No.", "Yes."]
    with pytest.raises(DataError, match=r"0.7 is not sure.*bradley_terry"):
        as_ranking(Preference(pair.prompt, "Yes.", "No.", "me", label=0.7), "f, row 1")
