"""The section of a reward model, for every kind, from a real run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.stages import recipes, reward_tasks
from tests.stages.recipes import recipe, stage_folder
from tests.stages.reward_tasks import KINDS, stage

from ridgeline.stages.pipeline import run_recipe
from ridgeline.workbench.report.headline import headline
from ridgeline.workbench.report.source import RunData, read_run
from ridgeline.workbench.report.stage_reward_model import reward_model

FEW = {"epochs": 2, "evaluate_every": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = reward_tasks.make_tasks(recipes.make_world(tmp_path_factory.mktemp("world")), 1)
    for name in ("hostile",):
        rows = [
            {"prompt": f"q{n}", "completion": f"<script>alert({n})</script>", "label": n % 2}
            for n in range(8)
        ]
        (world / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stages = [stage(data, loss, **FEW, name=loss) for loss, data in KINDS.items()]
    stages += [
        stage("annotated", "bradley_terry", **FEW, name="pairs"),
        stage("rankings", "grouped", **FEW, name="crowd", members=3, combine="min"),
        stage("annotated", "bradley_terry", **FEW, name="tastes", heads_by="annotator"),
        stage("hostile", "outcome", **FEW, name="hostile", heldout=0.5),
        stage("annotated", "bradley_terry", **FEW, name="blind", heldout=0.0),
    ]
    run_recipe(recipe(world, *stages), world / "run", resume=False)
    return world / "run"


@pytest.fixture(scope="module")
def data(run: Path) -> RunData:
    return read_run(run)


def section(data: RunData, name: str) -> str:
    found = data.named(name)
    assert found is not None
    return reward_model(data, found)


WORDS = {
    "grouped": ["Pairs in the right order", "Best one on top", "nats/prompt", "Training rankings"],
    "plackett_luce": ["Pairs in the right order", "Plackett-Luce loss"],
    "outcome": ["Best of a prompt is right", "(AUC)", "nats/solution", "always the more frequent label"],
    "pooled_outcome": ["Best of a prompt is right", "Held-out solutions"],
    "process": ["Accuracy on wrong steps", "First error found", "nats/step"],
    "process_3class": ["Accuracy on neutral steps", "guessing (ln 3)"],
    "pairs": ["Accuracy against labels", "Correlation with length", "Bradley-Terry loss", "nats/pair"],
    "crowd": ["Accuracy of a single member", "Spread between members", "Accuracy of min"],
    "tastes": ["By group", "Accuracy of the shared head", "ann", "bob"],
}


@pytest.mark.parametrize("name", WORDS)
def test_numbers_and_three_pictures_of_every_kind(data: RunData, name: str) -> None:
    shown = section(data, name)
    assert shown.count("<svg viewBox") >= 3 and shown.count("<figure") == 3
    for words in WORDS[name]:
        assert words in shown, words
    assert "No held-out accuracy" not in shown and "No losses" not in shown
    assert "nan" not in shown.lower().replace("ann", "")


def test_tokens_are_coloured_by_the_verdict(data: RunData, run: Path) -> None:
    shown = section(data, "process")
    stored = json.loads((stage_folder(run, 5) / "examples.json").read_text())
    assert stored["probabilities"] and len(stored["examples"]) == 6
    for example in stored["examples"]:
        assert len(example["tokens"]) == len(example["scores"])
        assert "".join(example["tokens"]).endswith("<|im_end|>")
        assert len(example["ends"]) == len(example["label"].split(","))
        assert all(0 <= score <= 1 for score in example["scores"])
    assert shown.count("color-mix(") == sum(len(example["tokens"]) for example in stored["examples"])
    assert shown.count("▏") == sum(len(example["ends"]) for example in stored["examples"])
    pairs = json.loads((stage_folder(run, 7) / "examples.json").read_text())
    assert [example["label"] for example in pairs["examples"]] == ["chosen", "rejected"] * 3
    ranked = json.loads((stage_folder(run, 1) / "examples.json").read_text())
    assert ranked["examples"][0]["label"].startswith("place 1 of ")


def test_hostile_text_is_escaped(data: RunData) -> None:
    shown = section(data, "hostile")
    assert "&lt;" in shown and "<script" not in shown


def test_without_held_out_rows_and_with_a_broken_file_the_section_still_stands(run: Path) -> None:
    shown = section(read_run(run), "blind")
    assert "No held-out accuracy has been measured." in shown and "chosen" in shown
    assert "training completions" in shown
    path = stage_folder(run, 11) / "examples.json"
    whole = path.read_text()
    for broken in (whole[:40], "[]", '{"probabilities": true, "examples": [{"label": "x"}]}'):
        path.write_text(broken)
        data = read_run(run)
        assert "color-mix" not in section(data, "blind")
        assert "examples.json could not be read." in data.named("blind").notes  # type: ignore[union-attr]
    path.unlink()
    assert "color-mix" not in section(read_run(run), "blind")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("outcome", "of held-out solutions as labelled, where the more frequent label alone gets"),
        ("outcome", "its favourite is right in"),
        ("process_3class", "of held-out steps as labelled, where the more frequent label alone gets"),
        ("grouped", "of held-out pairs as labelled"),
        ("tastes", "one head for all groups ranks"),
        ("blind", "nothing was held out"),
    ],
)
def test_a_sentence_for_every_kind(data: RunData, name: str, words: str) -> None:
    shown = headline(data)
    (sentence,) = [item for item in shown.split("<li>") if item.startswith(f"<b>{name}</b>")]
    assert words in sentence
