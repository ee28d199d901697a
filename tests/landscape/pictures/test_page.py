"""The self-contained page: the record inside a stand-in for the studio's viewer."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from tests.landscape.pictures import samples

from ridgeline.landscape.blocks import decode
from ridgeline.landscape.pictures import page as page_
from ridgeline.landscape.pictures import picture
from ridgeline.landscape.record import Record
from ridgeline.schema.errors import UsageError

VIEWER = f"<!doctype html><title>v</title>{page_.SLOT}{{}}</script><script>start()</script>"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return samples.exact(tmp_path_factory.mktemp("record"), n=17, paths=3)


def content_of(page: str) -> dict[str, object]:
    start = page.index(page_.SLOT) + len(page_.SLOT)
    content: dict[str, object] = json.loads(page[start : page.index("</script>", start)])
    return content


def test_the_page_holds_the_files_byte_by_byte(record: Record) -> None:
    page = page_.with_record(VIEWER, record, frame=1, theme="dark")
    content = content_of(page)
    assert content["manifest"]["title"] == "Ravine"  # type: ignore[index]
    assert content["show"] == {"frame": 1, "theme": "dark"}
    terrain = base64.b64decode(str(content["terrain"]))
    assert terrain == (record.folder / "terrain.bin").read_bytes()
    frames = content["frames"]
    assert isinstance(frames, list) and len(frames) == 3
    meta, blocks = decode(base64.b64decode(frames[2]))
    assert meta["step"] == 40 and len(blocks["path_offsets"]) == 4
    assert page.endswith("</script><script>start()</script>")


def test_a_hostile_title_cannot_end_the_element(record: Record) -> None:
    title = "</script><script>alert(1)</script><!--"
    record = Record(record.folder)
    record.manifest = record.manifest.model_copy(update={"title": title})
    page = page_.with_record(VIEWER, record)
    assert page.count("<script") == 2 and "<!--" not in page
    assert content_of(page)["manifest"]["title"] == title  # type: ignore[index]


def test_without_a_viewer_the_command_that_builds_it_is_named(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_, "files", lambda package: tmp_path)
    with pytest.raises(UsageError, match="make web"):
        picture(record, tmp_path / "hill.html")
    (tmp_path / "studio/static").mkdir(parents=True)
    (tmp_path / "studio/static/viewer.html").write_text(VIEWER)
    picture(record, tmp_path / "hill.html", frame=-2)
    assert content_of((tmp_path / "hill.html").read_text())["show"] == {"frame": 1, "theme": "light"}


def test_a_page_without_a_slot_is_a_bug(record: Record) -> None:
    with pytest.raises(ValueError, match="no element"):
        page_.with_record("<html></html>", record)
