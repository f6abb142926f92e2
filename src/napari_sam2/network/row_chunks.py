"""Row by row, a block of rows at a time: what is computed in between stays in the processor's caches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_sam2.network.arithmetic import in_reference_order

__all__ = ["map_rows_in_chunks", "may_reorder_sums"]

_NUMBERS_AT_ONCE = 1_500_000  # 6 MB: in caches, and memory that the C library keeps, not asks the system for again


def may_reorder_sums(x: Tensor) -> bool:
    """Whether another order of the same sums may be chosen: on a CPU, without gradients, not in the reference's."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not in_reference_order()


def map_rows_in_chunks(
    function: Callable[[Tensor], Tensor], x: Tensor, width: int, *, dim: int = 0, multiple_of: int = 1
) -> Tensor:
    """``function(x)`` for functions whose rows do not know of each other.

    Parameters
    ----------
    function : callable
        Keeps the order of rows; it may shorten them by a factor.
    x : Tensor
        Rows along ``dim``.
    width : int
        Numbers in the widest array that the function makes of one row.
    dim : int, default 0
        Where the rows are.
    multiple_of : int, default 1
        Rows that belong together.

    Returns
    -------
    Tensor

    Notes
    -----
    Only on a CPU, and not while gradients are recorded. There an array of some 100 MB costs more than the sums in it:
    the system has to find and zero its pages each time.
    """
    rows = max(1, _NUMBERS_AT_ONCE // (width * multiple_of)) * multiple_of
    if x.shape[dim] <= rows or not may_reorder_sums(x):
        return function(x)
    return torch.cat([function(piece) for piece in x.split(rows, dim)], dim)
