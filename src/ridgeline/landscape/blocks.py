"""The binary container of landscape files and messages: a JSON header and blocks of little-endian numbers.

    bytes 0-3    magic "RDG1"
    bytes 4-7    uint32, little-endian: length H of the header
    H bytes      JSON {"meta": {...}, "blocks": [{"name", "dtype", "shape", "offset"}, ...]}, space-padded
    then         the blocks in C order; offsets count from the end of the header

8 + H and every offset are multiples of 8, so that a browser can lay typed arrays over the buffer without
copying. NaN in a block means "no value"; the header is strict JSON, where NaN does not exist.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from ridgeline.schema.errors import DataError

MAGIC = b"RDG1"
DTYPES = ("float32", "float16", "int32", "uint16", "uint8")
_ALIGNMENT = 8
_MAX_DIMENSIONS = 32


def encode(meta: Mapping[str, Any], blocks: Mapping[str, np.ndarray]) -> bytes:
    """The container that holds `meta` and `blocks`, in the order of the mapping.

    float64 blocks are stored as float32 (finite values beyond its range become inf), int64 as int32, bool as
    uint8. Raises ValueError for other dtypes, for integers that int32 cannot hold, and for nan, inf or
    anything else in `meta` that is not JSON.
    """
    entries, parts, offset = [], [], 0
    for name, block in blocks.items():
        array = _stored(name, np.asarray(block))
        data = array.tobytes(order="C")
        entries.append(
            {"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "offset": offset}
        )
        parts.append(data + bytes(-len(data) % _ALIGNMENT))
        offset += len(parts[-1])
    try:
        text = json.dumps(
            {"meta": dict(meta), "blocks": entries},
            allow_nan=False,
            ensure_ascii=False,
            separators=(",", ":"),
        )
        header = text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"meta must be plain JSON (no nan, no arrays, no lone surrogates): {error}"
        ) from error
    header += b" " * (-(len(MAGIC) + 4 + len(header)) % _ALIGNMENT)
    return b"".join([MAGIC, struct.pack("<I", len(header)), header, *parts])


def decode(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(meta, blocks) of a container; the arrays are read-only views of `data`.

    Raises DataError, in one sentence, for anything that `encode` could not have written in this form.
    """
    header, start = _header(data)
    try:
        meta, entries = header["meta"], header["blocks"]
        if not isinstance(meta, dict) or not isinstance(entries, list):
            raise TypeError
    except (KeyError, TypeError):
        raise DataError(
            'the header of the block container needs the keys "meta" (an object) and "blocks" (a list); '
            "write the file anew"
        ) from None
    body = memoryview(data)[start:]
    blocks: dict[str, np.ndarray] = {}
    for position, entry in enumerate(entries):
        name, array = _block(position, entry, body)
        if name in blocks:
            raise DataError(f"block '{name}' occurs twice in the container; write the file anew")
        blocks[name] = array
    return meta, blocks


def _stored(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype == np.float64:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8)
    elif array.dtype == np.int64:
        limits = np.iinfo(np.int32)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise ValueError(f"block '{name}' holds integers beyond int32")
        array = array.astype(np.int32)
    if array.dtype.name not in DTYPES:
        raise ValueError(f"block '{name}' has dtype {array.dtype}; use one of {', '.join(DTYPES)}")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _header(data: bytes) -> tuple[Any, int]:
    """The parsed header, and where the blocks start."""
    if data[:4] != MAGIC:
        raise DataError(f"not a block container: it starts with {bytes(data[:4])!r}, not with {MAGIC!r}")
    if len(data) < 8:
        raise DataError(f"the block container ends after {len(data)} bytes, inside its header")
    start = 8 + struct.unpack_from("<I", data, 4)[0]
    if start > len(data):
        raise DataError(
            f"the block container is cut short: {len(data)} bytes, of which the header alone needs {start}"
        )
    if start % _ALIGNMENT:
        raise DataError(f"the header of the block container ends at byte {start}, not at a multiple of 8")
    try:
        return json.loads(bytes(data[8:start]).decode("utf-8"), parse_constant=_no_constant), start
    except (ValueError, RecursionError) as error:
        raise DataError(f"the header of the block container is not valid JSON: {error}") from None


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _block(position: int, entry: Any, body: memoryview) -> tuple[str, np.ndarray]:
    where = f"block {position} of the container"
    if not (isinstance(entry, dict) and isinstance(entry.get("name"), str)):
        raise DataError(f"{where} has no name; write the file anew")
    name: str = entry["name"]
    dtype, shape, offset = (entry.get(key) for key in ("dtype", "shape", "offset"))
    where = f"block '{name}' of the container"
    if dtype not in DTYPES:
        raise DataError(f"{where} has dtype {dtype!r}; known: {', '.join(DTYPES)}")
    if not (isinstance(shape, list) and len(shape) <= _MAX_DIMENSIONS and all(map(_is_count, shape))):
        raise DataError(f"{where} has shape {shape!r}, which is not a list of sizes")
    if not (isinstance(offset, int) and _is_count(offset) and offset % _ALIGNMENT == 0):
        raise DataError(f"{where} has offset {offset!r}, which is not a multiple of 8")
    kind = np.dtype(dtype).newbyteorder("<")
    count = math.prod(shape)
    if offset + count * kind.itemsize > len(body):
        raise DataError(
            f"{where} needs {offset + count * kind.itemsize} bytes of data, and {len(body)} are there: "
            "the file is cut short"
        )
    array = np.frombuffer(body, kind, count, offset) if count else np.empty(0, kind)
    try:
        return name, array.reshape(shape)
    except ValueError:  # an empty shape such as [0, 2**70]
        raise DataError(f"{where} has shape {shape!r}, which is too large") from None


def _is_count(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0
