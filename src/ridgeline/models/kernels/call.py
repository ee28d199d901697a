"""How tensors and numbers reach the compiled kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch

from ridgeline.models.kernels.build import kernel_library

_SUFFIX = {torch.bfloat16: "bfloat16", torch.float32: "float32"}


def kernel(name: str, like: torch.Tensor) -> Callable[..., None] | None:
    """The kernel ``name`` for tensors such as ``like``; None where there is none.

    None under autocast too, whose products come in another format than what they are joined with.
    """
    library, suffix = kernel_library(), _SUFFIX.get(like.dtype)
    if library is None or suffix is None or like.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return None
    function: Callable[..., None] = getattr(library, f"{name}_{suffix}")
    return function


def pointers(*tensors: Any) -> list[ctypes.c_void_p]:
    """Addresses of tensors (or arrays of numpy), which have to be contiguous; None stays a null pointer."""
    return [ctypes.c_void_p(_address(tensor)) for tensor in tensors]


def _address(tensor: Any) -> int | None:
    if tensor is None:
        return None
    return int(tensor.data_ptr() if isinstance(tensor, torch.Tensor) else tensor.ctypes.data)


def wholes(*numbers: int) -> list[ctypes.c_int64]:
    """Whole numbers as the kernels take them."""
    return [ctypes.c_int64(number) for number in numbers]


def floats(*numbers: float) -> list[ctypes.c_float]:
    """Real numbers as the kernels take them."""
    return [ctypes.c_float(number) for number in numbers]


def doubles(*numbers: float) -> list[ctypes.c_double]:
    """Real numbers as the kernels take them where 7 digits are too few."""
    return [ctypes.c_double(number) for number in numbers]
