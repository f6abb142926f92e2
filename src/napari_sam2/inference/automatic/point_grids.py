"""Geometry of automatic segmentation: grids of points, overlapping crops, and non-maximum suppression of boxes."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Crop",
    "WindowLattice",
    "box_area",
    "box_iou",
    "crop_boxes",
    "near_crop_edge",
    "nms",
    "point_grid",
    "point_grids_of_layers",
    "points_by_spacing",
    "window_sides",
]

_NMS_BLOCK = 512
"""Boxes decided one after the other before the rest is thinned out."""

_NMS_CHUNK = 8192
"""Boxes compared with a block at once: bounds the IoU matrix to block x chunk numbers."""


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
        """Top-left corner: what turns crop coordinates into image coordinates when added."""
        return self.box[:2]

    def uncrop_mask(self, mask: NDArray[np.bool_], hw: tuple[int, int]) -> NDArray[np.bool_]:
        """Put a mask of the crop's size into an empty mask of the image's size ``hw``."""
        if self.hw == hw:
            return mask
        x0, y0, x1, y1 = self.box
        whole = np.zeros(hw, bool)
        whole[y0:y1, x0:x1] = mask
        return whole


def crop_boxes(hw: tuple[int, int], num_layers: int, overlap_ratio: float) -> list[Crop]:
    """The whole image, then for each layer i = 1, 2, ... (2^i)^2 overlapping crops, column after column.

    Parameters
    ----------
    hw : tuple of int
        Height and width of the image.
    num_layers : int
        Layers besides the whole image.
    overlap_ratio : float
        Overlap of neighbours in the first layer, as a fraction of the image's shorter side; halved with each layer.

    Returns
    -------
    list of Crop
        Clipped to the image; a crop that would lie wholly outside (tiny images) is left out.
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
    """Centres of a grid of equal cells over the unit square, (num_x * num_y, 2) as (x, y), row after row."""
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


def window_sides(hw: tuple[int, int], smallest: int) -> list[int]:
    """Sides of windows, each twice the one before, up to the first that shows an image of ``hw`` whole."""
    sides = [smallest]
    while sides[-1] < max(hw):
        sides.append(2 * sides[-1])
    return sides


def points_between(hw: tuple[int, int], spacing_px: float) -> NDArray[np.float64]:
    """Points half-way between those of `points_by_spacing`: about three for each of them."""
    num_y, num_x = (max(1, math.ceil(side / spacing_px)) for side in hw)
    x, y = np.meshgrid(np.arange(1, 2 * num_x), np.arange(1, 2 * num_y))
    is_new = (x % 2 == 0) | (y % 2 == 0)
    return np.stack((x[is_new] / (2 * num_x), y[is_new] / (2 * num_y)), 1)


@dataclass(frozen=True)
class WindowLattice:
    """Windows that cover an image evenly, neighbours overlapping by half or a little more.

    Attributes
    ----------
    hw : tuple of int
        Height and width of the image.
    side : int
        Side of the windows in image pixels; where the image is narrower, so are they.
    """

    hw: tuple[int, int]
    side: int

    def boxes(self) -> list[tuple[int, int, int, int]]:
        """(x0, y0, x1, y1) of each window, end exclusive, row after row."""
        (h, w), side = self.hw, self.side
        return [
            (x, y, min(x + side, w), min(y + side, h))
            for y, x in itertools.product(_starts(h, side).tolist(), _starts(w, side).tolist())
        ]

    def nearest(self, points_xy: NDArray[np.floating]) -> NDArray[np.intp]:
        """(N,) index into ``boxes`` of the window whose centre is nearest to each point (x, y)."""
        column, row = (
            np.abs(points_xy[:, axis, None] - _starts(length, self.side) - (min(self.side, length) - 1) / 2).argmin(1)
            for axis, length in enumerate(self.hw[::-1])
        )
        nearest: NDArray[np.intp] = row * len(_starts(self.hw[1], self.side)) + column
        return nearest


