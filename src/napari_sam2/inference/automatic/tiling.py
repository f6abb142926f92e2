"""Everything in a picture that is too large to be looked at as a whole: tile by tile, without seams."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._checks import check_out
from napari_sam2._errors import FrameError, PromptError
from napari_sam2.frames import Frames, open_frames
from napari_sam2.frames.regions import ArrayRegions, FrameRegions, Regions, Tile, tile_grid
from napari_sam2.inference.automatic.automatic_labels import KeepRecords, MaskFinder, automatic_labels
from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator
from napari_sam2.inference.progress import ProgressCallback, ShouldStop
from napari_sam2.labels.overlaps import PlaneOverlaps, label_areas
from napari_sam2.labels.protocols import LabelImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.frames import Contrast
    from napari_sam2.frames.stack import LazyArray
    from napari_sam2.network.sam2 import SAM2

__all__ = ["segment_tiled"]

_MIN_CUT_CONTAINMENT = 0.8
"""Part of an object cut off by a tile's side that must lie in a neighbour's object to be the same."""


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
    on_progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> NDArray[np.int32]:
    """Segment everything in a large picture, tile by tile.

    Neighbouring tiles overlap. What both see there is compared: alike objects are one object, whatever the number of
    tiles it runs through. No read and no write is larger than a tile, so dask and zarr arrays of any size work. (For
    its contrast, a picture of up to 16 million pixels is read once as a whole, a larger one in parts.)

    Parameters
    ----------
    image : (H, W) or (H, W, C) numpy, dask or zarr array, path or Frames
        The picture, of any real type; a file of one picture, or what `open_frames` made of it. Of a TIFF file a whole
        plane is read for a moment.
    model : SAM2, str, Path or None
        A network, or a name or path for `load_model`; None is the bundled model.
    tile : int, default 768
        Side of a tile in pixels. Memory grows with its square.
    overlap : int, default 128
        Pixels that neighbouring tiles share; at least the size of a usual object, less than half a tile.
    finder : SAM2AutomaticMaskGenerator, optional
        Finds the masks of a tile. Default: one of ``model`` with the options that suit it.
    keep : callable, optional
        Chooses among the masks of a tile, such as ``partial(filter_records, min_iou=0.7)``; default all. It sees the
        parts of objects that a tile cuts off, and the borders of tiles: for these there are the options below.
    min_iou : float, default 0.5
        Two objects with at least this IoU, where both tiles look, are one.
    min_area_px, max_area_px : float
        Least and largest area of an object, once it is put together, in pixels. Both included.
    exclude_border : bool, default False
        Leave out objects that touch a side of the picture.
    contrast : "auto", "dtype", (low, high) or one pair per channel, default "auto"
        One rule for the whole picture, as in `open_frames`. Frames that are open already have theirs.
    out : array, optional
        (H, W) of zeros to write into, such as a zarr array of int32. Default: a new array.
    on_progress : callable, optional
        Called with a stage (``"tile 3 of 16"``), the points tried and the points in all.
    should_stop : callable, optional
        Asked between steps; once it is true, the tiles finished so far are returned.

    Returns
    -------
    array
        (H, W) int32, 0 is background and objects are numbered from 1 without gaps; ``out`` if given.

    Raises
    ------
    PromptError
        If a number is not allowed, or ``out`` has another shape or a type that does not hold int32.
    FrameError
        If the array is no picture.
    """
    if not 0 < min_iou <= 1:
        raise PromptError(f"min_iou={min_iou!r} was given; allowed are numbers above 0 and up to 1")
    if not 0 <= min_area_px <= max_area_px:
        raise PromptError(
            f"areas from {min_area_px:g} to {max_area_px:g} were given; allowed is 0 <= min_area_px <= max_area_px"
        )
    tiles = tile_grid((1, 1), tile, overlap)  # refuse bad numbers before anything is read
    regions = _as_regions(image, contrast)
    tiles = tile_grid(regions.hw, tile, overlap)
    check_out(out, regions.hw)
    target: LabelImage = np.zeros(regions.hw, np.int32) if out is None else out
    finder = SAM2AutomaticMaskGenerator(model, output_mode="coco_rle") if finder is None else finder
    seams = _Seams(target, regions.hw, min_iou)
    for index, part in enumerate(tiles):
        progress = None if on_progress is None else partial(on_progress, f"tile {index + 1} of {len(tiles)}")
        found = automatic_labels(
            finder, regions.read(part.rows, part.columns), keep=keep, progress=progress, should_stop=should_stop
        )
        if found is None:
            break
        seams.add(part, found)
    seams.renumber(tiles, (min_area_px, max_area_px), exclude_border=exclude_border)
    return target  # type: ignore[return-value]  # what came as out goes back


def _as_regions(image: LazyArray | Frames | Regions | str | Path, contrast: Contrast) -> Regions:
    if isinstance(image, Regions):
        return image
    if isinstance(image, str | Path):
        image = open_frames(image, contrast=contrast)
    if not isinstance(image, Frames):
        return ArrayRegions(image, contrast)
    if len(image) != 1:
        raise FrameError(f"{len(image)} frames were given; give one picture, or use segment_stack for a stack")
    return FrameRegions(image)


class _Seams:
    """Writes tile after tile; an object that two tiles see gets one number.

    Numbers are given out once. That two of them are one object shows later, where a third tile joins them, so they
    are put right at the end.
    """

    def __init__(self, labels: LabelImage, hw: tuple[int, int], min_iou: float) -> None:
        self._labels = labels
        self._hw = hw
        self._min_iou = min_iou
        self._parent = [0]  # of each number; its own number, unless it was joined to a lower one
        self._cut: set[int] = set()  # objects that the side of a tile cuts off

    def add(self, part: Tile, found: NDArray[np.int32]) -> None:
        """Write the objects of a tile that reach into its core; the others are a neighbour's."""
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
        """Number of each object of the tile: of the objects that it is, or a new one."""
        seen_twice = found.copy()
        seen_twice[part.num_seen_rows :, part.num_seen_columns :] = 0
        compared = PlaneOverlaps()
        compared.add(before, seen_twice)
        pairs = compared.overlaps()
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
            is_rest = (old in self._cut and old_part >= _MIN_CUT_CONTAINMENT) or (
                new in cut_here and new_part >= _MIN_CUT_CONTAINMENT
            )
            if iou >= self._min_iou or is_rest:
                numbers[new] = self._join(numbers[new], old) if new in numbers else self._root(old)
        for new, area in label_areas(found).tolist():
            if new not in numbers and 2 * claimed.get(new, 0) <= area:
                numbers[new] = len(self._parent)
                self._parent.append(numbers[new])
        return numbers

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def _join(self, a: int, b: int) -> int:
        low, high = sorted((self._root(a), self._root(b)))
        self._parent[high] = low
        if high in self._cut:
            self._cut.add(low)
        return low

    def _with_roots(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        numbers, places = np.unique(labels, return_inverse=True)
        roots = np.array([self._root(int(number)) for number in numbers], np.int32)
        return roots[places].reshape(labels.shape)

    def renumber(self, tiles: list[Tile], areas: tuple[float, float], *, exclude_border: bool) -> None:
        """Give joined numbers one number, without gaps, and leave out what is not wanted, core by core."""
        roots = np.array([self._root(number) for number in range(len(self._parent))], np.int32)
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
        """Whether the object of each root has an area within the limits."""
        low, high = areas
        if low <= 1 and high == math.inf:
            return np.ones(len(roots), bool)
        total = np.zeros(len(roots), np.int64)
        for part in tiles:
            labels = np.asarray(self._labels[part.core_rows, part.core_columns])
            total += np.bincount(roots[labels].ravel(), minlength=len(roots))
        return np.asarray((total >= low) & (total <= high))

    def _on_border(self, roots: NDArray[np.int32]) -> NDArray[np.int32]:
        """Roots of the objects that touch a side of the picture."""
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
