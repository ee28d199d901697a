"""Rows as plain dicts, from wherever the user keeps them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ridgeline.data.bulk import in_bulk
from ridgeline.schema.errors import DataError, UsageError

DataRow = dict[str, Any]
Source = str | Path | Sequence[Mapping[str, Any]]

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(:[\w.-]+)?$")


@in_bulk
def read_rows(source: Source) -> list[DataRow]:
    """All rows of ``source``, in order.

    ``source`` is a list of dicts, a file (.jsonl, .json, .csv, .parquet), a folder of such files or one that
    ``datasets`` saved, or a hub id (``name`` for its train split, ``name:split``).

    Raises:
        UsageError: nothing readable is at that path, or the hub cannot provide that name.
        DataError: malformed or non-UTF-8 content, a row that is no object, no rows at all.
    """
    return list(iter_rows(source))


def iter_rows(source: Source) -> Iterator[DataRow]:
    """``read_rows`` one by one, for what keeps less than the whole row: JSONL files are read line by line."""
    if not isinstance(source, str | Path):
        rows: Iterable[DataRow] = (
            _as_object(row, "the list of rows", number) for number, row in enumerate(source, start=1)
        )
    else:
        path = Path(source).expanduser()
        if path.is_dir():
            rows = _read_folder(path)
        elif path.exists() or _looks_like_path(str(source)):
            rows = _read_file(path)
        else:
            rows = _read_hub(str(source))
    found = False
    for row in rows:
        found = True
        yield row
    if not found:
        raise DataError(f"{describe(source)} holds no rows; at least one is needed.")


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
        _hash_file(path, digest)
    elif path is not None and path.is_dir():
        for file in sorted(item for item in path.rglob("*") if item.is_file()):
            digest.update(str(file.relative_to(path)).encode())
            own = hashlib.sha256()
            _hash_file(file, own)
            digest.update(own.digest())
    else:
        for row in read_rows(source):
            digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _looks_like_path(text: str) -> bool:
    return Path(text).suffix.lower() in READERS or HUB_ID.match(text) is None


def _read_file(path: Path) -> Iterable[DataRow]:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        _read_bytes(path)  # a file that cannot be read has the first word
        raise UsageError(f"cannot tell the format of {path}; use a file that ends in {', '.join(READERS)}.")
    return reader(path)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise _unreadable(path, error) from None


def _hash_file(path: Path, digest: hashlib._Hash) -> None:
    for line in _lines(path):
        digest.update(line)


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot read {path}: {error.strerror}; check the path.")


def _text(content: bytes, path: Path, line: int = 1) -> str:
    """``content``, which begins with line ``line`` of the file."""
    try:
        return content.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        number = line + content[: error.start].count(b"\n")
        raise DataError(f"{path}, line {number}: not UTF-8 text; convert the file to UTF-8.") from None


def _read_jsonl(path: Path) -> Iterator[DataRow]:
    # Lines of bytes end with a newline only: JSON strings may hold U+2028 and its like unescaped.
    for number, content in enumerate(_lines(path), start=1):
        line = _text(content, path, number)
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            raise DataError(f"{path}, line {number}: not valid JSON ({reason}).") from None
        yield _as_object(value, str(path), number, unit="line")


def _read_json(path: Path) -> Iterable[DataRow]:
    first = next((line for line in _lines(path) if line.removeprefix(BOM_UTF8).strip()), b"")
    if not first.removeprefix(BOM_UTF8).lstrip().startswith(b"["):
        return _read_jsonl(path)
    try:
        values = json.loads(_text(_read_bytes(path), path))
    except (json.JSONDecodeError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "line 1"
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise DataError(f"{path}, {where}: not valid JSON ({reason}).") from None
    return [_as_object(value, str(path), number) for number, value in enumerate(values, start=1)]


def _read_csv(path: Path) -> list[DataRow]:
    content = _read_bytes(path)
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


def _read_parquet(path: Path) -> Iterator[DataRow]:
    import pyarrow
    from pyarrow import parquet

    content = pyarrow.BufferReader(_read_bytes(path))
    try:
        for batch in parquet.ParquetFile(content).iter_batches():
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({_first_line(error)}).") from None


READERS = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _read_folder(folder: Path) -> Iterable[DataRow]:
    if (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
        return _read_saved(folder)
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.suffix.lower() in READERS)
    if not files:
        raise UsageError(
            f"the folder {folder} holds no data file; it needs one that ends in {', '.join(READERS)}."
        )
    return (row for file in files for row in _read_file(file))


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
