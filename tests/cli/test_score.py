"""``ridgeline score``: rows in, rows with scores out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.call import assert_one_sentence, call
from tests.stages import recipes, reward_tasks
from tests.stages.recipes import recipe
from tests.stages.reward_tasks import stage

from ridgeline.stages.pipeline import run_recipe


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = reward_tasks.make_tasks(recipes.make_world(tmp_path_factory.mktemp("world")), 1)
    stages = [
        stage("annotated", "bradley_terry", epochs=2),
        stage("steps", "process", epochs=2, name="prm"),
    ]
    run_recipe(recipe(world, *stages), world / "runs" / "tiny", resume=False)
    return world


@pytest.fixture(autouse=True)
def _here(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)


def test_a_file_of_pairs(world: Path) -> None:
    called = call("score", "runs/tiny:judge", "--data", "annotated.jsonl", "--out", "scored.jsonl")
    assert called.code == 0, called
    rows = [json.loads(line) for line in Path("scored.jsonl").read_text().splitlines()]
    given = [json.loads(line) for line in Path("annotated.jsonl").read_text().splitlines()]
    assert [{**row, "score": None} for row in rows] == [{**row, "score": None} for row in given]
    assert set(rows[0]["score"]) == {"chosen", "rejected"}
    assert "160 completions scored in scored.jsonl" in called.out and "chosen above rejected" in called.out


def test_steps_on_the_terminal_and_as_json(world: Path) -> None:
    Path("two.jsonl").write_text(
        json.dumps({"prompt": "q", "completion": "good\n\nterr\u001bible"})
        + "\n"
        + json.dumps({"prompt": "q", "completion": "kind"})
        + "\n"
    )
    arguments = ("score", "runs/tiny:prm", "--data", "two.jsonl", "--per", "step", "--aggregate", "product")
    called = call(*arguments)
    assert called.code == 0
    assert "row 1, completion: 0." in called.out and "good\\n\\n" in called.out
    assert "\x1b" not in called.out, "what a terminal would obey is spelled out"
    rows = json.loads(call(*arguments, "--json").out)
    assert [len(row["score_pieces"]) for row in rows] == [2, 1]
    assert 0 < rows[0]["score"] < 1
    counted = json.loads(call(*arguments, "--json", "--out", "out.jsonl").out)
    assert counted["rows"] == counted["completions"] == 2
    assert call(*arguments, "--quiet").out.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "fragments"),
    [
        (("runs/tiny:jude", "--data", "annotated.jsonl"), 2, ["did you mean 'judge'?"]),
        (("model", "--data", "annotated.jsonl"), 2, ["model holds no reward model"]),
        (("runs/tiny:judge", "--data", "nowhere.jsonl"), 2, ["nowhere.jsonl", "check the path"]),
        (("runs/tiny:judge", "--data", "prompts.jsonl"), 3, ["prompts.jsonl holds prompts only"]),
        (("runs/tiny:judge", "--data", "annotated.jsonl", "--per", "tokn"), 2, ["did you mean 'token'?"]),
        (("runs/tiny:judge", "--data", "annotated.jsonl", "--aggregate", "min"), 2, ["remove it"]),
        (("runs/tiny:judge", "--data", "annotated.jsonl", "--column", "prompt"), 2, ["--column"]),
        (("runs/tiny:judge", "--data", "annotated.jsonl", "--out", "no/way.jsonl"), 2, ["cannot write"]),
        (("runs/tiny:judge",), 2, ["--data", "--help"]),
    ],
)
def test_mistakes_are_one_sentence(arguments: tuple[str, ...], code: int, fragments: list[str]) -> None:
    assert_one_sentence(call("score", *arguments), code, *fragments)


def test_a_bad_row_names_file_row_and_field(world: Path) -> None:
    Path("bad.jsonl").write_text('{"prompt": "q", "completion": "a"}\n{"prompt": "q", "completion": ""}\n')
    called = call("score", "runs/tiny:judge", "--data", "bad.jsonl")
    assert_one_sentence(called, 3, "bad.jsonl, row 2, completion", "empty")
