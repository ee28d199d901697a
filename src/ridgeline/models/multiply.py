"""Products of matrices, in the shapes that this CPU's library forms fast."""

from __future__ import annotations

import torch
from torch import Tensor

NARROW, DEEP = 768, 1024
FEW, MANY = 384, 1536


def multiply(left: Tensor, right: Tensor) -> Tensor:
    """``[M, K] x [K, N] -> [M, N]``, without gradient.

    oneDNN forms a narrow product of deep operands for some hundred rows at half its speed (bfloat16, AMX: 1.2
    to 1.5 TFLOP/s), and each half of its columns at 2.0 to 2.7.
    """
    rows, depth = left.shape
    columns = right.shape[1]
    if left.dtype != torch.bfloat16 or columns > NARROW or depth < DEEP or not FEW <= rows < MANY:
        return left @ right
    out = left.new_empty(rows, columns)
    half = columns // 2
    for part in (slice(0, half), slice(half, columns)):
        torch.mm(left, right[:, part], out=out[:, part])
    return out
