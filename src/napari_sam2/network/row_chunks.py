"""Apply functions to chunks of rows, so that intermediate arrays fit into the processor's caches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_sam2.network.arithmetic import in_reference_order

__all__ = ["map_rows_in_chunks", "may_reorder_sums"]

_MAX_ELEMENTS = 1_500_000  # 6 MB: fits into caches and is reused by the C library without new system calls


def may_reorder_sums(x: Tensor) -> bool:
    """Whether sums may be reordered: on a CPU, without gradients, and not in the reference's order."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not in_reference_order()


def map_rows_in_chunks(
    function: Callable[[Tensor], Tensor], x: Tensor, width: int, *, dim: int = 0, multiple_of: int = 1
) -> Tensor:
    """``function(x)`` for functions that treat rows independently.

    Parameters
    ----------
    function : callable
        Preserves the order of rows; it may reduce their number by a factor.
    x : Tensor
        Array with rows along ``dim``.
    width : int
        Elements per row in the largest intermediate array of the function.
    dim : int, default 0
        Axis of the rows.
    multiple_of : int, default 1
        Number of rows that must not be separated.

    Returns
    -------
    Tensor

    Notes
    -----
    Chunks are used on a CPU only, and not while gradients are recorded. Allocating an array of 100 MB takes longer
    there than computing it, because the system has to map and zero its pages each time.
    """
    rows = max(1, _MAX_ELEMENTS // (width * multiple_of)) * multiple_of
    if x.shape[dim] <= rows or not may_reorder_sums(x):
        return function(x)
    return torch.cat([function(chunk) for chunk in x.split(rows, dim)], dim)
