"""Whatever is given as a stack becomes frames and a geometry."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_sam2._errors import FrameError
from napari_sam2._types import FrameSource
from napari_sam2.frames.geometry import StackGeometry
from napari_sam2.frames.planes import ArrayPlanes, automatic_channel

__all__ = ["open_stack"]


def open_stack(stack: Any, frame_axis: int | None, is_rgb: bool | None) -> tuple[FrameSource, StackGeometry]:
    """Frames of an array, path or source, and which of its axes is which; arguments as for ``Session``.

    Raises
    ------
    FrameError
        If it is nothing of the kind, or cannot be read.
    """
    if isinstance(stack, str) or hasattr(stack, "__fspath__"):
        from napari_sam2.frames import open_frames

        stack = open_frames(stack)
    if isinstance(stack, ArrayPlanes):
        return stack, stack.geometry
    if isinstance(stack, FrameSource) and not isinstance(stack, np.ndarray):
        return stack, StackGeometry.choose(stack.shape if len(stack) > 1 else stack.shape[1:])
    array = np.asarray(stack) if isinstance(stack, (list, tuple)) else stack
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        raise FrameError(f"{type(stack).__name__} was given as a stack; give an array, a path or open_frames(...)")
    shape = tuple(int(n) for n in array.shape)
    if is_rgb is None:
        is_rgb = len(shape) >= 3 and shape[-1] in (3, 4) and np.dtype(array.dtype) == np.uint8
    geometry = StackGeometry.choose(shape[:-1] if is_rgb else shape, frame_axis)
    return ArrayPlanes([automatic_channel(array, geometry, is_rgb=is_rgb)], geometry), geometry
