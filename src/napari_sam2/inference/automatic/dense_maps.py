"""Maps of foreground, borders and distances over a whole image, blended from overlapping tiles at one zoom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_sam2.inference.views.view import View
from napari_sam2.network.dense_head import DENSE_CHANNELS, DENSE_STRIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["DenseMaps", "DensePredictor", "MapCanvas", "tile_views"]

_BATCH = 4
"""Tiles described at once."""

_LEAST_WEIGHT = 0.05
"""Of a tile's outermost cells against its middle ones, where tiles overlap."""


class DensePredictor(Protocol):
    """What is needed of ``SAM2ImagePredictor`` to describe an image."""

    def dense_maps(self, views: Sequence[View], /) -> NDArray[np.float32]:
        """Maps (B, C, S/4, S/4) of the image seen through each view, 0 to 1."""


@dataclass(frozen=True, eq=False)
class DenseMaps:
    """Maps of an image at one zoom.

    Attributes
    ----------
    zoom : float
        Model pixels per image pixel.
    hw : tuple of int
        Height and width of the image, in pixels.
    maps : (C, h, w) float32 array
        From 0 to 1, one row per channel of ``DenseHead``; h = ceil(H / ``cell``).
    views : tuple of View
        The tiles, which cover the image.
    """

    zoom: float
    hw: tuple[int, int]
    maps: NDArray[np.float32]
    views: tuple[View, ...]

    @property
    def cell(self) -> int:
        """Side of a cell of the maps in image pixels."""
        return round(DENSE_STRIDE / self.zoom)

    def views_around(self, boxes_px: NDArray[np.intp], margin: float) -> list[View]:
        """A view of a tile's size for each object, in which the tile's edge cuts off nothing of it.

        Parameters
        ----------
        boxes_px : (N, 4) int array
            First row, first column, last row + 1 and last column + 1 of each object, in image pixels.
        margin : float
            Least distance from a box to the edges of its view that lie inside the image, as a fraction of the longer
            side of the box.

        Returns
        -------
        list of View
            The tile that leaves most room around the object. Where none leaves enough, a view between the tiles, which
            as many objects as possible share.
        """
        if not len(boxes_px):
            return []
        needed = margin * (boxes_px[:, 2:] - boxes_px[:, :2]).max(1)
        rooms = np.stack([_room(boxes_px, view, self.hw) for view in self.views], 1)
        chosen = [self.views[index] for index in rooms.argmax(1)]
        cut_off = np.flatnonzero(rooms.max(1) < needed)
        while len(cut_off):
            view = self._view_at((boxes_px[cut_off[0], :2] + boxes_px[cut_off[0], 2:]) / 2)
            inside = _room(boxes_px[cut_off], view, self.hw) >= needed[cut_off]
            inside[0] = True
            for index in cut_off[inside]:
                chosen[index] = view
            cut_off = cut_off[~inside]
        return chosen

    def _view_at(self, middle_yx: NDArray[np.float64]) -> View:
        """The view of a tile's size around a point; inside the image where that is possible."""
        side = self.views[0].width
        last = [max(math.ceil(length / self.cell) * self.cell - side, 0) for length in self.hw]
        y, x = (
            min(max(round((middle - side / 2) / self.cell) * self.cell, 0), end)
            for middle, end in zip(middle_yx.tolist(), last, strict=True)
        )
        return View(x, y, side, side, is_native=True)


def _room(boxes_px: NDArray[np.intp], view: View, hw: tuple[int, int]) -> NDArray[np.float64]:
    """(N,) least distance from each box to the edges of a view; where these are the image's, it does not count."""
    low, high = np.array([view.y, view.x]), np.array([view.y + view.height, view.x + view.width])
    before = np.where(low <= 0, np.inf, boxes_px[:, :2] - low)
    after = np.where(high >= hw, np.inf, high - boxes_px[:, 2:])
    room: NDArray[np.float64] = np.minimum(before, after).min(1)
    return room


