"""Distances inside the objects of a label image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["distance_to_outline"]


def distance_to_outline(labels: NDArray[Any]) -> NDArray[np.float64]:
    """Distance of each pixel's centre to the outline of its object.

    Parameters
    ----------
    labels : (H, W) integer array
        Objects; the background counts as one object.

    Returns
    -------
    (H, W) float64 array
        In pixels, at least 0.5. The edge of the image is no outline; an image without any outline is as deep as half of
        its longer side.
    """
    inner = np.ones(labels.shape, bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    inner[:, 1:] &= ~across
    inner[:, :-1] &= ~across
    inner[1:] &= ~down
    inner[:-1] &= ~down
    if inner.all():
        return np.full(labels.shape, max(labels.shape) / 2)
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(inner) + 0.5
    return distance
