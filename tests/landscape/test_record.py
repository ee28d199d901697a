"""A recorded landscape: what is written can be read at any moment, and damage is told by file and fault."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ridgeline.landscape import record as record_
from ridgeline.landscape.blocks import decode, encode
from ridgeline.landscape.record import Altitude, Axes, Axis, Kl, Manifest, Record, RecordWriter
from ridgeline.schema.errors import DataError, UsageError

GRID = np.arange(25, dtype=float).reshape(5, 5)
PATHS = {"path_offsets": [0, 2, 5], "path_points": np.arange(30.0).reshape(5, 6)}


def manifest(**changes: object) -> Manifest:
    values: dict[str, object] = {
        "kind": "exact",
        "title": "a hill",
        "axes": Axes(method="state", x=Axis(name="x", range=(-3, 3)), y=Axis(name="y", range=(-2, 2))),
        "altitude": Altitude(layers=("gold",), active="gold", range=(0, 24)),
        "kl": Kl(estimator="exact", unit="nats per path"),
    }
    return Manifest.model_validate(values | changes)


@pytest.fixture
def writer(tmp_path: Path) -> RecordWriter:
    made = RecordWriter(tmp_path / "landscape")
    made.manifest(manifest())
    made.terrain({"gold": (GRID, None, None)}, ((-3, 3), (-2, 2)))
    return made


def test_what_is_written_is_read(writer: RecordWriter) -> None:
    writer.frame(0, {"kl": 0.0}, "line 0", **PATHS)
    writer.frame(5, {"kl": float("nan"), "return_gold": 2.5}, "line 5", corridor_mean=None)
    record = Record(writer.folder)
    assert [frame.step for frame in record.frames] == [0, 5]
    assert record.manifest.scalars == ("kl", "return_gold")
    np.testing.assert_array_equal(record.terrain.layers["gold"].mean, GRID)
    assert record.terrain.axis_y[0] == -2 and record.terrain.axis_x[-1] == 3
    first, last = record.frame(0), record.frame(-1)
    assert [len(path) for path in first.paths] == [2, 3]
    np.testing.assert_array_equal(first.paths[1][0], np.arange(12.0, 18.0))
    assert last.scalars == {"kl": None, "return_gold": 2.5} and last.index == 1
    assert last.paths == [] and last.corridor_mean is None
    assert record.index_of(5) == 1


def test_every_state_while_writing_is_readable(tmp_path: Path) -> None:
    """After each call the folder holds a record that shows what has been written so far, and no litter."""
    writer = RecordWriter(tmp_path / "l")
    writer.manifest(manifest())
    assert Record(writer.folder).frames == ()
    with pytest.raises(DataError, match=r"terrain\.bin is missing"):
        _ = Record(writer.folder).terrain
    writer.terrain({"gold": (GRID, None, None)}, ((-3, 3), (-2, 2)))
    for step in range(3):
        writer.frame(step, {}, "")
        assert [entry.step for entry in Record(writer.folder).frames] == list(range(step + 1))
    names = sorted(path.name for path in writer.folder.rglob("*") if path.is_file())
    assert names == ["000000.bin", "000001.bin", "000002.bin", "manifest.json", "terrain.bin"]


def test_a_new_manifest_forgets_old_frames_and_a_listed_one_continues(writer: RecordWriter) -> None:
    for step in range(3):
        writer.frame(step, {}, "")
    kept = Record(writer.folder).manifest.model_copy(update={"frames": Record(writer.folder).frames[:2]})
    again = RecordWriter(writer.folder)
    again.manifest(kept)
    assert not (writer.folder / "frames/000002.bin").exists()
    again.frame(9, {}, "")
    assert [frame.step for frame in Record(writer.folder).frames] == [0, 1, 9]


def test_unknown_heights_are_masked(writer: RecordWriter) -> None:
    hole = np.where(GRID == 12, np.nan, GRID)
    writer.terrain({"gold": (hole, None, None)}, ((-3, 3), (-2, 2)))
    layer = Record(writer.folder).terrain.layers["gold"]
    assert layer.shown.sum() == 24 and np.isnan(layer.height[2, 2])


@pytest.mark.parametrize(
    ("blocks", "fault"),
    [
        ({"pints": np.zeros((2, 8))}, "no block 'pints'"),
        ({"points": np.zeros((2, 7))}, "shape"),
        ({"path_points": np.zeros((2, 6))}, "needs 'path_offsets'"),
        ({"path_points": np.zeros((2, 6)), "path_offsets": [0, 3]}, "does not divide"),
        ({"path_points": np.zeros((2, 6)), "path_offsets": [0, 2, 1, 2]}, "does not divide"),
        ({"corridor_mean": np.zeros((3, 2)), "corridor_cov": np.zeros((2, 2, 2))}, "one length"),
    ],
)
def test_the_writer_refuses_blocks_that_do_not_fit(
    writer: RecordWriter, blocks: dict[str, object], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        writer.frame(0, {}, "", **blocks)
    assert Record(writer.folder).frames == ()


def test_the_reader_names_the_damaged_file(writer: RecordWriter) -> None:
    writer.frame(0, {}, "", **PATHS)
    record, file = Record(writer.folder), writer.folder / "frames/000000.bin"
    whole = file.read_bytes()
    for damaged in (b"", whole[:40], whole[:-8], b"RDG2" + whole[4:]):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match=r"000000\.bin is damaged"):
            record.frame(0)
    meta, blocks = decode(whole)
    file.write_bytes(encode(meta, {**blocks, "path_offsets": np.array([0, 2, 9], "int32")}))
    with pytest.raises(DataError, match="does not divide"):
        record.frame(0)
    (writer.folder / "terrain.bin").write_bytes(encode({"n": 5, "x": [0, 1], "y": [0, 1]}, {}))
    with pytest.raises(DataError, match=r"terrain.bin is damaged: 'gold.mean' is missing"):
        _ = Record(writer.folder).terrain


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"version": 2}, "version"),
        ({"altitude": {"layers": ["gold"], "active": "golf", "range": [0, 1]}}, "active"),
        ({"frames": [{"step": 0}]}, r"frames\.0\.file"),
    ],
)
def test_a_wrong_manifest_is_named_with_its_field(
    writer: RecordWriter, change: dict[str, object], fault: str
) -> None:
    path = writer.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=rf"manifest.json is damaged: .*{fault}"):
        Record(writer.folder)


def test_a_frame_outside_the_folder_is_not_read(writer: RecordWriter) -> None:
    writer.frame(0, {}, "")
    path = writer.folder / "manifest.json"
    (writer.folder.parent / "secret.bin").write_bytes(encode({}, {}))
    path.write_text(path.read_text().replace("frames/000000.bin", "../secret.bin"))
    with pytest.raises(DataError, match="is missing"):
        Record(writer.folder).frame(0)


def test_missing_things_are_usage_errors(writer: RecordWriter, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no landscape"):
        Record(tmp_path)
    with pytest.raises(UsageError, match="no frames yet"):
        Record(writer.folder).frame()
    writer.frame(4, {}, "")
    with pytest.raises(UsageError, match="nearest is 4"):
        Record(writer.folder).index_of(7)
    with pytest.raises(UsageError, match="frames are 0 to 0"):
        Record(writer.folder).frame(3)


def test_everything_promised_is_exported() -> None:
    assert all(hasattr(record_, name) for name in record_.__all__)
