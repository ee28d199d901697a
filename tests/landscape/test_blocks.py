"""The block container: round trip, byte layout by hand, and damaged input."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ridgeline.landscape.blocks import DTYPES, decode, encode
from ridgeline.schema.errors import DataError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('aé\u2028"', max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


def test_layout_by_hand():
    data = encode({"id": 1}, {"a": np.array([1.5, -2.0], np.float32), "b": np.array([7], np.uint8)})
    assert data[:4] == b"RDG1"
    length = struct.unpack("<I", data[4:8])[0]
    assert (8 + length) % 8 == 0
    header = json.loads(data[8 : 8 + length])
    assert header["meta"] == {"id": 1}
    assert header["blocks"] == [
        {"name": "a", "dtype": "float32", "shape": [2], "offset": 0},
        {"name": "b", "dtype": "uint8", "shape": [1], "offset": 8},
    ]
    assert struct.unpack_from("<2f", data, 8 + length) == (1.5, -2.0)
    assert data[8 + length + 8] == 7


@given(
    st.dictionaries(st.text("xyz", min_size=1, max_size=3), JSON, max_size=3),
    st.dictionaries(st.text("abc.", min_size=1, max_size=4), ARRAYS, max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_round_trip(meta, blocks):
    got_meta, got = decode(encode(meta, blocks))
    assert got_meta == meta
    assert list(got) == list(blocks)
    for name, block in blocks.items():
        assert got[name].dtype == block.dtype and got[name].shape == block.shape
        assert got[name].tobytes() == np.ascontiguousarray(block).tobytes()


def test_strided_big_endian_and_wider_arrays_are_stored_as_what_they_mean():
    grid = np.arange(12, dtype=np.float64).reshape(3, 4)
    big = grid.astype(">f4")
    _, got = decode(encode({}, {"t": grid.T, "big": big, "int": np.array([-3, 4]), "mask": grid > 5}))
    assert np.array_equal(got["t"], grid.T) and got["t"].dtype == np.float32
    assert np.array_equal(got["big"], grid)
    assert got["int"].dtype == np.int32 and got["int"].tolist() == [-3, 4]
    assert got["mask"].dtype == np.uint8 and got["mask"].sum() == 6


def test_nan_means_no_value_in_blocks_but_is_refused_in_meta():
    _, got = decode(encode({}, {"value": np.array([np.nan, 1.0])}))
    assert np.isnan(got["value"][0]) and got["value"][1] == 1
    with pytest.raises(ValueError, match="plain JSON"):
        encode({"kl": float("nan")}, {})


@pytest.mark.parametrize(
    "block", [np.array([2**40]), np.array(["text"]), np.array([1j]), np.zeros(1, np.uint32)]
)
def test_what_the_container_cannot_hold_is_refused(block):
    with pytest.raises(ValueError, match="block 'odd'"):
        encode({}, {"odd": block})


SOUND = encode(
    {"id": 3, "type": "scene"}, {"gold.mean": np.arange(9.0).reshape(3, 3), "ids": np.array([1, 2])}
)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_damaged_containers_give_one_sentence_or_well_formed_blocks(data):
    broken = bytearray(SOUND)
    if data.draw(st.booleans()):
        broken = broken[: data.draw(st.integers(0, len(broken) - 1))]
    for _ in range(data.draw(st.integers(0, 4))):
        if broken:
            broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        _, blocks = decode(bytes(broken))
    except DataError as error:
        assert str(error)
    else:
        assert all(isinstance(block, np.ndarray) for block in blocks.values())


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_bytes(noise):
    with pytest.raises(DataError):
        decode(noise[:4].replace(b"RDG1", b"RDG2") + noise[4:])


@pytest.mark.parametrize("cut", range(0, len(SOUND), 7))
def test_every_cut_is_noticed(cut):
    with pytest.raises(DataError):
        decode(SOUND[:cut])


def _container(header: object) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 8)
    return b"RDG1" + struct.pack("<I", len(text)) + text + bytes(16)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"name": "a", "dtype": "float64", "shape": [1], "offset": 0}, "float64"),
        ({"name": "a", "dtype": ["float32"], "shape": [1], "offset": 0}, "dtype"),
        ({"name": "a", "dtype": "uint8", "shape": [-1], "offset": 0}, "list of sizes"),
        ({"name": "a", "dtype": "uint8", "shape": [True], "offset": 0}, "list of sizes"),
        ({"name": "a", "dtype": "uint8", "shape": [1], "offset": 3}, "multiple of 8"),
        ({"name": "a", "dtype": "uint8", "shape": [17], "offset": 0}, "cut short"),
        ({"name": "a", "dtype": "uint8", "shape": [1], "offset": 16}, "cut short"),
        ({"name": "a", "dtype": "uint8", "shape": [0, 2**70], "offset": 0}, "too large"),
        ({"dtype": "uint8", "shape": [1], "offset": 0}, "no name"),
        ("a", "no name"),
    ],
)
def test_entries_that_lie(entry, sentence):
    with pytest.raises(DataError, match=sentence):
        decode(_container({"meta": {}, "blocks": [entry]}))


@pytest.mark.parametrize("header", [[], {"meta": {}}, {"meta": [], "blocks": []}, {"meta": {}, "blocks": {}}])
def test_headers_without_their_keys(header):
    with pytest.raises(DataError, match="header"):
        decode(_container(header))


def test_a_name_that_occurs_twice():
    entry = {"name": "a", "dtype": "uint8", "shape": [1], "offset": 0}
    with pytest.raises(DataError, match="twice"):
        decode(_container({"meta": {}, "blocks": [entry, entry]}))
