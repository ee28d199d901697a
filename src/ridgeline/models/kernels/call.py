"""How tensors and numbers reach the compiled kernels.

The types of a kernel's arguments are read from its source, so that plain numbers can be passed (which is
quicker than to wrap each of them), and a missing one is an error instead of a crash.
"""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import torch

from ridgeline.models.kernels.build import SOURCES, kernel_library

Kernel = Callable[..., None]

_SUFFIX = {torch.bfloat16: "bfloat16", torch.float32: "float32"}
_KERNEL = re.compile(r"^void NAME\((\w+)\)\(([^{]*)\) \{", re.MULTILINE)
_TYPES = {"int64_t": ctypes.c_int64, "float": ctypes.c_float, "double": ctypes.c_double}


def kernel(name: str, like: torch.Tensor) -> Kernel | None:
    """The kernel ``name`` for tensors such as ``like``; None where there is none.

    None under autocast too, whose products come in another format than what they are joined with.
    """
    if like.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return None
    return _function(name, like.dtype)


@functools.cache
def _function(name: str, dtype: torch.dtype) -> Kernel | None:
    library, suffix = kernel_library(), _SUFFIX.get(dtype)
    if library is None or suffix is None:
        return None
    function = getattr(library, f"{name}_{suffix}")
    function.argtypes, function.restype = _signatures()[name], None
    found: Kernel = function
    return found


@functools.cache
def _signatures() -> dict[str, list[type]]:
    """The types of every kernel's arguments."""
    folder = files("ridgeline.models.kernels")
    found = {}
    for source in SOURCES:
        for name, arguments in _KERNEL.findall((folder / source).read_text(encoding="utf-8")):
            found[name] = [_type(argument) for argument in arguments.split(",")]
    return found


def _type(argument: str) -> type:
    return ctypes.c_void_p if "*" in argument else _TYPES[argument.split()[0]]


def pointers(*tensors: Any) -> list[int | None]:
    """Addresses of tensors (or arrays of numpy), contiguous and held by the caller; None: a null pointer."""
    return [address(tensor) for tensor in tensors]


def address(tensor: Any) -> int | None:
    """As `pointers`, of one."""
    if tensor is None:
        return None
    return int(tensor.data_ptr() if isinstance(tensor, torch.Tensor) else tensor.ctypes.data)
