"""Grids of points and overlapping crops for automatic segmentation."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Crop", "crop_boxes", "near_crop_edge", "point_grid", "point_grids_of_layers", "points_by_spacing"]


@dataclass(frozen=True)
class Crop:
    """A rectangle of the image, in image pixels: ``box`` (x0, y0, x1, y1), end exclusive, of crop layer ``layer``."""

    box: tuple[int, int, int, int]
    layer: int

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width."""
        x0, y0, x1, y1 = self.box
        return (y1 - y0, x1 - x0)

    @property
    def origin_xy(self) -> tuple[int, int]:
        """Top-left corner (x, y), the offset of crop coordinates in the image."""
        return self.box[:2]


def crop_boxes(hw: tuple[int, int], num_layers: int, overlap_ratio: float) -> list[Crop]:
    """The whole image, then (2^i)^2 overlapping crops for each layer i = 1, 2, ..., column by column.

    Parameters
    ----------
    hw : tuple of int
        Height and width of the image.
    num_layers : int
        Number of layers in addition to the whole image.
    overlap_ratio : float
        Overlap of neighbours in the first layer, as a fraction of the image's shorter side; halved in each layer.

    Returns
    -------
    list of Crop
        Clipped to the image; crops outside a tiny image are dropped.
    """
    h, w = hw
    crops = [Crop((0, 0, w, h), 0)]
    for layer in range(1, num_layers + 1):
        per_side = 2**layer
        overlap = int(overlap_ratio * min(h, w) * 2 / per_side)
        crop_h, crop_w = (math.ceil((overlap * (per_side - 1) + side) / per_side) for side in (h, w))
        corners = itertools.product(
            (i * (crop_w - overlap) for i in range(per_side)), (i * (crop_h - overlap) for i in range(per_side))
        )
        crops.extend(
            Crop((x0, y0, min(x0 + crop_w, w), min(y0 + crop_h, h)), layer) for x0, y0 in corners if x0 < w and y0 < h
        )
    return crops


def point_grid(num_x: int, num_y: int | None = None) -> NDArray[np.float64]:
    """Centres of a grid of equal cells over the unit square, (num_x * num_y, 2) as (x, y), row by row."""
    num_y = num_x if num_y is None else num_y
    half_x, half_y = 0.5 / num_x, 0.5 / num_y
    x, y = np.meshgrid(np.linspace(half_x, 1 - half_x, num_x), np.linspace(half_y, 1 - half_y, num_y))
    return np.stack((x.ravel(), y.ravel()), 1)


def point_grids_of_layers(points_per_side: int, num_layers: int, downscale: int) -> list[NDArray[np.float64]]:
    """One square grid per crop layer; each layer has ``downscale`` times fewer points per side, at least one."""
    return [point_grid(max(1, int(points_per_side / downscale**layer))) for layer in range(num_layers + 1)]


def points_by_spacing(hw: tuple[int, int], spacing_px: float) -> NDArray[np.float64]:
    """Grid over the unit square whose points lie about ``spacing_px`` image pixels apart in an image of ``hw``."""
    num_y, num_x = (max(1, math.ceil(side / spacing_px)) for side in hw)
    return point_grid(num_x, num_y)


def points_between(hw: tuple[int, int], spacing_px: float) -> NDArray[np.float64]:
    """Points half-way between those of `points_by_spacing`, about three for each of them."""
    num_y, num_x = (max(1, math.ceil(side / spacing_px)) for side in hw)
    x, y = np.meshgrid(np.arange(1, 2 * num_x), np.arange(1, 2 * num_y))
    is_new = (x % 2 == 0) | (y % 2 == 0)
    return np.stack((x[is_new] / (2 * num_x), y[is_new] / (2 * num_y)), 1)


def near_crop_edge(boxes_xyxy: Tensor, crop: Crop, hw: tuple[int, int], atol: float = 20.0) -> Tensor:
    """Whether boxes are close to an edge of the crop that is not an edge of the image, so that masks may be cut off.

    Parameters
    ----------
    boxes_xyxy : (N, 4) tensor
        In pixels of the crop.
    crop : Crop
    hw : tuple of int
        Height and width of the image.
    atol : float, default 20.0
        Maximum distance in pixels, inclusive.

    Returns
    -------
    (N,) bool tensor
    """
    offset = boxes_xyxy.new_tensor([*crop.origin_xy, *crop.origin_xy])
    boxes = boxes_xyxy + offset
    to_crop = (boxes - boxes.new_tensor(crop.box)).abs()
    to_image = (boxes - boxes.new_tensor([0, 0, hw[1], hw[0]])).abs()
    return ((to_crop <= atol) & (to_image > atol)).any(1)
