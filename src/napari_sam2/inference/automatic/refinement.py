"""Automatic masks looked at once more: each promising one in a window of the size that the model knows best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch.nn.functional as F
from scipy import ndimage

from napari_sam2.inference.automatic.options import MaskGeneratorOptions
from napari_sam2.inference.automatic.proposals import Proposals, choose_proposals
from napari_sam2.inference.masks.boxes import mask_to_box, stability_score, threshold_logits
from napari_sam2.inference.masks.components import fill_holes, remove_small_regions
from napari_sam2.labels.rle import decode_rle, run_lengths

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.inference.views.click_search import ViewCandidates

__all__ = ["ZoomPredictor", "candidate_thresholds", "refine_proposals"]

# Measured on 20 training images of nine kinds, as mean AP at IoU 0.5 / mean over 0.5 to 0.9, each with the thresholds
# that suit it: masks of the first look 0.35 / 0.21; with the outline of the second look 0.35 / 0.23; with its scores
# too 0.34 / 0.24; with the scores of both and their agreement 0.385 / 0.25. A box prompt in place of the click finds
# outlines as well, but its scores tell nothing: it was trained on boxes of objects only (0.25 / 0.15).
_PROMISING_IOU = 0.35
_PROMISING_STABILITY = 0.5
_SAME_BOX = 0.8
_MAX_OVERLAP = 0.6
_BATCH = 16


@runtime_checkable
class ZoomPredictor(Protocol):
    """What a second look needs of ``SAM2ImagePredictor``."""

    def predict_zoomed(
        self, points_xy: NDArray[np.float32], boxes_xyxy: NDArray[np.float32], /
    ) -> list[ViewCandidates]:
        """Three candidates of each click (x, y), in a window that shows its box (x0, y0, x1, y1) at a good size."""


class _Outcome(NamedTuple):
    """A mask in its rectangle of the image from ``origin_xy``, its scores, and its IoU with the mask before."""

    origin_xy: tuple[int, int]
    mask: NDArray[np.bool_]
    iou: float
    stability: float
    agreement: float
    presence: float


def candidate_thresholds(options: MaskGeneratorOptions) -> tuple[float, float]:
    """Predicted IoU and stability that a mask needs at first to be a candidate; 0 where every mask is one."""
    if not options.refine:
        return 0.0, 0.0
    return (
        min(options.pred_iou_thresh, _PROMISING_IOU),
        min(options.stability_score_thresh, _PROMISING_STABILITY),
    )


def refine_proposals(
    predictor: ZoomPredictor,
    first: Proposals,
    options: MaskGeneratorOptions,
    *,
    side: int,
    progress: Callable[[int, int], None] | None = None,
) -> Proposals:
    """Second looks at the promising and different masks of a first one.

    Parameters
    ----------
    predictor : ZoomPredictor
        With the whole image set.
    first : Proposals
        What was found by a grid of points.
    options : MaskGeneratorOptions
        Current options. Candidates need to pass the lower `candidate_thresholds` only, so that thresholds can change
        later.
    side : int
        Of the model's low-resolution masks, for ``min_mask_region_area``.
    progress : callable, optional
        Called with the masks looked at and in all.

    Returns
    -------
    Proposals
        One candidate for each that is not empty. Predicted IoU and stability are the means of both looks, the first
        times the root of the IoU of their masks: what is seen twice is more likely to be there. The predicted IoU is
        also multiplied by how likely there is an object at all, as the model says at the second look.
    """
    lowest = candidate_thresholds(options)
    loose = replace(
        options,
        pred_iou_thresh=lowest[0],
        stability_score_thresh=lowest[1],
        box_nms_thresh=max(options.box_nms_thresh, _SAME_BOX),
        max_overlap=max(options.max_overlap, _MAX_OVERLAP),
    )
    chosen = choose_proposals(first, loose)
    found: list[tuple[int, _Outcome, NDArray[np.float32]]] = []
    for start in range(0, len(chosen.indices), _BATCH):
        rows = range(start, min(start + _BATCH, len(chosen.indices)))
        masks = [decode_rle({"size": list(first.hw), "counts": chosen.runs[row].tolist()}) for row in rows]
        boxes = chosen.boxes_xyxy[start : rows.stop]
        points_xy = np.array([_middle(mask, box) for mask, box in zip(masks, boxes, strict=True)], np.float32)
        edges = boxes.astype(np.float32) + np.array([0, 0, 1, 1], np.float32)
        looks = predictor.predict_zoomed(points_xy, edges)
        for row, mask, point_xy, look in zip(rows, masks, points_xy, looks, strict=True):
            outcome = _best_candidate(mask, look, first.hw, options, side)
            if outcome is not None:
                found.append((int(chosen.indices[row]), outcome, point_xy))
        if progress is not None:
            progress(rows.stop, len(chosen.indices))
    return _as_proposals(first, found)


def _middle(mask: NDArray[np.bool_], box_xyxy: NDArray[np.int64]) -> tuple[float, float]:
    """Pixel (x, y) farthest from the border of a mask."""
    x0, y0, x1, y1 = box_xyxy.tolist()
    distance = ndimage.distance_transform_edt(np.pad(mask[y0 : y1 + 1, x0 : x1 + 1], 1))
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return float(x) - 1 + x0, float(y) - 1 + y0


def _best_candidate(
    before: NDArray[np.bool_], look: ViewCandidates, hw: tuple[int, int], options: MaskGeneratorOptions, side: int
) -> _Outcome | None:
    """The candidate of a look with the best scores and likeness to the mask before; None if it is empty."""
    view = look.view
    local = F.interpolate(look.logits.float(), size=(view.height, view.width), mode="bilinear", align_corners=False)[0]
    x0, y0 = max(view.x, 0), max(view.y, 0)
    x1, y1 = min(view.x + view.width, hw[1]), min(view.y + view.height, hw[0])
    local = local[:, y0 - view.y : y1 - view.y, x0 - view.x : x1 - view.x]
    if options.min_mask_region_area > 0:
        area_px = options.min_mask_region_area * (view.width / side) ** 2
        local = remove_small_regions(fill_holes(local, area_px), area_px)
    stability = stability_score(local, options.mask_threshold, options.stability_score_offset).cpu().numpy()
    masks = threshold_logits(local, options.mask_threshold).cpu().numpy()
    shared = (masks & before[y0:y1, x0:x1]).sum((1, 2))
    agreement = shared / np.maximum(masks.sum((1, 2)) + before.sum() - shared, 1)
    iou = look.scores[0].float().cpu().numpy()
    best = int((iou * stability * agreement).argmax())
    if not shared[best]:
        return None
    return _Outcome(
        (x0, y0), masks[best], float(iou[best]), float(stability[best]), float(agreement[best]), look.presence
    )


def _as_proposals(first: Proposals, found: Sequence[tuple[int, _Outcome, NDArray[np.float32]]]) -> Proposals:
    indices = np.array([index for index, _, _ in found], np.intp)
    looks = [outcome for _, outcome, _ in found]
    iou = (first.predicted_iou[indices] + np.array([look.iou for look in looks], np.float32)) / 2
    agreement = np.array([look.agreement for look in looks], np.float32)
    presence = np.array([look.presence for look in looks], np.float32)
    stability = (first.stability[indices] + np.array([look.stability for look in looks], np.float32)) / 2
    boxes, runs = np.zeros((len(looks), 4), np.int64), []
    for row, (box, run) in enumerate(_in_image(looks, first.hw)):
        boxes[row] = box
        runs.append(run)
    return Proposals(
        hw=first.hw,
        crops=first.crops,
        runs=tuple(runs),
        boxes_xyxy=boxes,
        predicted_iou=(iou * np.sqrt(agreement) * presence).astype(np.float32),
        stability=stability.astype(np.float32),
        points_xy=np.array([point for _, _, point in found], np.float32).reshape(-1, 2),
        crop_index=first.crop_index[indices],
    )


def _in_image(looks: Sequence[_Outcome], hw: tuple[int, int]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32]]]:
    """Box (first and last column and row) and run lengths of each mask in the image."""
    whole = np.zeros(hw, bool)
    for look in looks:
        x, y = look.origin_xy
        h, w = look.mask.shape
        box = mask_to_box(look.mask) + np.array([x, y, x, y])
        whole[y : y + h, x : x + w] = look.mask
        yield box, run_lengths(whole, (int(box[0]), int(box[2])))
        whole[y : y + h, x : x + w] = False
