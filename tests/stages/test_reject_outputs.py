"""What a reject stage reports and leaves for others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ridgeline.data.formats import instructions
from ridgeline.data.sources import read_rows
from ridgeline.preferences.store import read_preferences
from ridgeline.schema.errors import UsageError
from ridgeline.stages.pipeline import run_recipe
from ridgeline.statistics.best_of_n import kl_of_best_of_n
from tests.stages import recipes
from tests.stages.recipes import Table, recipe, stage_folder
from tests.stages.test_reject import chosen_of, pool_of, reject, result_of


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.make_world(tmp_path_factory.mktemp("world"))


def test_diagnostics(world: Path) -> None:
    """Against the pool itself: ends of the curve, decidable prompts, histogram."""
    result = result_of(world, "told", reward=["random_coin"], monitor=["length"], good_from=None)
    (told,) = result["rounds"]
    assert "decidable" not in told, "length is neither right nor wrong"
    pool = pool_of(world / "told")
    coins_PG = np.array([s.rewards["random_coin"] for s in pool], dtype=float).reshape(6, 6)
    lengths = [len(s.completion_ids) for s in pool]
    curve = told["best_of_n"]
    assert curve["total"][0]["value"] == pytest.approx(coins_PG.mean())
    assert curve["total"][-1]["value"] == pytest.approx(coins_PG.max(axis=1).mean())
    assert curve["length"][0]["value"] == pytest.approx(np.mean(lengths))
    assert curve["kl_bound"][-1] == result["kl_bound"] == kl_of_best_of_n(6)
    assert told["rewards"]["random_coin"]["pool"]["value"] == pytest.approx(coins_PG.mean())
    chosen = [s.rewards["random_coin"] for s in chosen_of(world / "told")]
    assert told["rewards"]["random_coin"]["selected"]["value"] == pytest.approx(np.mean(chosen))
    assert sum(told["histogram"]["pool"]) == 36 and sum(told["histogram"]["selected"]) == 6

    by_coin = result_of(world, "coin", monitor=["random_coin"])["rounds"][0]
    coins_PG = np.array([s.rewards["random_coin"] for s in pool_of(world / "coin")], dtype=float).reshape(
        6, 6
    )
    mixed = (coins_PG.mean(1) > 0) & (coins_PG.mean(1) < 1)
    assert by_coin["decidable"]["fraction"]["value"] == pytest.approx(mixed.mean())
    assert by_coin["decidable"]["chance"]["value"] == pytest.approx(coins_PG[mixed].mean())
    assert by_coin["decidable"]["good_from"] == 1.0
    assert sum(by_coin["histogram"]["good"]) == coins_PG.sum()


def test_good_from_makes_a_measure_decidable(world: Path) -> None:
    decidable = result_of(world, "good", monitor=["random_coin"], good_from=0.5)["rounds"][0]["decidable"]
    assert decidable["reward"] == "random_coin" and decidable["good_from"] == 0.5
    own = result_of(world, "own", monitor=None, selection="threshold", keep=None, threshold=0.5)
    assert own["rounds"][0]["decidable"]["reward"] == "total"
    assert own["rounds"][0]["decidable"]["hit_rate"]["value"] == 1.0


def test_selected_rows_are_instruction_rows(world: Path) -> None:
    result = result_of(world, "rows")
    path = stage_folder(world / "rows") / "selected.jsonl"
    rows = instructions(read_rows(str(path)), str(path))
    chosen = [s for s in chosen_of(world / "rows") if s.text.strip()]
    assert len(rows) == result["rows"] == len(chosen)
    assert [row.messages[-1].content for row in rows] == [s.text for s in chosen]
    raw = json.loads(path.read_text().splitlines()[0])
    assert raw["messages"][0]["role"] == "user" and raw["reward"] == chosen[0].rewards["total"]


@pytest.mark.parametrize(
    "changes",
    [
        {"preferences": "best_worst"},
        {"preferences": "accepted", "selection": "statistical", "beta": 0.3, "keep": 4},
    ],
)
def test_pairs_for_stages_that_learn_from_them(world: Path, changes: Table) -> None:
    folder = str(changes["preferences"])
    preference = {"name": "tuned", "type": "preference", "data": "reject", "heldout": 0, "pairs_per_step": 4}
    made = recipe(world, reject(world, train=False, heldout=None, **changes), preference)
    result = run_recipe(made, world / folder, resume=False)["stages"]["reject"]
    pairs = read_preferences(stage_folder(world / folder) / "preferences.jsonl")
    assert len(pairs) == result["pairs"] > 0
    assert all(pair.scores["chosen"] > pair.scores["rejected"] for pair in pairs)


def test_without_training_no_model_is_made_and_none_can_be_used(world: Path) -> None:
    result = result_of(world, "selection-only", train=False, heldout=None)
    assert result["before"] == result["after"] == {}
    assert not (stage_folder(world / "selection-only") / "model").exists()
    assert "gain" in result["rounds"][0]["rewards"]["total"]
    for stage in (recipes.sft(model="reject"), recipes.evaluate(world, "base", "reject")):
        made = recipe(world, reject(world, train=False, heldout=None), stage)
        with pytest.raises(UsageError, match="makes no model, since it has train = false"):
            run_recipe(made, world / "refused", resume=False)
    preference = {"name": "tuned", "type": "preference", "data": "reject"}
    with pytest.raises(UsageError, match="writes no pairs; give it preferences"):
        run_recipe(recipe(world, reject(world), preference), world / "refused", resume=False)
    assert not (world / "refused").exists()


def test_a_later_stage_goes_on_from_the_model(world: Path) -> None:
    made = recipe(world, reject(world, control=False), recipes.sft(model="reject"))
    summary = run_recipe(made, world / "chain", resume=False)
    assert summary["stages"]["sft"]["heldout_nll_after"] is not None
