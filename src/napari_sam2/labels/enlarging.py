"""Masks of a coarser level at full resolution, with smooth outlines, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["EnlargedMask", "enlarged_masks"]

_SIGMA = 0.7  # pixels of the coarser level: takes the steps off the outline
_SMALL = 12  # pixels: smaller masks are smoothed less, as single pixels would vanish
_SIGMA_OF_SMALL = 0.4
_MARGIN = 2  # pixels of the coarser level around the mask


@dataclass(frozen=True, eq=False)
class EnlargedMask:
    """One object of a coarse plane, as it is at full resolution.

    Attributes
    ----------
    object_id : int
        Its number.
    box : tuple of int
        y0, x0, y1, x1 of its bounding box at full resolution, the ends exclusive.
    """

    object_id: int
    box: tuple[int, int, int, int]
    _weight: NDArray[np.float32]
    _origin_yx: tuple[int, int]
    _zoom_yx: tuple[float, float]

    def part(self, rows: slice, columns: slice) -> NDArray[np.bool_]:
        """(h, w) of the mask at some rows and columns of the full resolution."""
        y, wy = self._places(rows, 0)
        x, wx = self._places(columns, 1)
        top, bottom = self._weight[y], self._weight[y + 1]
        left = top[:, x] * (1 - wy)[:, None] + bottom[:, x] * wy[:, None]
        right = top[:, x + 1] * (1 - wy)[:, None] + bottom[:, x + 1] * wy[:, None]
        return np.asarray(left * (1 - wx) + right * wx > 0.5)

    def blocks(self, size: int) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of the blocks of a grid that the box touches."""
        y0, x0, y1, x1 = self.box
        for top in range(y0 // size * size, y1, size):
            for left in range(x0 // size * size, x1, size):
                rows = slice(max(top, y0), min(top + size, y1))
                yield rows, slice(max(left, x0), min(left + size, x1))

    def _places(self, span: slice, axis: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """For each pixel the coarse pixel before its centre, and how far it is on the way to the next."""
        centres = (np.arange(span.start, span.stop) + 0.5) / self._zoom_yx[axis] - 0.5 - self._origin_yx[axis]
        centres = centres.clip(0, self._weight.shape[axis] - 1.001)
        first = centres.astype(np.intp)
        return first, (centres - first).astype(np.float32)


def enlarged_masks(labels: NDArray[np.int32], full_hw: tuple[int, int]) -> Iterator[EnlargedMask]:
    """The objects of a coarse plane at full resolution, ascending.

    Parameters
    ----------
    labels : numpy.ndarray
        (H, W); 0 is background.
    full_hw : (int, int)
        Height and width of the full resolution.

    Yields
    ------
    EnlargedMask
        Interpolated between the centres of the coarse pixels.
    """
    ids, numbers = np.unique(labels, return_inverse=True)
    numbers = numbers.reshape(labels.shape)
    first = int(np.searchsorted(ids, 1))
    zoom_yx = (full_hw[0] / labels.shape[0], full_hw[1] / labels.shape[1])
    for i, window in enumerate(ndimage.find_objects(numbers + 1 - first)):
        mask = np.pad(numbers[window] == first + i, _MARGIN)
        origin = (window[0].start - _MARGIN, window[1].start - _MARGIN)
        sigma = _SIGMA if int(mask.sum()) >= _SMALL else _SIGMA_OF_SMALL
        weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
        spans = [
            (max(0, int((part.start - 1) * zoom)), min(full, int((part.stop + 1) * zoom) + 1))
            for part, zoom, full in zip(window, zoom_yx, full_hw, strict=True)
        ]
        box = (spans[0][0], spans[1][0], spans[0][1], spans[1][1])
        yield EnlargedMask(int(ids[first + i]), box, weight, origin, zoom_yx)
