"""Segment all objects of large images tile by tile, without seams."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from napari_sam2._arguments import checked
from napari_sam2._checks import check_fraction, check_number, check_out
from napari_sam2._errors import FrameError, PromptError
from napari_sam2.frames import Contrast, Frames, open_frames
from napari_sam2.frames.regions import ArrayRegions, FrameRegions, Regions, Tile, tile_grid
from napari_sam2.frames.stack import LazyArray
from napari_sam2.inference.automatic.automatic_labels import KeepRecords, MaskFinder, automatic_labels
from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator
from napari_sam2.inference.progress import ProgressCallback, ShouldStop
from napari_sam2.labels.overlaps import PlaneOverlaps, label_areas
from napari_sam2.labels.protocols import LabelImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.network.sam2 import SAM2

__all__ = ["TileSeams", "TilingSettings", "segment_tiled"]


@dataclass(frozen=True)
class TilingSettings:
    """How objects are merged across tiles.

    Attributes
    ----------
    min_cut_containment : float
        An object that the edge of a tile cuts off is part of a neighbouring tile's object if at least this fraction of
        it lies inside that object.
    """

    min_cut_containment: float = 0.8


@checked(PromptError)
def segment_tiled(
    image: LazyArray | Frames | Regions | str | Path,
    *,
    model: SAM2 | str | Path | None = None,
    tile: int = 768,
    overlap: int = 128,
    finder: MaskFinder | None = None,
    keep: KeepRecords | None = None,
    min_iou: float = 0.5,
    min_area_px: float = 0.0,
    max_area_px: float = math.inf,
    exclude_border: bool = False,
    contrast: Contrast = "auto",
    out: LabelImage | None = None,
    settings: TilingSettings = TilingSettings(),
    on_progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> NDArray[np.int32]:
    """Segment all objects of a large image, tile by tile.

    Neighbouring tiles overlap. Objects that match in the overlap are merged, across any number of tiles. Reads and
    writes are no larger than a tile, so that dask and zarr arrays of any size work. (For automatic contrast, an image
    of up to 16 million pixels is read once as a whole, a larger one in parts.)

    Parameters
    ----------
    image : (H, W) or (H, W, C) numpy, dask or zarr array, path or Frames
        The image, of any real dtype: an array, a file of a single image, or the result of `open_frames`. Of a TIFF file
        a whole plane is read at a time.
    model : SAM2, str, Path or None
        A network, or a name or path for `load_model`; None is the bundled model.
    tile : int, default 768
        Side of a tile in pixels. Memory grows with its square.
    overlap : int, default 128
        Overlap of neighbouring tiles in pixels; at least the size of a typical object, less than half a tile.
    finder : SAM2AutomaticMaskGenerator, optional
        Segments a tile. Default: one for ``model`` with its default options.
    keep : callable, optional
        Selects among the masks of a tile, such as ``partial(filter_records, min_iou=0.7)``; default all. As tiles cut
        objects off, filter by area and border with the parameters below instead.
    min_iou : float, default 0.5
        Objects with at least this IoU in the overlap of two tiles are merged.
    min_area_px, max_area_px : float
        Range of areas of merged objects in pixels, both limits included.
    exclude_border : bool, default False
        Drop objects that touch the image border.
    contrast : "auto", "dtype", (low, high) or one pair per channel, default "auto"
        Contrast limits for the whole image, as in `open_frames`. Ignored for frames that are already open.
    out : array, optional
        (H, W) array of zeros to write into, such as a zarr array of int32. Default: a new array.
    settings : TilingSettings, optional
        Tuned constants.
    on_progress : callable, optional
        Called with the stage (``"tile 3 of 16"``), the points done and the points in total.
    should_stop : callable, optional
        Called between steps; returns True to cancel. Finished tiles are returned.

    Returns
    -------
    array
        (H, W) int32; 0 is background, objects are numbered from 1 without gaps. ``out`` if given.

    Raises
    ------
    PromptError
        If a number is not allowed, or the shape or dtype of ``out`` does not fit.
    FrameError
        If the array is not an image.
    """
    check_fraction("min_iou", min_iou)
    min_area_px = check_number("min_area_px", min_area_px, 0)
    if max_area_px != math.inf:
        max_area_px = check_number("max_area_px", max_area_px, 0)
    if not 0 <= min_area_px <= max_area_px:
        raise PromptError(
            f"areas from {min_area_px:g} to {max_area_px:g} were given; expected 0 <= min_area_px <= max_area_px"
        )
    tiles = tile_grid((1, 1), tile, overlap)  # checks the numbers before anything is read
    regions = _as_regions(image, contrast)
    tiles = tile_grid(regions.hw, tile, overlap)
    check_out(out, regions.hw)
    target: LabelImage = np.zeros(regions.hw, np.int32) if out is None else out
    finder = SAM2AutomaticMaskGenerator(model, output_mode="coco_rle") if finder is None else finder
    seams = TileSeams(target, regions.hw, min_iou, settings)
    for index, part in enumerate(tiles):
        progress = None if on_progress is None else partial(on_progress, f"tile {index + 1} of {len(tiles)}")
        found = automatic_labels(
            finder, regions.read(part.rows, part.columns), keep=keep, progress=progress, should_stop=should_stop
        )
        if found is None:
            break
        seams.add(part, found)
    seams.renumber(tiles, (min_area_px, max_area_px), exclude_border=exclude_border)
    return target  # type: ignore[return-value]  # out is returned as it is


def _as_regions(image: LazyArray | Frames | Regions | str | Path, contrast: Contrast) -> Regions:
    if isinstance(image, Regions):
        return image
    if isinstance(image, str | Path):
        image = open_frames(image, contrast=contrast)
    if not isinstance(image, Frames):
        return ArrayRegions(image, contrast)
    if len(image) != 1:
        raise FrameError(f"{len(image)} frames were given; give a single image, or use segment_stack for a stack")
    return FrameRegions(image)


class TileSeams:
    """Writes tiles one by one; an object in several tiles gets one number.

    Numbers are written once. As a later tile can merge objects that were written before, `renumber` makes them unique
    at the end. Besides a tile, memory is needed for some numbers of each object.

    Parameters
    ----------
    labels : LabelImage
        (H, W) zeros to write into.
    hw : tuple of int
        Height and width.
    min_iou : float
        As for `segment_tiled`.
    settings : TilingSettings, optional
        Tuned constants.
    """

    def __init__(
        self,
        labels: LabelImage,
        hw: tuple[int, int],
        min_iou: float = 0.5,
        settings: TilingSettings = TilingSettings(),
    ) -> None:
        self._labels = labels
        self._hw = hw
        self._min_iou = min_iou
        self._settings = settings
        self._merged = DisjointSet([0])
        self._lowest = [0]  # by number: the lowest number of its object, if the number is a root
        self._cut: set[int] = set()  # objects that the edge of a tile cuts off

    def add(self, part: Tile, found: NDArray[np.int32]) -> None:
        """Write the objects of a tile that overlap its core; the others belong to neighbouring tiles."""
        reaches = np.zeros(int(found.max(initial=0)) + 1, bool)
        reaches[found[part.core]] = True
        found = np.where(reaches[found], found, 0).astype(np.int32)
        index = (part.rows, part.columns)
        before = self._with_roots(np.asarray(self._labels[index]))
        cut_here = {int(i) for side in part.inner_sides(self._hw) for i in np.unique(found[side]) if i}
        number_of = self._numbers(part, before, found, cut_here)
        self._cut |= {number_of[i] for i in cut_here if i in number_of}
        lookup = np.zeros(len(reaches), np.int32)
        for i, number in number_of.items():
            lookup[i] = number
        new = lookup[found]
        self._labels[index] = np.where(before > 0, before, new).astype(np.int32)

    def _numbers(
        self, part: Tile, before: NDArray[np.int32], found: NDArray[np.int32], cut_here: set[int]
    ) -> dict[int, int]:
        """The number of each object of the tile: that of the object it matches, or a new one."""
        seen_twice = found.copy()
        seen_twice[part.num_seen_rows :, part.num_seen_columns :] = 0
        compared = PlaneOverlaps()
        compared.add(before, seen_twice)
        pairs = compared.overlaps()
        min_containment = self._settings.min_cut_containment
        numbers: dict[int, int] = {}
        claimed: dict[int, int] = {}
        for old, new, iou, old_part, new_part, shared in zip(
            pairs.first_ids.tolist(),
            pairs.second_ids.tolist(),
            pairs.iou.tolist(),
            pairs.first_within_second.tolist(),
            pairs.second_within_first.tolist(),
            pairs.intersection.tolist(),
            strict=True,
        ):
            claimed[new] = claimed.get(new, 0) + shared
            is_rest = (old in self._cut and old_part >= min_containment) or (
                new in cut_here and new_part >= min_containment
            )
            if iou >= self._min_iou or is_rest:
                numbers[new] = self._join(numbers[new], old) if new in numbers else self._root(old)
        for new, area in label_areas(found).tolist():
            if new not in numbers and 2 * claimed.get(new, 0) <= area:
                numbers[new] = len(self._lowest)
                self._lowest.append(numbers[new])
                self._merged.add(numbers[new])
        return numbers

    def _root(self, number: int) -> int:
        """The lowest number of an object."""
        return self._lowest[int(self._merged[number])]

    def _join(self, a: int, b: int) -> int:
        low, high = sorted((self._root(a), self._root(b)))
        self._merged.merge(low, high)
        self._lowest[self._merged[low]] = low
        if high in self._cut:
            self._cut.add(low)
        return low

    def _with_roots(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        numbers, places = np.unique(labels, return_inverse=True)
        roots = np.array([self._root(int(number)) for number in numbers], np.int32)
        return roots[places].reshape(labels.shape)

    def renumber(self, tiles: list[Tile], areas: tuple[float, float], *, exclude_border: bool) -> None:
        """Renumber merged objects without gaps, and drop those outside the limits, tile by tile."""
        roots = np.array([self._root(number) for number in range(len(self._lowest))], np.int32)
        is_kept = self._has_area(tiles, roots, areas)
        if exclude_border:
            is_kept[self._on_border(roots)] = False
        own = np.unique(roots[1:])
        own = own[is_kept[own]]
        ranks = np.zeros(len(roots), np.int32)
        ranks[own] = np.arange(1, len(own) + 1)
        final = ranks[roots]
        if np.array_equal(final, np.arange(len(final))):
            return
        for part in tiles:
            index = (part.core_rows, part.core_columns)
            labels = np.asarray(self._labels[index])
            if labels.any():
                self._labels[index] = final[labels]

    def _has_area(self, tiles: list[Tile], roots: NDArray[np.int32], areas: tuple[float, float]) -> NDArray[np.bool_]:
        """Whether each object, by its lowest number, has an area within the limits."""
        low, high = areas
        if low <= 1 and high == math.inf:
            return np.ones(len(roots), bool)
        total = np.zeros(len(roots), np.int64)
        for part in tiles:
            labels = np.asarray(self._labels[part.core_rows, part.core_columns])
            total += np.bincount(roots[labels].ravel(), minlength=len(roots))
        return np.asarray((total >= low) & (total <= high))

    def _on_border(self, roots: NDArray[np.int32]) -> NDArray[np.int32]:
        """Lowest numbers of the objects that touch the image border."""
        h, w = self._hw
        everything = slice(None)
        sides = (
            (slice(0, 1), everything),
            (slice(h - 1, h), everything),
            (everything, slice(0, 1)),
            (everything, slice(w - 1, w)),
        )
        found = np.concatenate([np.asarray(self._labels[side]).ravel() for side in sides])
        return np.unique(roots[found])
