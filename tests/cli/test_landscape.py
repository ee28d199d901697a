"""``ridgeline landscape``: training, pictures, maps, terrains, and what it says about mistakes."""

from __future__ import annotations

import json
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.cli.call import assert_one_sentence, call
from tests.landscape.pictures import samples
from typer.main import get_command

from ridgeline.cli import landscape, main
from ridgeline.landscape.world.settings import Settings
from ridgeline.schema.errors import UsageError

build = import_module("ridgeline.landscape.maps.build")
source = import_module("ridgeline.landscape.maps.source")

if not any(group.typer_instance.info.name == "landscape" for group in main.app.registered_groups):
    landscape.register(main.app)

SMALL = ("--iterations", "3", "--every", "2", "--paths", "16", "--epochs", "2")


@pytest.fixture(scope="module")
def hill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "hill"
    done = call("landscape", "train", "--out", str(folder), *SMALL, "--json")
    assert done.code == 0, done
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder two of whose stages have a landscape."""
    for name in ("02-policy", "03-more"):
        samples.exact(tmp_path / "run/stages" / name / "landscape", n=17, frames=2, paths=3)
    return tmp_path / "run"


def test_training_reports_exact_figures_before_and_after(hill: Path, tmp_path: Path) -> None:
    again = call("landscape", "train", "--out", str(tmp_path / "again"), *SMALL, "--json")
    found = json.loads(again.out)
    manifest = json.loads((hill / "landscape/manifest.json").read_text())
    assert [frame["step"] for frame in manifest["frames"]] == [0, 2, 3]
    assert found["before"] == manifest["frames"][0]["scalars"]
    assert found["after"] == manifest["frames"][-1]["scalars"]
    assert abs(found["before"]["kl"]) < 1e-9 < 1e-4 < found["after"]["kl"]
    assert found["settings"]["paths"] == 16 and found["settings"]["algorithm"] == "ppo"


def test_every_setting_is_an_option() -> None:
    command = get_command(main.app).commands["landscape"].commands["train"]  # type: ignore[attr-defined]
    options = {parameter.name for parameter in command.params}
    assert {field.name for field in fields(Settings)} <= options


def test_settings_reach_the_learner(tmp_path: Path) -> None:
    out = str(tmp_path / "r")
    options = ("--algorithm", "rloo", "--group", "4", "--beta", "0.5", "--filter-dead", "--seed", "7")
    done = call("landscape", "train", "--out", out, "-n", "1", "--paths", "8", *options, "--json")
    settings = json.loads(done.out)["settings"]
    assert (settings["algorithm"], settings["group"], settings["beta"]) == ("rloo", 4, 0.5)
    assert settings["filter_dead"] is True and settings["seed"] == 7


def test_the_table_and_the_closing_line(tmp_path: Path) -> None:
    out = str(tmp_path / "r")
    done = call("landscape", "train", "--out", out, "-n", "1", "--paths", "8", "--epochs", "1")
    assert "J gold" in done.out and "step 0" in done.out and "step 1" in done.out
    assert "iteration 1/1" in done.err
    quiet = call(
        "landscape", "train", "--out", out + "2", "-n", "1", "--paths", "8", "--epochs", "1", "--quiet"
    )
    assert len(quiet.out.splitlines()) == 1 and f"run: {out}2" in quiet.out and quiet.err == ""


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("--algorithm", "pop"), ("unknown algorithm", "did you mean 'ppo'")),
        (("--terrain", "ravin"), ("ravine",)),
        (("--paths", "1"), ("paths", "from 2")),
        (("--layer", "golf"), ("gold",)),
        (("--algorithm", "trpo", "--epochs", "3"), ("epochs",)),
    ],
)
def test_mistakes_in_training(arguments: tuple[str, ...], fragments: tuple[str, ...], tmp_path: Path) -> None:
    done = call("landscape", "train", "--out", str(tmp_path / "r"), "-n", "1", *arguments)
    assert_one_sentence(done, 2, *fragments)


def test_a_folder_that_is_taken_is_left_alone(hill: Path) -> None:
    before = (hill / "landscape/manifest.json").read_bytes()
    assert_one_sentence(call("landscape", "train", "--out", str(hill), *SMALL), 2, "not empty")
    assert (hill / "landscape/manifest.json").read_bytes() == before


def test_a_picture_of_a_step(hill: Path, tmp_path: Path) -> None:
    out = tmp_path / "new folder/hill.png"
    done = call(
        "landscape", "picture", str(hill), "--out", str(out), "--step", "2", "--layer", "gold", "--json"
    )
    found = json.loads(done.out)
    assert found["step"] == 2 and found["bytes"] == out.stat().st_size > 10_000
    assert out.read_bytes()[:4] == b"\x89PNG" and "|" in found["honesty"]


def test_a_stage_is_asked_for_where_several_have_a_map(run: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "m.svg")
    assert_one_sentence(call("landscape", "picture", str(run), "--out", out), 2, "--stage", "policy, more")
    done = call("landscape", "picture", str(run), "--out", out, "--stage", "more")
    assert done.code == 0 and "Ravine, step 20" in done.out
    done = call("landscape", "picture", str(run / "stages/02-policy"), "--out", out, "--frame", "0")
    assert done.code == 0 and "step 0" in done.out
    wrong = call("landscape", "picture", str(run), "--out", out, "--stage", "mor")
    assert_one_sentence(wrong, 2, "did you mean 'more'")


def test_mistakes_with_pictures(hill: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "x.png")

    def tried(*arguments: str, where: str = str(hill)) -> Any:
        return call("landscape", "picture", where, *arguments)

    assert_one_sentence(tried("--out", str(tmp_path / "x.gif")), 2, ".png, .svg, .pdf or .html")
    assert_one_sentence(tried("--out", out, "--step", "9"), 2, "nearest is 3")
    assert_one_sentence(tried("--out", out, "--step", "2", "--frame", "1"), 2, "give one")
    assert_one_sentence(tried("--out", out, where=str(tmp_path)), 2, "ridgeline landscape map")
    assert_one_sentence(tried("--out", out, where=str(tmp_path / "none")), 2, "no folder")
    (tmp_path / "landscape").mkdir()
    (tmp_path / "landscape/manifest.json").write_text('{"version": 1')
    assert_one_sentence(tried("--out", out, where=str(tmp_path)), 3, "manifest.json is damaged")


def test_a_map_is_asked_for_with_its_options(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {}

    def made(where: Path, stage: str | None, **options: Any) -> Any:
        asked.update(options, where=where, stage=stage)
        return build.MapResult(tmp_path, {"axes": 0.25}, "the line", ("poor.",), None)

    def found(where: Path, stage: str | None) -> None:
        if stage != "more":
            raise UsageError("no samples")

    monkeypatch.setattr(build, "build", made)
    monkeypatch.setattr(source, "find_source", found)
    done = call("landscape", "map", str(run), "--axes", "drift", "--samples", "64", "--raw", "--json")
    assert json.loads(done.out) == {
        "folder": str(tmp_path),
        "seconds": {"axes": 0.25},
        "honesty": "the line",
        "warnings": ["poor."],
    }
    assert asked["stage"] == "more" and asked["axes"] == "drift" and asked["where"] == run
    assert asked["samples_per_frame"] == 64 and asked["raw"] is True and asked["force"] is False
    said = call("landscape", "map", str(run), "--stage", "policy").out
    assert asked["stage"] == "policy" and "the line" in said and "Caution: poor." in said and "0.25 s" in said
    monkeypatch.setattr(source, "find_source", lambda where, stage: None)
    assert_one_sentence(call("landscape", "map", str(run)), 2, "--stage", "policy, more")
    assert_one_sentence(call("landscape", "map", str(run), "--axes", "umap"), 2, "reward, pca, drift")


def test_maps_explain_what_they_miss(tmp_path: Path) -> None:
    assert_one_sentence(call("landscape", "map", str(tmp_path)), 2, "not a run folder")


def test_terrains_are_listed_and_printed_to_be_edited(tmp_path: Path) -> None:
    listed = json.loads(call("landscape", "terrains", "--json").out)
    assert "ravine" in [each["name"] for each in listed]
    assert "ravine" in call("landscape", "terrains").out
    file = tmp_path / "mine.toml"
    file.write_text(call("landscape", "terrains", "ravine", "--toml").out)
    mine = json.loads(call("landscape", "terrains", str(file), "--json").out)
    ravine = json.loads(call("landscape", "terrains", "ravine", "--json").out)
    assert mine["layers"] == ravine["layers"]
    assert_one_sentence(call("landscape", "terrains", "ravin"), 2, "ravine")
    assert_one_sentence(call("landscape", "terrains", "--toml"), 2, "name it")
