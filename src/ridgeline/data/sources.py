"""Rows as plain dicts, from wherever the user keeps them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ridgeline.schema.errors import DataError, UsageError

DataRow = dict[str, Any]
Source = str | Path | Sequence[Mapping[str, Any]]

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(:[\w.-]+)?$")


def read_rows(source: Source) -> list[DataRow]:
    """All rows of ``source``, in order.

    ``source`` is a list of dicts, a file (.jsonl, .json, .csv, .parquet), a folder of such files or one that
    ``datasets`` saved, or a hub id (``name`` for its train split, ``name:split``).

    Raises:
        UsageError: nothing readable is at that path, or the hub cannot provide that name.
        DataError: malformed or non-UTF-8 content, a row that is no object, no rows at all.
    """
    if not isinstance(source, str | Path):
        rows = [_as_object(row, "the list of rows", number) for number, row in enumerate(source, start=1)]
    else:
        path = Path(source).expanduser()
        if path.is_dir():
            rows = _read_folder(path)
        elif path.exists() or _looks_like_path(str(source)):
            rows = _read_file(path)
        else:
            rows = _read_hub(str(source))
    if not rows:
        raise DataError(f"{describe(source)} holds no rows; at least one is needed.")
    return rows


def describe(source: Source) -> str:
    """How messages call this source."""
    return str(source) if isinstance(source, str | Path) else "the list of rows"


def fingerprint(source: Source) -> str:
    """SHA-256 of the content, so that a resumed run can tell changed data; the path does not enter.

    Raises:
        UsageError, DataError: as ``read_rows`` does for the same source.
    """
    digest = hashlib.sha256()
    path = Path(source).expanduser() if isinstance(source, str | Path) else None
    if path is not None and path.is_file():
        digest.update(_read_bytes(path))
    elif path is not None and path.is_dir():
        for file in sorted(item for item in path.rglob("*") if item.is_file()):
            digest.update(str(file.relative_to(path)).encode())
            digest.update(hashlib.sha256(_read_bytes(file)).digest())
    else:
        for row in read_rows(source):
            digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _looks_like_path(text: str) -> bool:
    return Path(text).suffix.lower() in READERS or HUB_ID.match(text) is None


def _read_file(path: Path) -> list[DataRow]:
    content = _read_bytes(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"cannot tell the format of {path}; use a file that ends in {', '.join(READERS)}.")
    return reader(content, path)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; check the path.") from None


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8 text; convert the file to UTF-8.") from None


def _read_jsonl(content: bytes, path: Path) -> list[DataRow]:
    rows = []
    # Not splitlines: JSON strings may hold U+2028 and its like unescaped.
    for number, line in enumerate(_text(content, path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            raise DataError(f"{path}, line {number}: not valid JSON ({reason}).") from None
        rows.append(_as_object(value, str(path), number, unit="line"))
    return rows


def _read_json(content: bytes, path: Path) -> list[DataRow]:
    text = _text(content, path)
    if not text.lstrip().startswith("["):
        return _read_jsonl(content, path)
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "line 1"
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise DataError(f"{path}, {where}: not valid JSON ({reason}).") from None
    return [_as_object(value, str(path), number) for number, value in enumerate(values, start=1)]


def _read_csv(content: bytes, path: Path) -> list[DataRow]:
    reader = csv.DictReader(io.StringIO(_text(content, path), newline=""), strict=True)
    rows = []
    limit = csv.field_size_limit(max(len(content), 1))  # the default refuses a long text
    try:
        for row in reader:
            # DictReader files surplus cells under None and fills missing ones with None.
            if None in row or None in row.values():
                expected = len(reader.fieldnames or [])
                raise DataError(
                    f"{path}, line {reader.line_num}: the header names {expected} columns, this row differs."
                )
            rows.append(dict(row))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not valid CSV ({error}).") from None
    finally:
        csv.field_size_limit(limit)
    return rows


def _read_parquet(content: bytes, path: Path) -> list[DataRow]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(pyarrow.BufferReader(content))
        return [dict(row) for row in table.to_pylist()]
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({_first_line(error)}).") from None


READERS = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _read_folder(folder: Path) -> list[DataRow]:
    if (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
        return _read_saved(folder)
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.suffix.lower() in READERS)
    if not files:
        raise UsageError(
            f"the folder {folder} holds no data file; it needs one that ends in {', '.join(READERS)}."
        )
    return [row for file in files for row in _read_file(file)]


def _read_saved(folder: Path) -> list[DataRow]:
    """A folder that ``datasets`` wrote with ``save_to_disk``."""
    from datasets import Dataset, load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} is not a readable saved dataset ({_first_line(error)}).") from None
    if isinstance(loaded, Dataset):
        return [dict(row) for row in loaded]
    if "train" not in loaded:
        raise UsageError(
            f"{folder} has no 'train' split; name the folder of one: {', '.join(sorted(loaded))}."
        )
    return [dict(row) for row in loaded["train"]]


def _read_hub(name: str) -> list[DataRow]:
    from datasets import load_dataset

    repository, _, split = name.partition(":")
    try:
        loaded = load_dataset(repository, split=split or "train")
        return [dict(row) for row in loaded]
    # The hub client, its HTTP library and the loaders raise dozens of unrelated kinds.
    except Exception as error:
        raise UsageError(
            f"there is no file or folder '{name}', and the hub could not provide it ({_first_line(error)}); "
            "check the name and the network."
        ) from error


def _as_object(value: Any, source: str, number: int, *, unit: str = "row") -> DataRow:
    if not isinstance(value, Mapping):
        raise DataError(
            f"{source}, {unit} {number}: expected an object with named columns, got {_kind(value)}."
        )
    return dict(value)


def _kind(value: Any) -> str:
    kinds = {
        str: "text",
        list: "a list",
        bool: "a truth value",
        type(None): "null",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value), type(value).__name__)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
