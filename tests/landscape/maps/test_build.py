"""Whole maps: of run folders with known states, and of a real tiny run that saved no states."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.landscape.maps.made import made, write_run
from tests.tiny_recipe import write_tiny_recipe

from ridgeline.landscape import blocks
from ridgeline.landscape.maps import build
from ridgeline.landscape.record import Record
from ridgeline.schema.errors import DataError, UsageError
from ridgeline.schema.recipe import load_recipe
from ridgeline.stages.pipeline import run_recipe


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The policy moved by 1.5 standard deviations along the reward: 1.125 nats."""
    return write_run(tmp_path_factory.mktemp("known") / "run", made(shift=1.5, each=12), kl=1.125)


def test_map_of_a_known_run(known: Path) -> None:
    result = build(known, resolution=33)
    record = Record(result.folder)
    manifest = record.manifest
    assert (manifest.kind, manifest.altitude.layers, manifest.altitude.active) == (
        "lm",
        ("gold", "proxy"),
        "proxy",
    )
    assert manifest.details["layers"] == {"gold": "truth", "proxy": "proxy_reward"}
    assert manifest.details["states_computed"] == 0  # the folder of the model does not even exist
    assert manifest.altitude.r2["proxy"] > 0.75  # type: ignore[operator]
    first, last = manifest.frames
    assert first.scalars["shown"] is None and "no drift yet" in first.honesty
    assert 0.6 < last.scalars["shown"] < 1.1  # type: ignore[operator]
    assert last.scalars["outside_99_low"] <= last.scalars["allowed_99"]  # type: ignore[operator]
    assert last.honesty.startswith(
        'LM run "run/policy", step 1 | map: ref-hidden PCA, reward axis x, fitted on '
    )
    assert " | altitude = proxy_reward - reference mean, R2 0." in last.honesty
    assert " | KL 1.1 nats/seq (k1) | shows " in last.honesty
    assert last.honesty.endswith(" % of the drift | 480 samples, 40 prompts")
    assert result.honesty == last.honesty and not result.warnings


def test_frames_hold_points_paths_and_terrain(known: Path) -> None:
    record = Record(build(known, resolution=33, samples_per_frame=100).folder)
    frame = record.frame(-1)
    assert len(frame.points) == 100 and len(frame.paths) == 64
    ends = {tuple(path[-1, :2]) for path in frame.paths}
    assert ends <= {tuple(point[:2]) for point in frame.points}
    assert all(np.isnan(path[:-1, 2]).all() and np.isfinite(path[-1, 2]) for path in frame.paths)
    assert len(frame.beams) == 64 * 4 and np.isfinite(frame.beams).all()
    assert {round(level, 4) for level, _ in frame.contours} == {0.5, 0.9, 0.99}
    points = frame.points
    assert points[:, 3] == pytest.approx(-points[:, 2], abs=1e-5)  # gold is minus proxy here
    inside = record.terrain.layers["proxy"]
    middle = inside.mean[16, [8, 16, 24]]
    assert inside.shown[16, 8:25].all() and middle[0] < middle[1] < middle[2]
    assert record.terrain.layers["gold"].mean[16, 24] < record.terrain.layers["gold"].mean[16, 8]
    assert not inside.shown[0, 0]


def test_a_map_is_kept_until_something_changes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", made(shift=1.0), kl=0.5)
    first = build(run, resolution=17)
    axes = (first.folder / "axes.bin").read_bytes()
    assert build(run, resolution=17).seconds == {}
    assert build(run, resolution=17, force=True).seconds
    assert (first.folder / "axes.bin").read_bytes() == axes
    assert build(run, resolution=17, axes="pca").manifest.axes.method == "pca"
    meta, found = blocks.decode((first.folder / "axes.bin").read_bytes())
    assert meta["method"] == "pca" and found["axes"].shape == (2, 24) and found["basis"].shape == (24, 24)


