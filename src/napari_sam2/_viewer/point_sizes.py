"""The size of points on screen: large enough to be seen at any zoom, and nothing where a plane has no points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Points
    from numpy.typing import NDArray

__all__ = ["limit_sizes"]

_SIZES = (8, 16)  # pixels of the screen, at any zoom


def limit_sizes(viewer: ViewerModel, points: Points, position: Sequence[float] | NDArray[np.float64]) -> None:
    """Limit the size of points on screen for the plane that is shown.

    On a plane without points napari draws one of size 0 at the origin, which a lower limit would make visible.

    Parameters
    ----------
    viewer : ViewerModel
        Says which axes are displayed.
    points : Points
        A layer of the viewer.
    position : sequence of float
        The position that is shown, in the data coordinates of the layer.
    """
    offset = viewer.dims.ndim - points.ndim
    hidden = [axis - offset for axis in viewer.dims.not_displayed if axis >= offset]
    planes: Any = np.rint(np.asarray(points.data, float)[:, hidden])
    is_shown = bool(np.all(planes == np.rint(np.asarray(position, float)[hidden]), axis=1).any())
    limits = _SIZES if is_shown else (0, _SIZES[1])
    if tuple(points.canvas_size_limits) != limits:
        points.canvas_size_limits = limits
