"""Objects as they are found in files of shapes, and what such files may claim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import FrameError, warn_caller

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_sam2.labels.outlines import Polygon
    from napari_sam2.labels.rle import RLE

__all__ = ["LIMITS", "FoundShape", "Place", "ShapeLimits", "corners_of", "warn_of_others"]

Place = tuple[int | None, int | None]


@dataclass(frozen=True)
class ShapeLimits:
    """What a file of shapes may claim; beyond it is refused, as it would fill memory.

    Attributes
    ----------
    max_text_bytes : int
        Size of a JSON file, which is read as a whole.
    max_coordinate : float
        Of a corner, in pixels.
    max_pixels : int
        Of an image whose size is known from a COCO file alone.
    max_roi_bytes : int
        Decompressed size of all members of a ROI set, unless they are compressed less than ``max_ratio``.
    max_ratio : int
        How many times larger than in the file the members of a ROI set may become above that size.
    """

    max_text_bytes: int = 2**30
    max_coordinate: float = 2.0**31
    max_pixels: int = 2**28
    max_roi_bytes: int = 2**26
    max_ratio: int = 100


LIMITS = ShapeLimits()


@dataclass(frozen=True, eq=False)
class FoundShape:
    """One object on one plane, as polygons or run lengths.

    ``place`` is its position along Z and T, counted from 0, None for all planes; without a position along T, that along
    Z counts all planes. ``channel`` is counted from 0; only in labels that have several channels does it say more than
    which one was shown when the object was drawn.
    """

    object_id: int | None
    place: Place
    polygons: tuple[Polygon, ...] = ()
    rle: RLE | None = None
    channel: int | None = None
    is_of_channel: bool = False


def corners_of(values: Any) -> NDArray[np.float64]:
    ring = np.asarray(values, np.float64)
    if ring.ndim != 2 or ring.shape[1] < 2 or not (np.abs(ring) < LIMITS.max_coordinate).all():
        raise FrameError(f"a ring of shape {ring.shape} was found; expected rows of x, y in pixels")
    return ring[:, :2]


def warn_of_others(path: Path, num_others: int, num_areas: int) -> None:
    if num_others and num_areas:
        warn_caller(f"{path} holds {num_others} points, lines, texts or empty shapes besides areas; they are left out")
