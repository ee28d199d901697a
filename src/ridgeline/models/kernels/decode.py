"""A whole decoding step as one call (decode.h), with AMX: the tables that it reads."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence

import torch

from ridgeline.models.kernels.call import address, kernel, pointers

EDGE, DEEP = 16, 32
"""Rows of a tile and numbers in each, as in tiles.h."""

_INTEGER, _FLOAT, _POINTER = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class Norm(ctypes.Structure):
    """struct norm."""

    _fields_ = [("weight", _POINTER), ("width", _INTEGER), ("eps", _FLOAT), ("offset", _FLOAT)]


class Linear(ctypes.Structure):
    """struct linear."""

    _fields_ = [("weight", _POINTER), ("bias", _POINTER), ("outputs", _INTEGER)]


NORMS = ("before_attention", "after_attention", "before_mlp", "after_mlp", "query_norm", "key_norm")


class Layer(ctypes.Structure):
    """struct layer."""

    _fields_ = [
        *((name, Norm) for name in NORMS),
        ("queries_keys_values", Linear * 3),
        ("out", Linear),
        ("gate_up", Linear * 2),
        ("down", Linear),
        *((name, _POINTER) for name in ("prompt_keys", "prompt_values", "own_keys", "own_values")),
        *((name, _POINTER) for name in ("cosine", "sine")),
        *((name, _INTEGER) for name in ("turned", "window")),
        ("scale", ctypes.c_double),
    ]


SIZES = ("layers", "hidden", "inner", "heads", "kv_heads", "size", "vocabulary", "gelu")
CAPACITIES = ("prompt_capacity", "own_capacity")


class Shape(ctypes.Structure):
    """struct shape."""

    _fields_ = [
        *((name, _INTEGER) for name in (*SIZES, *CAPACITIES)),
        ("last_norm", Norm),
        ("head", Linear),
    ]


class Rows(ctypes.Structure):
    """struct rows."""

    _fields_ = [
        *((name, _POINTER) for name in ("prompts", "prompt_lengths", "slots", "written")),
        ("count", _INTEGER),
    ]


@functools.cache
def has_tiles() -> bool:
    """Whether the compiled kernels and the system have the tiles of AMX."""
    ready = torch.zeros(1, dtype=torch.int64)
    like = torch.empty(0, dtype=torch.bfloat16)
    run = kernel("tiles_ready", like)
    if run is None:
        return False
    run(*pointers(ready))
    return bool(ready)


def norm(weight: torch.Tensor, eps: float, offset: float) -> Norm:
    """A norm with this weight, which the caller holds."""
    return Norm(address(weight), len(weight), eps, offset)


def linear(weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
    """A product with this weight ``[out, in]``, contiguous bfloat16, which the caller holds."""
    return Linear(address(weight), address(bias), len(weight))


def decode(
    stream_BH: torch.Tensor,
    layers: ctypes.Array[Layer],
    shape: Shape,
    rows: Sequence[torch.Tensor],
) -> torch.Tensor:
    """Logits ``[B, V]`` after one more token of each row, whose embeddings are ``stream`` (used up).

    rows: prompts, prompt_lengths, slots and written, ``[B]`` int64 each.
    """
    logits = stream_BH.new_empty(len(stream_BH), shape.vocabulary)
    run = kernel("decode", stream_BH)
    assert run is not None
    table = Rows(*pointers(*rows), len(stream_BH))
    parts = (ctypes.addressof(each) for each in (layers, shape, table))
    run(*pointers(stream_BH, logits), *parts)
    return logits