def tile_views(hw: tuple[int, int], side: int, overlap: int, cell: int) -> list[View]:
    """Square tiles that cover an image, row after row.

    Parameters
    ----------
    hw : tuple of int
        Height and width of the image, in pixels.
    side, overlap : int
        Side of a tile and least overlap of neighbours, in image pixels; multiples of ``cell``.
    cell : int
        Tiles begin at multiples of this. The last ones may reach up to ``cell - 1`` pixels beyond the image.

    Returns
    -------
    list of View
        Tiles are shifted to lie inside the image; only where it is smaller than a tile do they reach beyond it.
    """
    rows, columns = (_starts(math.ceil(length / cell) * cell, side, overlap, cell) for length in hw)
    return [View(x, y, side, side, is_native=True) for y in rows for x in columns]


def _starts(length: int, side: int, overlap: int, cell: int) -> list[int]:
    if length <= side:
        return [0]
    count = math.ceil((length - overlap) / (side - overlap))
    return [round(i * (length - side) / (count - 1) / cell) * cell for i in range(count)]


class MapCanvas:
    """Describes an image at one zoom, tile by tile; where tiles overlap, their maps are averaged.

    Parameters
    ----------
    predictor : DensePredictor
        With the image set.
    hw : tuple of int
        Height and width of the image, in pixels.
    zoom : float
        Model pixels per image pixel; 4 / ``zoom`` must be a whole number.
    size : int
        Side of the model's input in model pixels.
    overlap : int
        Least overlap of neighbouring tiles, in model pixels.

    Attributes
    ----------
    cell : int
        Side of a cell of the maps in image pixels.
    tiles : tuple of View
        All tiles, which cover the image, row after row.
    """

    def __init__(self, predictor: DensePredictor, hw: tuple[int, int], *, zoom: float, size: int, overlap: int) -> None:
        self.cell = round(DENSE_STRIDE / zoom)
        self.tiles = tuple(tile_views(hw, round(size / zoom), round(overlap / zoom), self.cell))
        self._predictor = predictor
        self._hw = hw
        self._zoom = zoom
        cells = size // DENSE_STRIDE
        ramp = np.minimum(np.arange(cells) + 1, np.arange(cells)[::-1] + 1) / (overlap // DENSE_STRIDE)
        ramp = np.clip(ramp, _LEAST_WEIGHT, 1).astype(np.float32)
        self._weight = ramp[:, None] * ramp
        h, w = (math.ceil(length / self.cell) for length in hw)
        self._sum = np.zeros((DENSE_CHANNELS, h, w), np.float32)
        self._total = np.zeros((h, w), np.float32)
        self._added: list[View] = []

    def add(self, tiles: Sequence[View], progress: Callable[[int], None] | None = None) -> None:
        """Describe some of the tiles.

        Parameters
        ----------
        tiles : sequence of View
            Of ``tiles``, each at most once.
        progress : callable, optional
            Called with the number of tiles that each batch finished.
        """
        h, w = self._total.shape
        cells = len(self._weight)
        for start in range(0, len(tiles), _BATCH):
            part = tiles[start : start + _BATCH]
            for view, found in zip(part, self._predictor.dense_maps(part), strict=True):
                y, x = view.y // self.cell, view.x // self.cell
                height, width = min(cells, h - y), min(cells, w - x)
                weight = self._weight[:height, :width]
                self._sum[:, y : y + height, x : x + width] += found[:, :height, :width] * weight
                self._total[y : y + height, x : x + width] += weight
            if progress is not None:
                progress(len(part))
        self._added += tiles

    def maps(self) -> DenseMaps:
        """The maps so far: 0 where no tile was described."""
        maps = np.asarray(self._sum / np.maximum(self._total, _LEAST_WEIGHT**2), np.float32)
        return DenseMaps(self._zoom, self._hw, maps, tuple(self._added))
