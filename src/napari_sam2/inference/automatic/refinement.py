"""Refine candidate masks: prompt each one again in a crop scaled to its size."""

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

_BATCH = 16


@runtime_checkable
class ZoomPredictor(Protocol):
    """The part of ``SAM2ImagePredictor`` that refinement uses."""

    def predict_zoomed(
        self, points_xy: NDArray[np.float32], boxes_xyxy: NDArray[np.float32], /
    ) -> list[ViewCandidates]:
        """Three candidates for each click (x, y), in a view scaled to its box (x0, y0, x1, y1)."""


class _Outcome(NamedTuple):
    """A refined mask in the rectangle from ``origin_xy``, its scores, and its IoU with the original mask."""

    origin_xy: tuple[int, int]
    mask: NDArray[np.bool_]
    iou: float
    stability: float
    agreement: float
    presence: float


def candidate_thresholds(options: MaskGeneratorOptions) -> tuple[float, float]:
    """Minimum predicted IoU and stability of the candidates to refine; 0 without refinement."""
    if not options.refine:
        return 0.0, 0.0
    return (
        min(options.pred_iou_thresh, options.tuning.refine_min_iou),
        min(options.stability_score_thresh, options.tuning.refine_min_stability),
    )


def refine_proposals(
    predictor: ZoomPredictor,
    first: Proposals,
    options: MaskGeneratorOptions,
    *,
    side: int,
    progress: Callable[[int, int], None] | None = None,
) -> Proposals:
    """Refine the candidates of a first pass.

    Parameters
    ----------
    predictor : ZoomPredictor
        The predictor, with the whole image set.
    first : Proposals
        Candidates from a grid of points.
    options : MaskGeneratorOptions
        Current options. Candidates need to pass the lower `candidate_thresholds` only, so that thresholds can change
        later.
    side : int
        Side of the model's low-resolution masks, for ``min_mask_region_area``.
    progress : callable, optional
        Called with the masks done and the masks in total.

    Returns
    -------
    Proposals
        One candidate for each mask that is reproduced. Predicted IoU and stability are the means of both passes. The
        predicted IoU is multiplied by the square root of the IoU of the two masks, as reproducible masks are more
        likely to be objects, and by the presence probability of the second pass.
    """
    lowest = candidate_thresholds(options)
    loose = replace(
        options,
        pred_iou_thresh=lowest[0],
        stability_score_thresh=lowest[1],
        box_nms_thresh=max(options.box_nms_thresh, options.tuning.refine_box_nms),
        max_overlap=max(options.max_overlap, options.tuning.refine_max_overlap),
    )
    chosen = choose_proposals(first, loose)
    found: list[tuple[int, _Outcome, NDArray[np.float32]]] = []
    for start in range(0, len(chosen.indices), _BATCH):
        rows = range(start, min(start + _BATCH, len(chosen.indices)))
        masks = [decode_rle({"size": list(first.hw), "counts": chosen.runs[row].tolist()}) for row in rows]
        boxes = chosen.boxes_xyxy[start : rows.stop]
        points_xy = np.array([_middle(mask, box) for mask, box in zip(masks, boxes, strict=True)], np.float32)
        edges = boxes.astype(np.float32) + np.array([0, 0, 1, 1], np.float32)
        candidates = predictor.predict_zoomed(points_xy, edges)
        for row, mask, point_xy, found_there in zip(rows, masks, points_xy, candidates, strict=True):
            outcome = _best_candidate(mask, found_there, first.hw, options, side)
            if outcome is not None:
                found.append((int(chosen.indices[row]), outcome, point_xy))
        if progress is not None:
            progress(rows.stop, len(chosen.indices))
    return _as_proposals(first, found)


def _middle(mask: NDArray[np.bool_], box_xyxy: NDArray[np.int64]) -> tuple[float, float]:
    """The pixel (x, y) farthest from the border of a mask."""
    x0, y0, x1, y1 = box_xyxy.tolist()
    distance = ndimage.distance_transform_edt(np.pad(mask[y0 : y1 + 1, x0 : x1 + 1], 1))
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return float(x) - 1 + x0, float(y) - 1 + y0


def _best_candidate(
    before: NDArray[np.bool_], found: ViewCandidates, hw: tuple[int, int], options: MaskGeneratorOptions, side: int
) -> _Outcome | None:
    """The candidate with the best product of scores and IoU with the original mask; None if they do not overlap."""
    view = found.view
    local = F.interpolate(found.logits.float(), size=(view.height, view.width), mode="bilinear", align_corners=False)[0]
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
    iou = found.scores[0].float().cpu().numpy()
    best = int((iou * stability * agreement).argmax())
    if not shared[best]:
        return None
    return _Outcome(
        (x0, y0), masks[best], float(iou[best]), float(stability[best]), float(agreement[best]), found.presence
    )


def _as_proposals(first: Proposals, found: Sequence[tuple[int, _Outcome, NDArray[np.float32]]]) -> Proposals:
    indices = np.array([index for index, _, _ in found], np.intp)
    outcomes = [outcome for _, outcome, _ in found]
    iou = (first.predicted_iou[indices] + np.array([outcome.iou for outcome in outcomes], np.float32)) / 2
    agreement = np.array([outcome.agreement for outcome in outcomes], np.float32)
    presence = np.array([outcome.presence for outcome in outcomes], np.float32)
    stability = (first.stability[indices] + np.array([outcome.stability for outcome in outcomes], np.float32)) / 2
    boxes, runs = np.zeros((len(outcomes), 4), np.int64), []
    for row, (box, run) in enumerate(_in_image(outcomes, first.hw)):
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


def _in_image(
    outcomes: Sequence[_Outcome], hw: tuple[int, int]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32]]]:
    """Box (first and last column and row) and run lengths of each mask in the image."""
    whole = np.zeros(hw, bool)
    for outcome in outcomes:
        x, y = outcome.origin_xy
        h, w = outcome.mask.shape
        box = mask_to_box(outcome.mask) + np.array([x, y, x, y])
        whole[y : y + h, x : x + w] = outcome.mask
        yield box, run_lengths(whole, (int(box[0]), int(box[2])))
        whole[y : y + h, x : x + w] = False