def test_a_growing_run_keeps_its_axes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", made(shift=1.0), kl=0.5)
    samples = run / "stages" / "01-policy" / "samples"
    late = samples / "evaluation-000001.parquet"
    late.rename(tmp_path / "later")
    first = build(run, resolution=17)
    assert len(first.manifest.frames) == 1
    before = (first.folder / "axes.bin").read_bytes()
    (tmp_path / "later").rename(late)
    grown = build(run, resolution=17)
    assert len(grown.manifest.frames) == 2
    assert (grown.folder / "axes.bin").read_bytes() == before
    refitted = build(run, resolution=17, force=True)
    assert (refitted.folder / "axes.bin").read_bytes() != before


def test_poor_maps_say_so(tmp_path: Path) -> None:
    blind = build(write_run(tmp_path / "a", made(shift=1.5), kl=40.0), axes="pca", resolution=17)
    text = " ".join(blind.warnings)
    assert "explain almost nothing" in text and "most of what changed is not on this map" in text
    few = build(write_run(tmp_path / "b", made(prompts=10, each=5, shift=1.5), kl=1.0), resolution=17)
    assert any("50 samples draw its cloud" in warning for warning in few.warnings)


def test_layers_and_raw_altitude(known: Path) -> None:
    gold = build(known, layer="gold", resolution=17)
    assert gold.manifest.altitude.active == "gold"
    assert "truth - reference mean" in gold.honesty
    named = build(known, layer="truth", resolution=17)
    assert named.manifest.altitude.layers == ("gold", "proxy", "truth")
    raw = build(known, raw=True, resolution=17)
    assert "altitude = proxy_reward, R2" in raw.honesty


def test_wrong_questions_get_sentences(known: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ({"stage": "polcy"}, "did you mean 'policy'"),
        ({"layer": "gld"}, "did you mean 'gold'"),
        ({"axes": "umap"}, "unknown axes"),
        ({"resolution": 3}, "between 9 and 513"),
        ({"samples_per_frame": 2}, "at least 16"),
    ):
        with pytest.raises(UsageError, match=words):
            build(known, **arguments)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not a run folder"):
        build(tmp_path)
    broken = write_run(tmp_path / "broken", made(prompts=4), kl=0.1)
    (broken / "stages/01-policy/samples/evaluation-000001.parquet").write_bytes(b"half a file")
    with pytest.raises(DataError, match=r"evaluation-000001\.parquet"):
        build(broken)
    (broken / ".recipe.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="recipe"):
        build(broken)


def test_tiny_run_without_saved_states(tmp_path: Path) -> None:
    """A run as the pipeline writes it: the frozen reference reads the samples again, once."""
    recipe = load_recipe(write_tiny_recipe(tmp_path, whole=True))
    run = tmp_path / "run"
    run_recipe(recipe, run, resume=False)
    stage = run / "stages" / "04-policy"
    for saved in ("features", "traces"):
        for path in (stage / saved).glob("*"):
            path.unlink()
    told: list[tuple[int, int]] = []
    result = build(run, "policy", resolution=17, progress=lambda _, done, total: told.append((done, total)))
    frames = result.manifest.frames
    assert [frame.step for frame in frames] == [0, 1, 2]
    assert told[-1][0] == told[-1][1] == result.manifest.details["states_computed"] > 0
    assert result.manifest.altitude.layers == ("gold", "proxy")
    assert frames[0].scalars["kl"] == pytest.approx(0, abs=1e-6)
    lines = [json.loads(line) for line in (stage / "evaluations.jsonl").read_text().splitlines()]
    assert frames[-1].scalars["kl"] == pytest.approx(lines[-1]["kl_k1"]["value"])
    points = Record(result.folder).frame(-1).points
    assert points[:, 5].mean() == pytest.approx(lines[-1]["kl_k1"]["value"], abs=0.02)
    again = build(run, "policy", resolution=17, force=True)
    assert again.manifest.details["states_computed"] == 0
    assert [frame.honesty for frame in again.manifest.frames] == [frame.honesty for frame in frames]
