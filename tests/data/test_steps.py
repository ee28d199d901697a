from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.data.formats import detect
from ridgeline.data.steps import UNLABELLED, build_steps, solutions, step_ends
from ridgeline.data.supervised import TOO_LONG
from ridgeline.schema.errors import DataError

STEP = st.text("abcTheé🙂 .", min_size=1, max_size=9).filter(lambda text: bool(text.strip()))
ROW = {"prompt": "One?", "steps": ["The cat sat.", "The river is wide.", "Yes."], "labels": [True, False, 1]}


def upto(tokenizer, row):
    """The completion's text up to and with each target."""
    return [tokenizer.decode(row.ids[row.prefix : place + 1]) for place in row.targets]


def test_labels_stand_on_the_last_token_of_each_step(chatml):
    ((row,),) = build_steps(solutions([ROW], "f"), chatml).units
    assert upto(chatml, row) == [
        "The cat sat.\n\n",
        "The cat sat.\n\nThe river is wide.\n\n",
        "The cat sat.\n\nThe river is wide.\n\nYes.<|im_end|>",
    ]
    assert row.fields["label"].tolist() == [1.0, 0.0, 1.0]
    assert row.targets[-1] == len(row) - 1
    assert detect([ROW]) == "steps"


def test_a_completion_cut_at_the_limit_ends_its_last_step_with_its_last_token(chatml):
    ((row,),) = build_steps(solutions([{**ROW, "stopped": False}], "f"), chatml).units
    assert row.ids[-1] != chatml.eos_token_id and row.targets[-1] == len(row) - 1


def test_another_separator(chatml):
    ((row,),) = build_steps(solutions([ROW], "f"), chatml, separator=" [step]").units
    assert upto(chatml, row)[0] == "The cat sat. [step]"


def test_the_end_lies_in_the_token_that_completes_the_separator(merging):
    """This tokenizer merges across lines, so a separator may share its token with what surrounds it."""
    steps = ["The cat sat on the mat.", "user", "Yes."]
    row = {"prompt": "q", "steps": steps, "labels": [1, 0, 1]}
    ((row,),) = build_steps(solutions([row], "f"), merging).units
    for number, place in enumerate(row.targets[:-1], start=1):
        text = "\n\n".join(steps[:number]) + "\n\n"
        assert merging.decode(row.ids[row.prefix : place + 1]).startswith(text)
        assert not merging.decode(row.ids[row.prefix : place]).startswith(text)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(steps=st.lists(STEP, min_size=1, max_size=5), stopped=st.booleans())
def test_ends_of_any_steps(chatml, steps, stopped):
    row = {"prompt": "q", "steps": steps, "labels": [1] * len(steps), "stopped": stopped}
    ((built,),) = build_steps(solutions([row], "f"), chatml).units
    assert len(built.targets) == len(steps)
    for number, text in enumerate(upto(chatml, built)[:-1], start=1):
        assert text == "\n\n".join(steps[:number]) + "\n\n"


def test_a_sampled_completion_is_read_as_it_is(chatml):
    def ends(text):
        ids = chatml(text, add_special_tokens=False)["input_ids"]
        return [chatml.decode(ids[: end + 1]) for end in step_ends(ids, chatml, "\n\n")]

    assert ends("Yes.") == ["Yes."]
    assert ends("Yes.<|im_end|>") == ["Yes.<|im_end|>"]
    assert ends("Yes.\n\nNo.<|im_end|>") == ["Yes.\n\n", "Yes.\n\nNo.<|im_end|>"]
    assert ends("Yes.\n\n<|im_end|>") == ["Yes.\n\n"], "what follows the last separator is no step"
    assert ends("\n\nYes.\n\n\n\nNo.") == ["\n\nYes.\n\n", "\n\nYes.\n\n\n\nNo."], "empty steps are none"
    assert ends("\n\n") == ["\n\n"], "there is always one place to read"
    assert step_ends([], chatml, "\n\n") == []


def test_unlabelled_steps_are_read_past(chatml):
    rows = [{**ROW, "labels": [None, 0.5, None]}, {**ROW, "labels": [None] * 3}]
    data = build_steps(solutions(rows, "f"), chatml)
    assert [len(unit[0].targets) for unit in data.units] == [1]
    assert data.units[0][0].fields["label"].tolist() == [0.5]
    assert data.left_out == {1: UNLABELLED}


def test_three_classes():
    (item,) = solutions([{**ROW, "labels": [-1, 0, True]}], "f", classes=3)
    assert item.labels == [-1.0, 0.0, 1.0]
    assert solutions([{**ROW, "labels": [False, 1, None]}], "f", classes=3)[0].labels == [-1.0, 1.0, None]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"labels": [1, 0, -1]},
            r'labels, item 3: -1 is a label of three classes; use loss = "process_3class"',
        ),
        ({"labels": [1, 0, 2]}, "labels, item 3: 2 lies outside 0"),
        ({"labels": [1, 0]}, "row 1, labels: it has 2 items for 3"),
        ({"labels": [1, 0, "good"]}, "labels, item 3: expected a number, got 'good'"),
        ({"labels": None}, "column 'labels' is missing"),
        ({"steps": "Yes."}, "row 1, steps: expected a list"),
        ({"steps": [], "labels": []}, "row 1, steps: there is none"),
        ({"steps": ["Yes.", " ", "No."]}, "row 1, steps, item 2: it is empty"),
    ],
)
def test_bad_rows_name_the_field(change, match):
    with pytest.raises(DataError, match=match) as caught:
        solutions([{**ROW, **change}], "f")
    assert str(caught.value).startswith("f, row 1")


def test_three_classes_refuse_a_share():
    with pytest.raises(DataError, match=r"0.5 is none of -1 \(bad\), 0 \(neutral\) and 1 \(good\)"):
        solutions([{**ROW, "labels": [1, 0.5, 1]}], "f", classes=3)


@pytest.mark.parametrize(("steps", "item"), [(["a\n\nb", "c"], 1), (["c", "a\n", "b"], 1)])
def test_steps_that_hold_or_touch_the_separator_are_refused(chatml, steps, item):
    rows = [{"prompt": "q", "steps": steps, "labels": [1] * len(steps)}]
    with pytest.raises(
        DataError, match=rf"f, row 1, steps, item {item}: it holds the separator .*set step_sep"
    ):
        build_steps(solutions(rows, "f"), chatml)


def test_overlong_solutions(chatml):
    rows = [ROW, {**ROW, "steps": ["The river is wide. " * 9, "a", "b"]}]
    data = build_steps(solutions(rows, "f"), chatml, max_length=60)
    assert data.left_out == {1: TOO_LONG}
    with pytest.raises(DataError, match=r"f, row 2: .*max_length is 60"):
        build_steps(solutions(rows, "f"), chatml, max_length=60, overlong="error")
    with pytest.raises(DataError, match="f: no solution is left"):
        build_steps(solutions(rows[1:], "f"), chatml, max_length=60, where="f")
