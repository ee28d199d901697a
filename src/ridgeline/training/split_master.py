"""Float32 master weights in two parts: the bfloat16 working weight, and the 16 bits that it leaves out.

bits of the master = (bits of the working weight << 16) + rest, where the rest is a signed 16-bit number. So a
master costs two bytes beside its working weight instead of four. `kernels/adamw.h` does the same in C. The
idea is that of Split-SGD in Intel's extension of torch, which cuts the lower bits off instead of rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_NAN = 0x7FC00000
_CHUNK = 1 << 20


def chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of one shape in parts of some million numbers, cut along the first dimension; views of them."""
    whole = [tensor.reshape(1) if tensor.ndim == 0 else tensor for tensor in tensors]
    rows = max(1, _CHUNK * whole[0].shape[0] // max(1, whole[0].numel()))
    return zip(*(tensor.split(rows) for tensor in whole), strict=True)


def join_master(working: Tensor, rest: Tensor) -> Tensor:
    """The float32 master of bfloat16 ``working`` and int16 ``rest``, of the same shape; a new tensor."""
    bits = working.detach().view(torch.int16).int()
    return bits.bitwise_left_shift_(16).add_(rest).view(torch.float32)


@torch.no_grad()
def split_master(master: Tensor, working: Tensor, rest: Tensor) -> None:
    """Write float32 ``master`` into bfloat16 ``working`` and int16 ``rest``, of the same shape.

    ``join_master`` gives it back bit for bit, except that every NaN becomes the same one. The working weight
    is the nearest bfloat16; of two that are equally near, the larger in magnitude.
    """
    # Rounding the bits of some NaNs up would make zeros of them.
    bits = master.view(torch.int32).masked_fill(master.isnan(), _NAN)
    rest.copy_(bits)
    working.view(torch.int16).copy_(bits.add_(0x8000).bitwise_right_shift_(16))
