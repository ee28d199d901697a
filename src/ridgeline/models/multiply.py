"""Products of matrices, by whatever forms them fast here."""

from __future__ import annotations

from torch import Tensor

from ridgeline.models.kernels.learn import broad_product, has_products

NARROW, DEEP = 768, 512
FEW, MANY = 384, 1400


def multiply(left: Tensor, right: Tensor) -> Tensor:
    """``[M, K] x [K, N] -> [M, N]``, without gradient.

    oneDNN forms a narrow product of deep operands for some hundred rows at 1.2 to 2.7 TFLOP/s (bfloat16,
    AMX), by the number of rows alone; our kernel at 2.3 to 2.7 whatever it is.
    """
    (rows, depth), columns = left.shape, right.shape[1]
    narrow = columns <= NARROW and depth >= DEEP and FEW <= rows < MANY
    if narrow and has_products(left) and left.stride(1) == 1 and 1 in right.stride():
        return broad_product(left, right)
    return left @ right
