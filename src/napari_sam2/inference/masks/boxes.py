"""Bounding boxes, non-maximum suppression and stability scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from napari_sam2.inference.masks.components import MaskArray

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = ["box_area", "box_iou", "nms"]

_NMS_BLOCK = 512
"""Boxes suppressed one by one before the rest is compared with the survivors."""

_NMS_CHUNK = 8192
"""Boxes compared with a block at a time, which limits the IoU matrix to block x chunk."""


def box_area(boxes_xyxy: Tensor) -> Tensor:
    """(N,) areas of (N, 4) boxes, (x1 - x0) * (y1 - y0)."""
    return (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """(N, M) intersection over union of (N, 4) and (M, 4) float boxes; NaN between two boxes without area."""
    # separate arrays for x and y are twice as fast as (N, M, 2) corners
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
        Of two overlapping boxes the one with the higher score is kept; the first one if scores are equal.
    iou_threshold : float
        Boxes with a higher IoU with a kept box are dropped. Boxes without area are never dropped.

    Returns
    -------
    (K,) int64 tensor
        Indices of the kept boxes, highest score first. Memory is linear in N.
    """
    order = torch.sort(scores, descending=True, stable=True).indices.cpu()
    boxes = boxes_xyxy.float().cpu()[order]
    alive = torch.ones(len(boxes), dtype=torch.bool)
    for start in range(0, len(boxes), _NMS_BLOCK):
        stop = min(start + _NMS_BLOCK, len(boxes))
        _suppress_block(boxes[start:stop], alive[start:stop].numpy(), iou_threshold)
        kept = boxes[start:stop][alive[start:stop]]
        for first in range(stop, len(boxes), _NMS_CHUNK):
            rest = slice(first, first + _NMS_CHUNK)
            alive[rest] &= ~_overlap(kept, boxes[rest], iou_threshold).any(0)
    return order[alive].to(scores.device)


def _suppress_block(boxes: Tensor, alive: NDArray[np.bool_], iou_threshold: float) -> None:
    """Greedy suppression within a block of boxes sorted by score; updates ``alive`` in place."""
    overlap = _overlap(boxes, boxes, iou_threshold).numpy()
    for i in range(len(alive)):
        if alive[i]:
            alive[i + 1 :] &= ~overlap[i, i + 1 :]


def _overlap(first: Tensor, second: Tensor, iou_threshold: float) -> Tensor:
    # round the threshold down in float32, so that the comparison equals one in double precision
    limit = np.float32(iou_threshold)
    if float(limit) > iou_threshold:
        limit = np.nextafter(limit, np.float32(-1))
    return box_iou(first, second) > float(limit)


def threshold_logits(logits: Tensor, threshold: float = 0.0) -> Tensor:
    """Bool masks of the same shape: True where logits exceed the threshold."""
    return logits > threshold


def mask_to_box(masks: MaskArray) -> MaskArray:
    """Tight boxes around masks.

    Parameters
    ----------
    masks : (..., H, W) bool array or tensor

    Returns
    -------
    (..., 4) int64 array or tensor
        First and last column and row of each mask as (x0, y0, x1, y1), both inclusive; zeros for an empty mask.
    """
    if isinstance(masks, Tensor):
        return cast("MaskArray", _boxes_of_tensor(masks))
    boxes = _boxes_of_tensor(torch.from_numpy(np.array(masks, dtype=bool)))
    return cast("MaskArray", boxes.numpy())


def _boxes_of_tensor(masks: Tensor) -> Tensor:
    columns = masks.any(-2).to(torch.uint8)
    rows = masks.any(-1).to(torch.uint8)
    h, w = masks.shape[-2:]
    # argmax finds the first 1; on the flipped array, the last one
    x0, y0 = columns.argmax(-1), rows.argmax(-1)
    x1, y1 = w - 1 - columns.flip(-1).argmax(-1), h - 1 - rows.flip(-1).argmax(-1)
    return torch.stack((x0, y0, x1, y1), -1) * columns.any(-1)[..., None]


def stability_score(logits: Tensor, threshold: float = 0.0, offset: float = 1.0) -> Tensor:
    """How stable a mask is when its threshold changes.

    Parameters
    ----------
    logits : (..., H, W) tensor
    threshold : float, default 0.0
        Threshold of the mask.
    offset : float, default 1.0
        The threshold is raised and lowered by this many logits.

    Returns
    -------
    (...) float32 tensor
        Area at the higher threshold divided by area at the lower one, 0 to 1; 0 if both are empty (the reference
        returns NaN).
    """
    high = (logits > threshold + offset).sum((-2, -1))
    low = (logits > threshold - offset).sum((-2, -1))
    return high / low.clamp(min=1)