def _starts(length: int, side: int) -> NDArray[np.int64]:
    """Where windows begin along one side of the image."""
    free = max(length - side, 0)
    return np.linspace(0, free, math.ceil(2 * free / side) + 1).round().astype(np.int64)


def near_crop_edge(boxes_xyxy: Tensor, crop: Crop, hw: tuple[int, int], atol: float = 20.0) -> Tensor:
    """Whether boxes come close to a side of the crop that is not a side of the image: their masks may be cut off.

    Parameters
    ----------
    boxes_xyxy : (N, 4) tensor
        In pixels of the crop.
    crop : Crop
    hw : tuple of int
        Height and width of the image.
    atol : float, default 20.0
        Distance in pixels, inclusive, that counts as close.

    Returns
    -------
    (N,) bool tensor
    """
    offset = boxes_xyxy.new_tensor([*crop.origin_xy, *crop.origin_xy])
    boxes = boxes_xyxy + offset
    to_crop = (boxes - boxes.new_tensor(crop.box)).abs()
    to_image = (boxes - boxes.new_tensor([0, 0, hw[1], hw[0]])).abs()
    return ((to_crop <= atol) & (to_image > atol)).any(1)


def box_area(boxes_xyxy: Tensor) -> Tensor:
    """(N,) areas of (N, 4) boxes, (x1 - x0) * (y1 - y0)."""
    return (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """(N, M) intersection over union of (N, 4) and (M, 4) float boxes; NaN between two boxes without area."""
    # one plane per side instead of (N, M, 2) corners: twice as fast
    width = torch.minimum(first[:, None, 2], second[None, :, 2]) - torch.maximum(first[:, None, 0], second[None, :, 0])
    height = torch.minimum(first[:, None, 3], second[None, :, 3]) - torch.maximum(first[:, None, 1], second[None, :, 1])
    overlap = width.clamp_(min=0).mul_(height.clamp_(min=0))
    return overlap / (box_area(first)[:, None] + box_area(second)[None] - overlap)


def nms(boxes_xyxy: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression.

    Parameters
    ----------
    boxes_xyxy : (N, 4) tensor
    scores : (N,) tensor
        Of two boxes that overlap too much the one with the higher score stays; the earlier one if they are equal.
    iou_threshold : float
        Boxes overlapping a kept one by more than this are dropped. A box without area is never dropped.

    Returns
    -------
    (K,) int64 tensor
        Indices of the kept boxes, highest score first. Memory grows with N, not with its square.
    """
    order = torch.sort(scores, descending=True, stable=True).indices.cpu()
    boxes = boxes_xyxy.float().cpu()[order]
    alive = torch.ones(len(boxes), dtype=torch.bool)
    for start in range(0, len(boxes), _NMS_BLOCK):
        stop = min(start + _NMS_BLOCK, len(boxes))
        _thin_out_block(boxes[start:stop], alive[start:stop].numpy(), iou_threshold)
        kept = boxes[start:stop][alive[start:stop]]
        for first in range(stop, len(boxes), _NMS_CHUNK):
            rest = slice(first, first + _NMS_CHUNK)
            alive[rest] &= ~_overlap(kept, boxes[rest], iou_threshold).any(0)
    return order[alive].to(scores.device)


def _thin_out_block(boxes: Tensor, alive: NDArray[np.bool_], iou_threshold: float) -> None:
    """Greedy suppression among a few boxes, best first; clears ``alive`` in place."""
    overlap = _overlap(boxes, boxes, iou_threshold).numpy()
    for i in range(len(alive)):
        if alive[i]:
            alive[i + 1 :] &= ~overlap[i, i + 1 :]


def _overlap(first: Tensor, second: Tensor, iou_threshold: float) -> Tensor:
    # the next float32 not above the threshold: compares as if in double, where 0.3 is not rounded up
    limit = np.float32(iou_threshold)
    if float(limit) > iou_threshold:
        limit = np.nextafter(limit, np.float32(-1))
    return box_iou(first, second) > float(limit)
