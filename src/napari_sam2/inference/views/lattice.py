"""Overlapping windows on a regular grid."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["WindowLattice", "window_sides"]


def window_sides(hw: tuple[int, int], smallest: int) -> list[int]:
    """Window sides, doubling from ``smallest`` until one window covers an image of ``hw``."""
    sides = [smallest]
    while sides[-1] < max(hw):
        sides.append(2 * sides[-1])
    return sides


@dataclass(frozen=True)
class WindowLattice:
    """Windows on a regular grid; neighbours overlap by at least half.

    Attributes
    ----------
    hw : tuple of int
        Height and width of the image.
    side : int
        Side of the windows in image pixels; clipped to the image where that is smaller.
    """

    hw: tuple[int, int]
    side: int

    def boxes(self) -> list[tuple[int, int, int, int]]:
        """(x0, y0, x1, y1) of each window, end exclusive, row by row."""
        (h, w), side = self.hw, self.side
        return [
            (x, y, min(x + side, w), min(y + side, h))
            for y, x in itertools.product(_starts(h, side).tolist(), _starts(w, side).tolist())
        ]

    def nearest(self, points_xy: NDArray[np.floating]) -> NDArray[np.intp]:
        """(N,) index into ``boxes`` of the window whose centre is nearest to each point (x, y)."""
        column, row = (
            np.abs(points_xy[:, axis, None] - _starts(length, self.side) - (min(self.side, length) - 1) / 2).argmin(1)
            for axis, length in enumerate(self.hw[::-1])
        )
        nearest: NDArray[np.intp] = row * len(_starts(self.hw[1], self.side)) + column
        return nearest


def _starts(length: int, side: int) -> NDArray[np.int64]:
    """Start of each window along one axis."""
    free = max(length - side, 0)
    return np.linspace(0, free, math.ceil(2 * free / side) + 1).round().astype(np.int64)
