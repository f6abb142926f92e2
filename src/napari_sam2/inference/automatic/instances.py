"""Objects from dense maps: seeds in the middle of objects, grown to their borders by a watershed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from napari_sam2.inference.automatic.dense_settings import InstanceSettings
from napari_sam2.labels.distances import distance_to_outline
from napari_sam2.network.dense_head import DenseChannel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Instances", "find_instances"]


@dataclass(frozen=True, eq=False)
class Instances:
    """Objects of one zoom.

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


def find_instances(maps: NDArray[np.float32], settings: InstanceSettings) -> Instances:
    """Divide the foreground into objects.

    Parameters
    ----------
    maps : (C, h, w) float32 array
        Channels of ``DenseHead`` after the sigmoid.
    settings : InstanceSettings
        Thresholds.

    Returns
    -------
    Instances
        In the order of their seeds.
    """
    foreground = maps[DenseChannel.FOREGROUND]
    interior = ndimage.gaussian_filter(foreground * (1 - maps[DenseChannel.BORDER]), settings.smoothing)
    is_object = foreground > settings.foreground
    seeds, count = ndimage.label(interior > settings.seed)
    # objects too thin for an inside are one piece of foreground without a seed
    pieces, num_pieces = ndimage.label(is_object)
    seeded = np.zeros(num_pieces + 1, bool)
    seeded[pieces[seeds > 0]] = True
    alone = ~seeded[pieces] & is_object
    seeds[alone] = count + pieces[alone]
    labels = watershed(-interior, seeds, mask=is_object | (seeds > 0))
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    kept = np.flatnonzero(areas >= settings.min_cells)
    number = np.zeros(len(areas), np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    labels = number[labels]
    index = np.arange(1, len(kept) + 1)
    if not len(kept):
        none = np.zeros(0, np.intp)
        return Instances(labels, none.reshape(0, 2), none.reshape(0, 4), none, np.zeros(0), np.zeros(0, np.float32))
    boxes = np.array([[r.start, c.start, r.stop, c.stop] for r, c in ndimage.find_objects(labels)], np.intp)
    middles = np.array(ndimage.maximum_position(interior, labels, index), np.intp).reshape(-1, 2)
    scores = np.asarray(ndimage.mean(foreground, labels, index), np.float32)
    widths = np.asarray(ndimage.maximum(distance_to_outline(labels), labels, index))
    return Instances(labels, middles, boxes, areas[kept], 2 * widths, scores)
