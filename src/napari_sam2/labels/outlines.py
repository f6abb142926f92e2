"""Masks as polygons along the edges of their pixels, and polygons as masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from skimage.draw import polygon

from napari_sam2.labels.components import find_pieces
from napari_sam2.labels.overlaps import label_areas

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Polygon", "fill_polygons", "label_polygons", "label_windows", "mask_polygons"]

Polygon = list["NDArray[np.float64]"]
"""Rings of (N, 2) x, y corners in pixels, the first not repeated at the end: the outer ring, then its holes.

The upper left corner of the upper left pixel is (0, 0), as in ImageJ and QuPath; a pixel belongs to the object if its
centre, half a pixel further, lies inside.
"""


def mask_polygons(mask: NDArray[np.bool_]) -> list[Polygon]:
    """Outline a mask.

    Parameters
    ----------
    mask : (H, W) bool array
        True inside.

    Returns
    -------
    list of Polygon
        One per component (pixels that share an edge), so that `fill_polygons` gives back the mask pixel for pixel.
    """
    numbers, areas = find_pieces(mask, connectivity=4)
    found = ndimage.find_objects(numbers)
    polygons: list[Polygon] = []
    for number in range(1, len(areas)):
        rows, columns = found[number - 1]
        rings = _trace(numbers[rows, columns] == number)
        if len(rings) > 1:
            rings.sort(key=_signed_area, reverse=True)  # the outer ring is the only one that runs clockwise
        polygons.append([ring + np.array([columns.start, rows.start]) for ring in rings])
    return polygons


def label_polygons(labels: NDArray[np.integer[Any]]) -> Iterator[tuple[int, list[Polygon]]]:
    """The id and polygons of each object of an (H, W) label image, ascending."""
    for object_id, window in label_windows(labels):
        start = np.array([window[1].start, window[0].start])
        polygons = mask_polygons(labels[window] == object_id)
        yield object_id, [[ring + start for ring in rings] for rings in polygons]


def label_windows(labels: NDArray[np.integer[Any]]) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """The id of each object of an (H, W) label image, ascending, and the rows and columns that hold it."""
    ids = label_areas(labels)[:, 0]
    dense, numbers = labels, ids
    if len(ids) and ids[-1] > labels.size:  # scipy lists a window for every number up to the largest
        dense, numbers = np.searchsorted(np.append(0, ids), labels), np.arange(1, len(ids) + 1)
    windows = ndimage.find_objects(dense)
    for object_id, number in zip(ids.tolist(), numbers.tolist(), strict=True):
        yield object_id, windows[number - 1]


def fill_polygons(polygons: Sequence[Polygon], hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The (H, W) mask of polygons: pixels whose centre lies inside an odd number of the rings of one of them."""
    mask = np.zeros(hw, bool)
    for rings in polygons:
        inside = np.zeros(hw, bool)
        for ring in rings:
            corners = np.asarray(ring, np.float64) - 0.5
            inside[polygon(corners[:, 1], corners[:, 0], hw)] ^= True
        mask |= inside
    return mask


def _trace(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Rings of corners along the pixel edges of a mask, which lies to the right of them; none touches itself."""
    padded = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), bool)
    inner = padded[1:-1, 1:-1]
    inner[:] = mask
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    #        neighbour that is outside, from corner, to corner (x, y)
    edges = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    for neighbour, start, end in edges:
        rows, columns = (inner & ~neighbour).nonzero()
        for y, x in zip(rows.tolist(), columns.tolist(), strict=True):
            following.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))
    rings: list[NDArray[np.float64]] = []
    while following:
        path = [next(iter(following))]
        position = {path[0]: 0}
        while True:
            corner = path[-1]
            ends = following[corner]
            nearest = ends.pop()
            if not ends:
                del following[corner]
            if nearest in position:  # closes a ring, perhaps one that hangs on a corner of the path
                begin = position[nearest]
                rings.append(np.array(_without_straight(path[begin:]), np.float64))
                for left in path[begin + 1 :]:
                    del position[left]
                del path[begin + 1 :]
                if begin == 0 and nearest not in following:
                    break
                continue
            position[nearest] = len(path)
            path.append(nearest)
    return rings


def _without_straight(ring: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The corners at which a ring turns; corners that follow each other differ in one coordinate."""
    before, after = ring[-1:] + ring[:-1], ring[1:] + ring[:1]
    return [
        at
        for last, at, following in zip(before, ring, after, strict=True)
        if last[0] != following[0] and last[1] != following[1]
    ]


def _signed_area(ring: NDArray[np.float64]) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2
