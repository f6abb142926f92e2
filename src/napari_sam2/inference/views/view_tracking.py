"""The window that follows an object: where to look on the next frame, given where it was on this one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam2.inference.views.view import TARGET_EXTENT, View, view_for_extent

__all__ = ["MaskExtent", "extent_in_image", "follow"]

_TOO_SMALL, _TOO_LARGE = 0.08, 0.55  # extents, as fractions of the window, at which it is chosen anew
_OFF_CENTRE = 0.15  # shift of the object, as a fraction of the window, at which the window moves


class MaskExtent(NamedTuple):
    """Bounding box of a mask in image pixels: centre (x, y) and longer side."""

    x: float
    y: float
    side: float


def extent_in_image(mask: NDArray[np.bool_], view: View) -> MaskExtent | None:
    """Extent of a low-resolution mask (h, w) of a view; ``None`` if it is empty."""
    if not mask.any():
        return None
    h, w = mask.shape
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y0, y1, x0, x1 = int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1
    scale_x, scale_y = view.width / w, view.height / h
    return MaskExtent(
        view.x + (x0 + x1) / 2 * scale_x - 0.5,
        view.y + (y0 + y1) / 2 * scale_y - 0.5,
        max((x1 - x0) * scale_x, (y1 - y0) * scale_y),
    )


def follow(extent: MaskExtent | None, view: View, hw: tuple[int, int]) -> View:
    """The window for the next frame.

    It stays where it is while the object is well inside and of a good size, so that objects can share windows
    and memories keep their places; otherwise it is centred on the object again.
    """
    if extent is None or not view.is_native:
        return view
    share = extent.side / view.width
    side = view.width if _TOO_SMALL <= share <= _TOO_LARGE else extent.side / TARGET_EXTENT
    centre_x, centre_y = view.x + view.width / 2 - 0.5, view.y + view.height / 2 - 0.5
    is_centred = max(abs(extent.x - centre_x), abs(extent.y - centre_y)) <= _OFF_CENTRE * view.width
    if side == view.width and is_centred:
        return view
    return view_for_extent((extent.x, extent.y), side, hw)
