"""Overlapping tiles of a large picture, and parts of pictures read as uint8 RGB."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from napari_sam2._errors import FrameError, PromptError
from napari_sam2.frames.contrast import automatic_limits, parse_contrast, sample_pixels
from napari_sam2.frames.intensity import to_rgb_uint8

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.frames import Contrast, Frames
    from napari_sam2.frames.planes import ArrayPlanes
    from napari_sam2.frames.stack import LazyArray

__all__ = ["ArrayRegions", "FrameRegions", "Regions", "Tile", "tile_grid"]


@dataclass(frozen=True)
class Tile:
    """A rectangle of a picture and the part of it that no neighbour is nearer to.

    Attributes
    ----------
    rows, columns : slice
        The tile, image pixels.
    core_rows, core_columns : slice
        The part whose objects are taken from this tile: cores cover the picture once.
    num_seen_rows, num_seen_columns : int
        First rows and columns of the tile that an earlier tile, row by row, covers too.
    """

    rows: slice
    columns: slice
    core_rows: slice
    core_columns: slice
    num_seen_rows: int
    num_seen_columns: int

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the tile."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def core(self) -> tuple[slice, slice]:
        """The core as an index into the tile."""
        rows, columns = self.core_rows, self.core_columns
        return (
            slice(rows.start - self.rows.start, rows.stop - self.rows.start),
            slice(columns.start - self.columns.start, columns.stop - self.columns.start),
        )

    def inner_sides(self, hw: tuple[int, int]) -> tuple[tuple[slice | int, slice | int], ...]:
        """Indices into the tile of its outermost rows and columns, where they are not the picture's own sides."""
        h, w = hw
        everything = slice(None)
        sides: list[tuple[slice | int, slice | int]] = []
        if self.rows.start > 0:
            sides.append((0, everything))
        if self.rows.stop < h:
            sides.append((-1, everything))
        if self.columns.start > 0:
            sides.append((everything, 0))
        if self.columns.stop < w:
            sides.append((everything, -1))
        return tuple(sides)


@runtime_checkable
class Regions(Protocol):
    """A picture of which parts are read."""

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width."""

    def read(self, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB of a part."""


def tile_grid(hw: tuple[int, int], tile: int, overlap: int) -> list[Tile]:
    """Tiles that cover a picture, row by row.

    Parameters
    ----------
    hw : tuple of int
        Height and width of the picture.
    tile : int
        Side of a tile; smaller pictures are one tile.
    overlap : int
        Pixels that neighbours share at least, less than half a tile.

    Returns
    -------
    list of Tile
        Equal distances as far as whole pixels allow.

    Raises
    ------
    PromptError
        If a number is not allowed.
    """
    if tile < 1 or not 0 <= overlap < tile / 2:
        raise PromptError(f"tile={tile} and overlap={overlap} were given; expected 0 <= overlap < tile / 2")
    rows, columns = (_spans(length, tile, overlap) for length in hw)
    return [
        Tile(row, column, core_row, core_column, seen_rows, seen_columns)
        for row, core_row, seen_rows in rows
        for column, core_column, seen_columns in columns
    ]


def _spans(length: int, tile: int, overlap: int) -> list[tuple[slice, slice, int]]:
    """Along one axis: the span of each tile; its core, ending in the middle of an overlap; the overlap before it."""
    if length <= tile:
        return [(slice(0, length), slice(0, length), 0)]
    count = math.ceil((length - overlap) / (tile - overlap))
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    middles = [(start + before + tile) // 2 for before, start in itertools.pairwise(starts)]
    bounds = [0, *middles, length]
    seen = [0, *(before + tile - start for before, start in itertools.pairwise(starts))]
    return [(slice(start, start + tile), slice(*bounds[i : i + 2]), seen[i]) for i, start in enumerate(starts)]


class FrameRegions:
    """Parts of one frame of a stack, as the stack shows it.

    Parameters
    ----------
    frames : Frames
        From `open_frames`.
    frame : int, default 0
        Its index.
    """

    def __init__(self, frames: Frames, frame: int = 0) -> None:
        self._frames, self._frame = frames, frame
        self.hw: tuple[int, int] = frames.shape[1:]

    def read(self, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB of a part."""
        return self._frames.region(self._frame, rows, columns)


class ArrayRegions:
    """Parts of a (H, W) or (H, W, C) array, shown with one contrast rule for the whole picture.

    Parameters
    ----------
    array : LazyArray
        numpy, dask or zarr; large pictures are only ever read in parts. One to three channels; a fourth is ignored.
    contrast : "auto", "dtype", (low, high) or one pair per channel, default "auto"
        As in `open_frames`.

    Raises
    ------
    FrameError
        If the array is no picture.
    """

    def __init__(self, array: LazyArray, contrast: Contrast = "auto") -> None:
        shape = tuple(int(n) for n in array.shape)
        if len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and shape[2] > 4):
            raise FrameError(f"an array of shape {shape} was given; expected a picture (H, W) or (H, W, C), C 1 to 4")
        self._array = array
        self._num_channels = min(shape[2], 3) if len(shape) == 3 else 1
        self.hw = (shape[0], shape[1])
        limits = parse_contrast(contrast, self._num_channels, np.dtype(array.dtype))
        self._limits = limits or automatic_limits(sample_pixels(_Planes(self)), is_rgb=self._num_channels == 3)

    def read(self, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB of a part."""
        return to_rgb_uint8(self.raw(rows, columns), self._limits)

    def raw(self, rows: slice, columns: slice) -> NDArray[np.generic]:
        """(C, h, w) values of a part, in the type of the array."""
        part = np.asarray(self._array[rows, columns])
        # (h, w, C) -> (C, h, w)
        return part[None] if part.ndim == 2 else np.moveaxis(part[..., : self._num_channels], -1, 0)


@dataclass(frozen=True, eq=False)
class _Planes:
    """A picture as a `PixelSource` of one frame."""

    picture: ArrayRegions

    @property
    def frames_shape(self) -> tuple[int, int, int]:
        return 1, *self.picture.hw

    def read(self, _: int, rows: slice, columns: slice, /) -> NDArray[np.generic]:
        return self.picture.raw(rows, columns)


class PlaneRegions:
    """Parts of one plane, for pictures too large to be read as a whole; see ``segment_tiled``."""

    def __init__(self, planes: ArrayPlanes, plane: int) -> None:
        self._planes, self._plane = planes, plane

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width."""
        return self._planes.geometry.hw

    def read(self, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB of a part."""
        return self._planes.region(self._plane, rows, columns)
