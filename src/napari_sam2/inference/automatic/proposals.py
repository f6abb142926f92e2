"""Candidate masks of an image, and how they are filtered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_sam2._types import MaskRecord
from napari_sam2.inference.automatic.options import MaskGeneratorOptions, OutputMode
from napari_sam2.inference.automatic.point_grids import Crop
from napari_sam2.inference.automatic.selection import conflicting, most_worth
from napari_sam2.inference.masks.boxes import box_area, mask_to_box, nms
from napari_sam2.inference.masks.components import clean_small_regions
from napari_sam2.labels.rle import RLE, compress_rle, decode_rle, rle_area, run_lengths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["ChosenProposals", "Proposals", "choose_proposals", "filter_proposals", "passes_thresholds"]


@dataclass(frozen=True, eq=False)
class Proposals:
    """Candidate masks of one image before thresholds are applied, in the order in which they were found.

    Attributes
    ----------
    hw : tuple of int
        Height and width of the image.
    crops : tuple of Crop
        The crops that were searched; the first is the whole image.
    runs : tuple of (R,) int32 arrays
        Run lengths of each mask in the image, column by column, beginning with background.
    boxes_xyxy : (K, 4) int64 array
        First and last column and row of each mask, in image pixels.
    predicted_iou, stability : (K,) float32 arrays
    points_xy : (K, 2) float32 array
        The point (x, y) that each mask was decoded from, in image pixels.
    crop_index : (K,) int64 array
        Index into ``crops``.
    """

    hw: tuple[int, int]
    crops: tuple[Crop, ...]
    runs: tuple[NDArray[np.int32], ...]
    boxes_xyxy: NDArray[np.int64]
    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    points_xy: NDArray[np.float32]
    crop_index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.runs)

    def rle(self, index: int) -> RLE:
        """Uncompressed COCO run lengths of one candidate."""
        return {"size": list(self.hw), "counts": self.runs[index].tolist()}


def passes_thresholds(
    predicted_iou: NDArray[np.float32], stability: NDArray[np.float32], options: MaskGeneratorOptions
) -> NDArray[np.bool_]:
    """Whether masks pass: predicted IoU above, stability at or above its threshold; 0 disables a threshold."""
    good = np.ones(len(predicted_iou), bool)
    if options.pred_iou_thresh > 0:
        good &= predicted_iou > np.float32(options.pred_iou_thresh)
    if options.stability_score_thresh > 0:
        good &= stability >= np.float32(options.stability_score_thresh)
    return good


@dataclass(frozen=True, eq=False)
class ChosenProposals:
    """Candidates that pass the filters.

    Attributes
    ----------
    indices : (K,) array
        Indices into the proposals.
    runs : list of (R,) int32 arrays
        Run lengths of the masks, after clean-up.
    boxes_xyxy : (K, 4) int64 array
        First and last column and row.
    """

    indices: NDArray[np.intp]
    runs: list[NDArray[np.int32]]
    boxes_xyxy: NDArray[np.int64]


def filter_proposals(proposals: Proposals, options: MaskGeneratorOptions) -> list[MaskRecord]:
    """The candidates that pass `choose_proposals`, as records."""
    chosen = choose_proposals(proposals, options)
    return [
        _record(proposals, int(index), run, box, options.output_mode)
        for index, run, box in zip(chosen.indices, chosen.runs, chosen.boxes_xyxy, strict=True)
    ]


def choose_proposals(proposals: Proposals, options: MaskGeneratorOptions) -> ChosenProposals:
    """Apply thresholds, suppress duplicates, clean up small regions, and drop covered masks.

    Duplicates are suppressed within each crop (the higher predicted IoU is kept), then between crops (the smaller crop
    is kept), and once more after clean-up (unchanged masks are kept).
    """
    good = np.flatnonzero(passes_thresholds(proposals.predicted_iou, proposals.stability, options))
    kept = [
        _suppress(proposals, good[proposals.crop_index[good] == index], options.box_nms_thresh)
        for index in range(len(proposals.crops))
    ]
    survivors = np.concatenate(kept)
    if len(proposals.crops) > 1:
        areas = box_area(torch.tensor([crop.box for crop in proposals.crops]))
        scores = (1 / areas)[torch.from_numpy(proposals.crop_index[survivors])]
        boxes = torch.from_numpy(proposals.boxes_xyxy[survivors])
        survivors = survivors[nms(boxes, scores, options.crop_nms_thresh).numpy()]
    runs = [proposals.runs[i] for i in survivors]
    boxes_xyxy = proposals.boxes_xyxy[survivors]
    if options.min_region_area_px > 0:
        chosen, runs, boxes_xyxy = _clean(runs, boxes_xyxy, proposals.hw, options)
        survivors = survivors[chosen]
    if options.max_overlap < 1:
        if options.tuning.chooses_together:
            worth = proposals.predicted_iou[survivors] - np.float32(options.pred_iou_thresh)
            visible = most_worth(worth, conflicting(runs, boxes_xyxy, options.max_overlap))
        else:
            sizes = np.array([rle_area(run) for run in runs], np.float32)
            exponent = options.tuning.area_exponent
            quality = proposals.predicted_iou[survivors] * proposals.stability[survivors] * sizes**exponent
            visible = _not_covered(runs, quality, proposals.hw, options.max_overlap)
        survivors, runs, boxes_xyxy = survivors[visible], [runs[i] for i in visible], boxes_xyxy[visible]
    return ChosenProposals(survivors, runs, boxes_xyxy)


def _suppress(proposals: Proposals, indices: NDArray[np.intp], iou_threshold: float) -> NDArray[np.intp]:
    boxes = torch.from_numpy(proposals.boxes_xyxy[indices])
    kept = nms(boxes, torch.from_numpy(proposals.predicted_iou[indices]), iou_threshold)
    survivors: NDArray[np.intp] = indices[kept.numpy()]
    return survivors


def _clean(
    runs: list[NDArray[np.int32]], boxes_xyxy: NDArray[np.int64], hw: tuple[int, int], options: MaskGeneratorOptions
) -> tuple[NDArray[np.int64], list[NDArray[np.int32]], NDArray[np.int64]]:
    """Remove small holes and islands; the indices of masks that are not duplicates, their runs and boxes."""
    new_runs, new_boxes, is_unchanged = list(runs), boxes_xyxy.copy(), np.ones(len(runs), np.float32)
    for i, run in enumerate(runs):
        mask, changed = clean_small_regions(_decode(run, hw), options.min_region_area_px)
        if changed:
            new_runs[i], new_boxes[i], is_unchanged[i] = run_lengths(mask), mask_to_box(mask), 0
    threshold = max(options.box_nms_thresh, options.crop_nms_thresh)
    kept: NDArray[np.int64] = nms(torch.from_numpy(new_boxes), torch.from_numpy(is_unchanged), threshold).numpy()
    return kept, [new_runs[i] for i in kept], new_boxes[kept]


def _not_covered(
    runs: list[NDArray[np.int32]], scores: NDArray[np.float32], hw: tuple[int, int], max_overlap: float
) -> NDArray[np.intp]:
    """Indices of the masks that better ones cover by at most ``max_overlap``, in the given order."""
    covered = np.zeros(hw[0] * hw[1], bool)  # column by column, like the runs
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        ends = np.cumsum(runs[i])
        pixels = np.concatenate([np.arange(a, b) for a, b in zip(ends[0::2], ends[1::2], strict=False)])
        if covered[pixels].sum() <= max_overlap * len(pixels):
            covered[pixels] = True
            kept.append(i)
    return np.sort(np.array(kept, np.intp))


def _record(
    proposals: Proposals, index: int, run: NDArray[np.int32], box_xyxy: NDArray[np.int64], mode: OutputMode
) -> MaskRecord:
    rle: RLE = {"size": list(proposals.hw), "counts": run.tolist()}
    return MaskRecord(
        segmentation=_segmentation(rle, mode),
        area=rle_area(run),
        bbox=_as_xywh(box_xyxy.tolist()),
        predicted_iou=float(proposals.predicted_iou[index]),
        point_coords=[proposals.points_xy[index].tolist()],
        stability_score=float(proposals.stability[index]),
        crop_box=_as_xywh(proposals.crops[int(proposals.crop_index[index])].box),
    )


def _segmentation(rle: RLE, mode: OutputMode) -> RLE | NDArray[np.bool_]:
    if mode == "binary_mask":
        return decode_rle(rle)
    return compress_rle(rle) if mode == "coco_rle" else rle


def _as_xywh(box_xyxy: Sequence[int]) -> list[int]:
    x0, y0, x1, y1 = box_xyxy
    return [x0, y0, x1 - x0, y1 - y0]


def _decode(run: NDArray[np.int32], hw: tuple[int, int]) -> NDArray[np.bool_]:
    return decode_rle({"size": list(hw), "counts": run.tolist()})
