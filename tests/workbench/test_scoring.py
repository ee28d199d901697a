"""Scoring files, rows and samples: the numbers are those that a run would give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.stages import recipes, reward_tasks
from tests.stages.recipes import recipe, stage_folder
from tests.stages.reward_tasks import stage

import ridgeline as rl
from ridgeline.rollout.store import read_samples
from ridgeline.schema.errors import DataError, UsageError
from ridgeline.stages.pipeline import run_recipe
from ridgeline.workbench.scored_rows import with_scores
from ridgeline.workbench.scoring import Judge, find_reward_model, load_judge

CPU: dict[str, Any] = {"device": "cpu", "dtype": "float32"}
FEW: dict[str, Any] = {"epochs": 4}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reward_tasks.make_tasks(recipes.make_world(tmp_path_factory.mktemp("world")), 1)


@pytest.fixture(scope="module")
def run(world: Path) -> Path:
    stages = [
        stage("annotated", "bradley_terry", **FEW, name="judge"),
        stage("rankings", "grouped", **FEW, name="crowd", members=3, combine="min"),
        stage("outcomes", "outcome", **FEW, name="orm"),
        stage("steps", "process", **FEW, name="prm"),
        stage("annotated", "bradley_terry", **FEW, name="tastes", heads_by="annotator"),
        recipes.rl(world, reward=["judge"], monitor=["crowd", "orm", "prm"], steps=1),
        recipes.collect(world, model="policy"),
    ]
    run_recipe(recipe(world, *stages), world / "run", resume=False)
    return world / "run"


def judge(run: Path, name: str) -> Judge:
    return load_judge(f"{run}:{name}", **CPU)


@pytest.mark.parametrize("name", ["judge", "crowd", "orm", "prm"])
def test_samples_get_the_reward_that_the_run_gave_them(run: Path, name: str) -> None:
    samples = read_samples(stage_folder(run, 6) / "samples" / "step-000000.parquet")
    scored = rl.score(judge(run, name), samples)
    assert [each.score for each in scored] == pytest.approx([s.rewards[name] for s in samples], abs=1e-5)
    if name == "crowd":
        assert [e.spread for e in scored] == pytest.approx(
            [s.rewards["crowd spread"] for s in samples], abs=1e-5
        )
    written = [json.loads(json.dumps(sample.as_dict())) for sample in samples]
    again = rl.score(judge(run, name), written)
    assert [each.score for each in again] == [each.score for each in scored]
    assert [each.row for each in again] == list(range(1, len(samples) + 1))


def test_every_format_that_has_completions(run: Path) -> None:
    ask = [{"role": "user", "content": "q"}]
    rows: dict[str, list[dict[str, Any]]] = {
        "pair": [{"prompt": "q", "chosen": "It is good.", "rejected": "It is sad."}],
        "ranking": [{"prompt": "q", "completions": ["It is good.", "It is sad."], "ranks": [1, 2]}],
        "outcome": [{"prompt": "q", "completion": t, "label": 1} for t in ("It is good.", "It is sad.")],
        "plain": [{"prompt": "q", "response": t} for t in ("It is good.", "It is sad.")],
        "talk": [
            {"messages": [*ask, {"role": "assistant", "content": t}]} for t in ("It is good.", "It is sad.")
        ],
        "steps": [{"prompt": "q", "steps": [t], "labels": [-1]} for t in ("It is good.", "It is sad.")],
    }
    loaded = judge(run, "judge")
    scores = {name: [each.score for each in rl.score(loaded, given)] for name, given in rows.items()}
    assert all(own == pytest.approx(scores["pair"], abs=1e-6) for own in scores.values())
    parts = {name: [each.part for each in rl.score(loaded, given)] for name, given in rows.items()}
    assert parts["pair"] == ["chosen", "rejected"] and parts["ranking"] == ["1", "2"]
    assert parts["outcome"] == ["completion", "completion"]
    cut = rl.score(loaded, [{**row, "stopped": False} for row in rows["plain"]])
    assert cut[0].score != pytest.approx(scores["plain"][0], abs=1e-4), "a completion without its stop token"


def test_order_survives_batches_sorted_by_length(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": "q", "completion": "good " * (1 + 7 * n % 5)} for n in range(9)]
    loaded = judge(run, "judge")
    whole = [each.score for each in rl.score(loaded, rows)]
    alone = [rl.score(loaded, [row])[0].score for row in rows]
    assert whole == pytest.approx(alone, abs=1e-5)
    monkeypatch.setattr("ridgeline.workbench.scoring.TOKENS_PER_BATCH", 2)
    assert [each.score for each in rl.score(loaded, rows)] == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("name", ["judge", "crowd", "orm", "prm", "tastes"])
def test_scores_of_tokens(run: Path, name: str) -> None:
    (scored,) = rl.score(judge(run, name), [{"prompt": "q", "completion": "It is good."}], per="token")
    assert "".join(piece.text for piece in scored.pieces) == "It is good.<|im_end|>"
    assert [piece.end for piece in scored.pieces] == list(range(len(scored.pieces)))
    assert scored.pieces[-1].score == pytest.approx(scored.score, abs=1e-5), "the last token is the verdict"


def test_scores_of_steps(run: Path) -> None:
    loaded = judge(run, "prm")
    row = {"prompt": "q", "completion": "good\n\nterrible\n\nkind"}
    (scored,) = rl.score(loaded, [row], per="step")
    assert [piece.text for piece in scored.pieces] == ["good\n\n", "terrible\n\n", "kind<|im_end|>"]
    values = [piece.score for piece in scored.pieces]
    assert scored.score == pytest.approx(min(values))
    by_token = rl.score(loaded, [row], per="token")[0].pieces
    assert [by_token[piece.end].score for piece in scored.pieces] == pytest.approx(values, abs=1e-5)
    for how, expected in (
        ("product", values[0] * values[1] * values[2]),
        ("last", values[2]),
        ("mean", sum(values) / 3),
    ):
        assert rl.score(loaded, [row], aggregate=how)[0].score == pytest.approx(expected, abs=1e-5)
    two = rl.score(loaded, [row], aggregate="mean_last_m", last_m=2)[0].score
    assert two == pytest.approx((values[1] + values[2]) / 2, abs=1e-5)
    assert rl.score(loaded, [row])[0].score == scored.score, "asking otherwise once changes nothing"


def test_one_head_of_several(run: Path) -> None:
    loaded = judge(run, "tastes")
    row = {"prompt": "q", "chosen": "It is good.", "rejected": "It is sad."}
    ann, bob = (rl.score(loaded, [row], head=name) for name in ("ann", "bob"))
    assert ann[0].score > ann[1].score and bob[0].score < bob[1].score
    both = rl.score(loaded, [row])[0]
    assert both.score == pytest.approx((ann[0].score + bob[0].score) / 2, abs=1e-5)
    assert both.spread is not None and ann[0].spread is None


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("judge", {"per": "word"}, "per = 'word' is not valid"),
        ("orm", {"per": "step"}, "needs a process model, and"),
        ("judge", {"aggregate": "min"}, "scores whole completions (bradley_terry)"),
        ("orm", {"aggregate": "minn"}, "did you mean 'min'?"),
        ("prm", {"aggregate": "pooled"}, "belongs to outcomes"),
        ("orm", {"aggregate": "mean_last_m"}, "go together"),
        ("orm", {"last_m": 3}, "go together"),
        ("orm", {"aggregate": "mean_last_m", "last_m": 0}, "at least 1"),
        ("judge", {"head": "ann"}, "has a single head"),
        ("tastes", {"head": "anne"}, "did you mean 'ann'?"),
    ],
)
def test_options_without_use_are_refused(
    run: Path, name: str, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UsageError) as caught:
        rl.score(judge(run, name), [{"prompt": "q", "completion": "a"}], **options)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"prompt": "q"}], "holds prompts only, and there is nothing to score"),
        ([{"prompt": "q", "completion": ""}], "row 1, completion: it is empty"),
        (
            [{"prompt": "q", "completion": "good " * 600}],
            r"row 1: \d+ tokens, but the model has 512 positions",
        ),
        (
            [{"prompt_ids": [1], "completion_ids": ["a"]}],
            "row 1, completion_ids: expected a list of token ids",
        ),
        ([], "holds no rows"),
    ],
)
def test_data_that_cannot_be_scored(run: Path, rows: list[dict[str, Any]], expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        rl.score(judge(run, "judge"), rows)


def test_how_reward_models_are_called(run: Path, world: Path, tmp_path: Path) -> None:
    assert find_reward_model(f"{run}:orm")[0] == stage_folder(run, 3) / "model"
    assert find_reward_model(str(run))[0] == stage_folder(run, 5) / "model", "the last one of the run"
    folder = stage_folder(run, 1) / "model"
    assert find_reward_model(str(folder)) == (folder, None)
    assert load_judge(folder, **CPU).kind.loss == "bradley_terry"
    for name, expected in (
        (f"{run}:policy", "has no reward_model stage 'policy'"),
        (f"{run}:judg", "did you mean 'judge'?"),
        ("runs/none:judge", "runs/none does not exist"),
        ("nowhere", "there is no reward model 'nowhere'"),
    ):
        with pytest.raises(UsageError) as caught:
            load_judge(name, **CPU)
        assert expected in str(caught.value)
    with pytest.raises(UsageError, match="holds no reward model"):
        load_judge(world / "model", **CPU)
    run_recipe(recipe(world, recipes.sft()), tmp_path / "other", resume=False)
    with pytest.raises(UsageError, match="has made no reward model"):
        load_judge(tmp_path / "other", **CPU)


def test_rows_with_their_scores(run: Path) -> None:
    loaded = judge(run, "crowd")
    pairs = [{"prompt": "q", "chosen": "It is good.", "rejected": "It is sad.", "id": 7}]
    (row,) = with_scores(pairs, rl.score(loaded, pairs, per="token"), "scores")
    assert row["id"] == 7 and set(row["scores"]) == {"chosen", "rejected"} == set(row["scores_pieces"])
    assert row["scores_spread"]["chosen"] > 0
    ranking = [{"prompt": "q", "completions": ["It is good.", "It is sad."], "ranks": [1, 2]}]
    (row,) = with_scores(ranking, rl.score(loaded, ranking), "score")
    assert isinstance(row["score"], list) and len(row["score"]) == 2
    with pytest.raises(UsageError, match=r"row 1 has a column 'id' already; name another with --column"):
        with_scores(pairs, rl.score(loaded, pairs), "id")


def test_scored_pairs_and_rankings_are_data_again(run: Path, world: Path, tmp_path: Path) -> None:
    """Scores of one judge as the margins, or the ranks, that another learns from."""
    rows = [json.loads(line) for line in (world / "annotated.jsonl").read_text().splitlines()]
    pairs = with_scores(rows, rl.score(judge(run, "judge"), rows), "scores")
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    table = {**stage("x", "bradley_terry", margin=True, epochs=1), "data": str(tmp_path / "pairs.jsonl")}
    result = run_recipe(recipe(world, table), tmp_path / "margins", resume=False)["stages"]["judge"]
    assert "accuracy_against_gold" in result["after"]
