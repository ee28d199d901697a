"""An entry is whole and the one that was asked for, or it is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ridgeline.models.content_cache import ContentCache, key_of

ARRAYS = {"ids": np.arange(7, dtype=np.int32), "spans": np.ones((2, 2), dtype=np.float32)}


def same(found, expected=ARRAYS):
    return found is not None and all(
        found[name].dtype == expected[name].dtype and np.array_equal(found[name], expected[name])
        for name in expected
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "new", 10**6)
    assert cache.read("k") is None
    cache.write("k", ARRAYS)
    assert same(cache.read("k")) and cache.read("other") is None
    assert [path.name for path in cache.folder.iterdir()] == ["k.safetensors"]


def test_keys_tell_parts_and_their_order() -> None:
    keys = [key_of(parts) for parts in (["ab", "c"], ["a", "bc"], ["c", "ab"], ["abc"], [b"ab", "d"], [])]
    assert len(set(keys)) == len(keys) and key_of(["ab", 1]) == key_of([b"ab", "1"])


@pytest.mark.parametrize("damage", ["empty", "half", "one bit", "rubbish", "other arrays"])
def test_a_damaged_entry_is_missing(damage: str, tmp_path: Path) -> None:
    cache = ContentCache(tmp_path, 10**6)
    cache.write("k", ARRAYS)
    path = tmp_path / "k.safetensors"
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    content = {"empty": b"", "half": whole[: len(whole) // 2], "one bit": flipped, "rubbish": b"x" * 99}
    if damage == "other arrays":
        from safetensors.numpy import save_file

        save_file(ARRAYS, path)  # no checksum: not written by this cache
    else:
        path.write_bytes(content[damage])
    assert cache.read("k") is None
    cache.write("k", ARRAYS)
    assert same(cache.read("k")) and path.read_bytes() == whole


def test_entries_used_longest_ago_go_first_and_so_do_remains(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path, 10**6)
    for age, key in enumerate(("c", "b", "a")):
        cache.write(key, ARRAYS)
        os.utime(tmp_path / f"{key}.safetensors", (0, 1000 - age))
    remains = tmp_path / ".d-abc"
    remains.write_text("of a writer that was killed")
    os.utime(remains, (0, 0))
    fresh = tmp_path / ".e-abc"
    fresh.write_text("of one that is writing")
    assert cache.read("a") is not None, "so it was used last"
    size = (tmp_path / "a.safetensors").stat().st_size
    ContentCache(tmp_path, 3 * size).write("d", ARRAYS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".e-abc",
        "a.safetensors",
        "c.safetensors",
        "d.safetensors",
    ]


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    cache = ContentCache(file, 10**6)
    cache.write("k", ARRAYS)
    assert cache.read("k") is None


def test_off_neither_reads_nor_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ContentCache(tmp_path, 10**6)
    cache.write("k", ARRAYS)
    monkeypatch.setenv("RIDGELINE_CONTENT_CACHE", "off")
    cache.write("l", ARRAYS)
    assert cache.read("k") is None
    monkeypatch.delenv("RIDGELINE_CONTENT_CACHE")
    assert cache.read("k") is not None and cache.read("l") is None


WRITER = """
import sys, numpy as np
from pathlib import Path
from ridgeline.models.content_cache import ContentCache
cache = ContentCache(Path(sys.argv[1]), 10**9)
for turn in range(40):
    for key in ("a", "b"):
        arrays = {"x": np.full(20_000, ord(key), dtype=np.int32)}
        found = cache.read(key)
        assert found is None or (found["x"] == arrays["x"]).all()
        assert turn == 0 or found is not None, "a rename never leaves a gap"
        cache.write(key, arrays)
"""


def test_two_processes_at_once_leave_whole_entries(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]
    found = ContentCache(tmp_path, 10**9).read("a")
    assert found is not None and (found["x"] == ord("a")).all()
