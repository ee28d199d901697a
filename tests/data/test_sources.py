from __future__ import annotations

import json

import pytest

from ridgeline.data.sources import fingerprint, iter_rows, read_rows
from ridgeline.schema.errors import DataError, UsageError

ROWS = [{"prompt": "a", "completion": "x\u2028y"}, {"prompt": "b", "completion": "z"}]


def jsonl(path, rows=ROWS):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_kind_of_source_gives_the_same_rows(tmp_path):
    import datasets
    import pyarrow
    from pyarrow import parquet

    jsonl(tmp_path / "a.jsonl")
    (tmp_path / "lines.json").write_text((tmp_path / "a.jsonl").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "list.json").write_text(json.dumps(ROWS))
    (tmp_path / "a.csv").write_text("\ufeffprompt,completion\na,x\u2028y\nb,z\n", encoding="utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": saved}).save_to_disk(tmp_path / "dict")
    for name in ("a.jsonl", "lines.json", "list.json", "a.csv", "a.parquet", "saved", "dict"):
        assert read_rows(tmp_path / name) == ROWS, name
        assert read_rows(str(tmp_path / name)) == ROWS, name
    assert read_rows(ROWS) == ROWS


def test_folder_reads_its_files_in_the_order_of_their_names(tmp_path):
    jsonl(tmp_path / "2.jsonl", ROWS[:1])
    jsonl(tmp_path / "1.jsonl", ROWS[1:])
    (tmp_path / "README.md").write_text("not data")
    assert read_rows(tmp_path) == [ROWS[1], ROWS[0]]


def test_rows_are_copies():
    rows = [{"prompt": "a"}]
    read_rows(rows)[0]["prompt"] = "b"
    assert rows == [{"prompt": "a"}]


def test_long_csv_text_is_no_error(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("prompt\n" + "x" * 200_000 + "\n")
    assert len(read_rows(file)[0]["prompt"]) == 200_000


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.jsonl", b'{"a": 1}\n\n{"a": \n', r"a\.jsonl, line 3: not valid JSON"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', r"a\.jsonl, line 2: expected an object .* got a list"),
        ("a.jsonl", b'{"a": 1}\n"\xff"\n', r"a\.jsonl, line 2: not UTF-8"),
        ("a.jsonl", b"\n \n", r"a\.jsonl holds no rows"),
        ("a.jsonl", b"", r"holds no rows"),
        ("a.jsonl", b"[" * 100_000, r"line 1: not valid JSON"),
        ("a.json", b'[{"a": 1},\n 2,]', r"a\.json, line 2: not valid JSON"),
        ("a.json", b'[{"a": 1}, 2]', r"a\.json, row 2: expected an object .* got a number"),
        ("a.json", b"[]", r"holds no rows"),
        ("a.csv", b"a,b\n1,2\n3\n", r"a\.csv, line 3: the header names 2 columns"),
        ("a.csv", b"a,b\n1,2,3\n", r"a\.csv, line 2: the header names 2 columns"),
        ("a.csv", b'a,b\n1,"2\n', r"a\.csv, line \d: not valid CSV"),
        ("a.csv", b"a,b\n", r"holds no rows"),
        ("a.parquet", b"not parquet", r"a\.parquet is not a readable Parquet file"),
    ],
)
def test_bad_content_is_a_data_error(tmp_path, name, content, match):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=match):
        read_rows(tmp_path / name)


def test_rows_of_a_list_have_to_be_objects():
    with pytest.raises(DataError, match=r"the list of rows, row 2: expected an object .* got text"):
        read_rows([{"a": 1}, "text"])
    with pytest.raises(DataError, match="the list of rows holds no rows"):
        read_rows([])


def test_bad_paths_are_usage_errors(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    closed = jsonl(tmp_path / "closed.jsonl")
    closed.unlink()
    closed.symlink_to(closed)
    for source, match in (
        (tmp_path / "missing.jsonl", "cannot read .*missing.jsonl: No such file"),
        ("data/missing.jsonl", "cannot read data/missing.jsonl"),
        ("./nothing", "cannot tell the format|cannot read"),
        (tmp_path / "a.xlsx", "cannot tell the format"),
        (tmp_path / "empty", "holds no data file"),
        (closed, "cannot read .*closed.jsonl"),
    ):
        with pytest.raises(UsageError, match=match) as caught:
            read_rows(source)
        assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


def test_hub_id_without_network_is_one_sentence():
    with pytest.raises(
        UsageError, match="no file or folder 'nobody/no-such-data:test', and the hub"
    ) as caught:
        read_rows("nobody/no-such-data:test")
    assert "\n" not in str(caught.value)


def test_hub_id_reads_the_split_that_was_named(monkeypatch):
    import datasets

    asked = []

    def load_dataset(name, *, split):
        asked.append((name, split))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert read_rows("someone/data") == ROWS
    assert read_rows("someone/data:test") == ROWS
    assert asked == [("someone/data", "train"), ("someone/data", "test")]


def test_saved_dict_without_train_names_its_splits(tmp_path):
    import datasets

    datasets.DatasetDict({"test": datasets.Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "dict")
    with pytest.raises(UsageError, match=r"no 'train' split.*test"):
        read_rows(tmp_path / "dict")


def test_fingerprint_follows_content_not_path(tmp_path):
    first = jsonl(tmp_path / "a.jsonl")
    second = jsonl(tmp_path / "b.jsonl")
    assert fingerprint(first) == fingerprint(second)
    before = fingerprint(tmp_path)
    jsonl(second, ROWS[:1])
    assert fingerprint(first) != fingerprint(second)
    assert fingerprint(tmp_path) != before
    assert fingerprint(ROWS) == fingerprint([dict(row) for row in ROWS]) != fingerprint(ROWS[::-1])
    with pytest.raises(UsageError, match="cannot read"):
        fingerprint(tmp_path / "missing.jsonl")


def test_lines_are_read_one_by_one(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": "x\xe2\x80\xa8y"}\r\n\n{"a": 2}\n{"a": \n')
    rows = iter_rows(file)
    assert next(rows) == {"a": "x\u2028y"} and next(rows) == {"a": 2}
    with pytest.raises(DataError, match=r"a\.jsonl, line 4: not valid JSON"):
        next(rows)
    (tmp_path / "b.json").write_bytes(b'\xef\xbb\xbf \n{"a": 1}')
    assert read_rows(tmp_path / "b.json") == [{"a": 1}]
    with pytest.raises(DataError, match="holds no rows"):
        next(iter_rows([]))


def test_a_file_is_never_held_whole(tmp_path):
    """A generator of rows, read to its end, peaks at a small part of the file."""
    import tracemalloc

    file = jsonl(tmp_path / "a.jsonl", [{"prompt": "x" * 1000}] * 4000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in iter_rows(file)) == 4000
        assert tracemalloc.get_traced_memory()[1] < file.stat().st_size / 10
    finally:
        tracemalloc.stop()
