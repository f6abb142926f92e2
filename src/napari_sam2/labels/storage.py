"""Where labels live: in memory, or in a temporary zarr array where they would not fit."""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np

__all__ = ["IN_MEMORY", "allocate_labels"]

IN_MEMORY = 2**30  # bytes
_PLANE_IN_MEMORY = 2**32  # bytes, of which a system gives only those that are written
_CHUNK = 1024


def allocate_labels(shape: tuple[int, ...], *, in_memory: int | None = None) -> Any:
    """Make int32 zeros, in memory or on disk.

    A numpy array up to ``in_memory`` bytes, by default 1 GiB, or 4 GiB for a single plane; above that a zarr array of
    one plane per chunk in a temporary folder, which is removed when the array is.
    """
    if in_memory is None:
        in_memory = IN_MEMORY if any(n > 1 for n in shape[:-2]) else _PLANE_IN_MEMORY
    if int(np.prod(shape, dtype=np.int64)) * 4 <= in_memory:
        return np.zeros(shape, np.int32)
    import zarr  # long to import, and the dock opens without it

    folder = Path(tempfile.mkdtemp(prefix="napari-sam2-labels-"))
    chunks = (*(1,) * (len(shape) - 2), min(shape[-2], _CHUNK), min(shape[-1], _CHUNK))
    labels = zarr.create_array(str(folder / "labels.zarr"), shape=shape, dtype="int32", chunks=chunks, fill_value=0)
    weakref.finalize(labels, rmtree, folder, ignore_errors=True)
    return labels
