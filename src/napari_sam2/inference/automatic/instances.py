"""Objects from dense maps, divided in several ways: what touches may be one object or more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import expand_labels, watershed

from napari_sam2.inference.automatic.dense_settings import InstanceSettings
from napari_sam2.labels.distances import distance_to_outline
from napari_sam2.network.dense_head import DenseChannel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Instances", "cores", "find_instances", "possible_instances"]


_LEAST_INTERIOR = 0.02  # below this all is background


@dataclass(frozen=True, eq=False)
class Instances:
    """Objects of one zoom and division.

    Attributes
    ----------
    labels : (h, w) int32 array
        Objects from 1 in cells of the maps.
    middles_yx : (N, 2) int array
        Deepest cell of each object.
    boxes : (N, 4) int array
        First row, first column, last row + 1 and last column + 1 of each object, in cells.
    areas : (N,) int array
        In cells.
    widths : (N,) float array
        Diameter of the largest disc that fits into each object, in cells.
    scores : (N,) float32 array
        Mean foreground of each object, 0 to 1.
    """

    labels: NDArray[np.int32]
    middles_yx: NDArray[np.intp]
    boxes: NDArray[np.intp]
    areas: NDArray[np.intp]
    widths: NDArray[np.float64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.areas)


def possible_instances(maps: NDArray[np.float32], settings: InstanceSettings) -> tuple[Instances, ...]:
    """Divide the foreground into objects in two ways; many objects are the same in both.

    Parameters
    ----------
    maps : (C, h, w) float32 array
        Channels of ``DenseHead`` after the sigmoid.
    settings : InstanceSettings
        Thresholds.

    Returns
    -------
    tuple of Instances
        The objects of `find_instances` and of `cores`.
    """
    return find_instances(maps, settings), cores(maps, settings)


def find_instances(maps: NDArray[np.float32], settings: InstanceSettings) -> Instances:
    """Objects around the peaks of the interior, divided where it falls between them, up to their borders.

    Parameters and the result are those of `possible_instances`.
    """
    interior = _interior(maps, settings)
    height = np.log(np.maximum(interior, _LEAST_INTERIOR))
    # flat where peaks are not parted by a saddle that is low enough
    filled = reconstruction(height + np.log(settings.saddle), height, method="dilation")
    seeds, count = ndimage.label(local_maxima(filled) & (interior > settings.lowest_peak), np.ones((3, 3), bool))
    # objects too thin for an inside are one piece of foreground without a seed
    is_object = maps[DenseChannel.FOREGROUND] > settings.foreground
    pieces, num_pieces = ndimage.label(is_object)
    seeded = np.zeros(num_pieces + 1, bool)
    seeded[pieces[seeds > 0]] = True
    alone = ~seeded[pieces] & is_object
    seeds[alone] = count + pieces[alone]
    labels = watershed(-interior, seeds, mask=is_object | (seeds > 0))
    return _measured(maps, interior, labels, settings.min_cells)


def cores(maps: NDArray[np.float32], settings: InstanceSettings) -> Instances:
    """Connected cells with an interior above a threshold, a little expanded.

    Parameters and the result are those of `possible_instances`.
    """
    interior = _interior(maps, settings)
    labels = expand_labels(ndimage.label(interior > settings.core)[0], settings.core_margin)
    labels[maps[DenseChannel.FOREGROUND] < settings.core_foreground] = 0
    return _measured(maps, interior, labels, settings.min_cells)


def _interior(maps: NDArray[np.float32], settings: InstanceSettings) -> NDArray[np.float32]:
    """Foreground that is no border, smoothed."""
    interior: NDArray[np.float32] = ndimage.gaussian_filter(
        maps[DenseChannel.FOREGROUND] * (1 - maps[DenseChannel.BORDER]), settings.smoothing
    )
    return interior


def _measured(
    maps: NDArray[np.float32], interior: NDArray[np.float32], labels: NDArray[np.int32], min_cells: int
) -> Instances:
    """Objects that are large enough, renumbered, with their measures."""
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    kept = np.flatnonzero(areas >= min_cells)
    number = np.zeros(len(areas), np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    labels = number[labels]
    index = np.arange(1, len(kept) + 1)
    if not len(kept):
        none = np.zeros(0, np.intp)
        return Instances(labels, none.reshape(0, 2), none.reshape(0, 4), none, np.zeros(0), np.zeros(0, np.float32))
    boxes = np.array([[r.start, c.start, r.stop, c.stop] for r, c in ndimage.find_objects(labels)], np.intp)
    middles = np.array(ndimage.maximum_position(interior, labels, index), np.intp).reshape(-1, 2)
    scores = np.asarray(ndimage.mean(maps[DenseChannel.FOREGROUND], labels, index), np.float32)
    widths = np.asarray(ndimage.maximum(distance_to_outline(labels), labels, index))
    return Instances(labels, middles, boxes, areas[kept], 2 * widths, scores)
