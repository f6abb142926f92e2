"""Segment all objects of an image without prompts: decode a grid of points, keep good masks without duplicates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from napari_sam2._arguments import checked_calls
from napari_sam2._errors import PromptError
from napari_sam2.frames.intensity import image_to_rgb
from napari_sam2.inference.automatic.dense_search import DenseDecoder, search_densely
from napari_sam2.inference.automatic.options import (
    DENSE_OPTIONS,
    MICRO_OPTIONS,
    REFERENCE_OPTIONS,
    MaskGeneratorOptions,
)
from napari_sam2.inference.automatic.point_grids import Crop, crop_boxes, near_crop_edge
from napari_sam2.inference.automatic.proposals import Proposals, filter_proposals, passes_thresholds
from napari_sam2.inference.automatic.refinement import ZoomPredictor, candidate_thresholds, refine_proposals
from napari_sam2.inference.masks.boxes import box_area, mask_to_box, nms, stability_score, threshold_logits
from napari_sam2.inference.masks.components import fill_holes, postprocess_masks, remove_small_regions
from napari_sam2.inference.masks.logits import LOGIT_LIMIT
from napari_sam2.inference.prompts.image_predictor import SAM2ImagePredictor
from napari_sam2.inference.views.lattice import WindowLattice, window_sides
from napari_sam2.inference.views.transforms import masks_to_image
from napari_sam2.inference.views.view import View
from napari_sam2.labels.rle import run_lengths

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from napari_sam2._types import MaskRecord
    from napari_sam2.network.sam2 import SAM2

__all__ = [
    "MICRO_OPTIONS",
    "REFERENCE_OPTIONS",
    "MaskGeneratorOptions",
    "PointDecoder",
    "PointPredictor",
    "Progress",
    "Proposals",
    "SAM2AutomaticMaskGenerator",
]

Progress = Callable[[int, int], None]
"""Called with the points done and the points in total."""

_POINT_OPTIONS = (
    "points_per_side",
    "point_spacing_px",
    "point_grids",
    "crop_n_layers",
    "multimask_output",
    "use_m2m",
    "denser_for_small",
    "refine",
)
"""Options that ask for a grid of points."""

_FILTER_OPTIONS = frozenset(
    {
        "box_nms_thresh",
        "crop_nms_thresh",
        "max_overlap",
        "min_region_area_px",
        "output_mode",
        "pred_iou_thresh",
        "stability_score_thresh",
        "tuning",
    }
)

_NO_POINTS = np.zeros((0, 2), np.float32)

_RESIZED_BYTES = 4 * 2**20
"""Size in bytes of the logits resized at a time: small enough for memory that is used again, and for caches."""

_LOGITS_BUDGET = 512 * 2**20
"""Size in bytes of the full-size logits of one batch of points: large images are decoded in smaller batches."""


@runtime_checkable
class PointPredictor(Protocol):
    """The part of ``SAM2ImagePredictor`` that the generator uses."""

    model: SAM2

    def set_image(self, image: NDArray[np.uint8], /) -> object:
        """Set a (H, W, 3) uint8 RGB image."""

    def predict_points(
        self,
        points_xy: NDArray[np.float32],
        *,
        multimask_output: bool = True,
        mask_input: Tensor | None = None,
        window: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode N single clicks (x, y) in image pixels: (N, M, H, W) logits, (N, M) IoU, (N, M, h, w) logits."""


@runtime_checkable
class PointDecoder(Protocol):
    """A ``PointPredictor`` that can leave resizing to the generator, which then resizes fewer masks."""

    def decode_points(
        self,
        points_xy: NDArray[np.float32],
        *,
        multimask_output: bool = True,
        mask_input: Tensor | None = None,
        window: int | None = None,
    ) -> tuple[Tensor, Tensor, list[View]]:
        """Decode N single clicks (x, y): (N, M, h, w) low-resolution logits, (N, M) IoU, and the view of each click."""


@dataclass(frozen=True, eq=False)
class _Search:
    """One part of the search.

    ``area`` is the rectangle of the image to decode and ``points_xy`` (N, 2) the points in its pixels; ``between_xy``
    are additional points for small objects, and ``crop_index`` is the crop that the area belongs to.
    """

    area: Crop
    points_xy: NDArray[np.float32]
    crop_index: int
    between_xy: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Batch:
    """Candidates of one batch of points; as ``Proposals``, with masks (K, h, w) in pixels of the area."""

    masks: Tensor
    boxes_xyxy: Tensor
    iou: Tensor
    stability: Tensor
    points_xy: NDArray[np.float32]

    def rows(self, keep: Tensor) -> _Batch:
        kept_points = self.points_xy[keep.cpu().numpy()]
        return _Batch(self.masks[keep], self.boxes_xyxy[keep], self.iou[keep], self.stability[keep], kept_points)

    @classmethod
    def empty(cls, hw: tuple[int, int], device: torch.device) -> Self:
        scores = torch.zeros(0, device=device)
        boxes = torch.zeros((0, 4), dtype=torch.int64, device=device)
        return cls(torch.zeros((0, *hw), dtype=torch.bool, device=device), boxes, scores, scores, _NO_POINTS)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        masks, boxes, iou, stability = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("masks", "boxes_xyxy", "iou", "stability")
        )
        return cls(masks, boxes, iou, stability, np.concatenate([part.points_xy for part in parts]))


@dataclass(frozen=True, eq=False)
class _Decoded:
    """Masks of N single clicks: logits (N, M, h, w) at the size of the area, or None; predicted IoU (N, M);
    low-resolution logits (N, M, h, w), and the view that these show."""

    full: Tensor | None
    iou: Tensor
    low_res: Tensor
    view: View | None = None


@checked_calls(PromptError)
class SAM2AutomaticMaskGenerator:
    """Segments all objects of an image without prompts.

    Parameters
    ----------
    model : SAM2, SAM2ImagePredictor, str or Path, optional
        A network, or a name or path for ``load_model``; default the bundled model. A predictor is used with its cache;
        its image is replaced.
    options : MaskGeneratorOptions, optional
        Default: ``DENSE_OPTIONS`` if the model has a dense head, as the bundled one does, and ``changes`` name no
        option of point grids; ``MICRO_OPTIONS`` for other models with a native window, otherwise ``REFERENCE_OPTIONS``.
    **changes
        Any field of `MaskGeneratorOptions`, such as ``points_per_side=16``, in place of that in ``options``.

    Attributes
    ----------
    options : MaskGeneratorOptions
        The current options.
    predictor : PointPredictor
        Decodes points.

    Raises
    ------
    PromptError
        If an option does not exist, or a value is not allowed.

    References
    ----------
    .. [1] facebookresearch/sam2, sam2/automatic_mask_generator.py
    """

    def __init__(
        self,
        model: SAM2 | PointPredictor | str | Path | None = None,
        *,
        options: MaskGeneratorOptions | None = None,
        **changes: object,
    ) -> None:
        self.predictor = _as_predictor(model)
        is_windowed = self.predictor.model.config.native_window is not None
        has_dense_maps = isinstance(self.predictor, DenseDecoder) and self.predictor.has_dense_maps
        if options is None:
            options = MICRO_OPTIONS if is_windowed else REFERENCE_OPTIONS
            asks_for_points = any(changes.get(name) is not None for name in _POINT_OPTIONS)
            if changes.get("dense") is not None or (has_dense_maps and not asks_for_points):
                options = DENSE_OPTIONS
            if options.refine and not isinstance(self.predictor, ZoomPredictor):
                options = replace(options, refine=False)
        self.options = options.changed(**changes)
        if self.options.dense is not None and not has_dense_maps:
            raise PromptError(
                f"dense was given for {self.predictor.model.config.name}, which has no dense head; use sam2_micro, or "
                "give points_per_side or point_spacing_px"
            )
        if self.options.refine and not (is_windowed and isinstance(self.predictor, ZoomPredictor)):
            raise PromptError(
                f"refine=True was given for {self.predictor.model.config.name}, which sees the whole image at once; "
                "leave it out, or use a model with a native window such as sam2_micro"
            )

    def generate_masks(self, image: ArrayLike, *, progress: Progress | None = None) -> list[MaskRecord]:
        """Segment everything in an image.

        Parameters
        ----------
        image : (H, W, 3) or (H, W) array-like
            RGB or grey, any real dtype; anything but uint8 RGB is stretched by `image_to_rgb`.
        progress : callable, optional
            Called after each batch with the points done and the points in total; each mask to refine counts as one more
            point. An exception stops the search.

        Returns
        -------
        list of MaskRecord
            Sorted by predicted IoU within a crop, small crops first. Each has the reference's keys:
            ``segmentation``, ``area`` (pixels), ``bbox`` [x, y, width, height], ``predicted_iou``,
            ``point_coords`` [[x, y]], ``stability_score``, ``crop_box`` [x, y, width, height]. No mask is empty. As in
            the reference, the width of ``bbox`` is last minus first column, and likewise the height.

        Raises
        ------
        FrameError
            If ``image`` is not a single image.
        PromptError
            If the options ask for more than a million points on this image.
        """
        return filter_proposals(self._propose(image, progress, only_good=True), self.options)

    generate = generate_masks

    def propose(self, image: ArrayLike, *, progress: Progress | None = None) -> Proposals:
        """All candidates of an image, to be filtered with different thresholds; parameters as in `generate_masks`.

        Empty masks, and masks cut off by a crop or view, are already dropped.

        Raises
        ------
        FrameError
            If the array is empty or is not an image.
        PromptError
            If an argument is not of its type.
        """
        return self._propose(image, progress, only_good=False)

    def filter(self, proposals: Proposals, **changes: object) -> list[MaskRecord]:
        """Apply thresholds to proposals; ``filter(propose(image))`` equals ``generate_masks(image)``.

        Parameters
        ----------
        proposals : Proposals
            From `propose`. No mask is computed again.
        **changes
            Any of ``pred_iou_thresh``, ``stability_score_thresh``, ``box_nms_thresh``, ``crop_nms_thresh``,
            ``min_region_area_px``, ``max_overlap``, ``output_mode`` and ``tuning``, in place of that in ``options``.

        Returns
        -------
        list of MaskRecord
            The masks that pass.

        Raises
        ------
        PromptError
            If another option is given, or a value is not allowed.
        """
        if wrong := sorted(changes.keys() - _FILTER_OPTIONS):
            raise PromptError(
                f"{', '.join(wrong)} cannot change after the search; expected {', '.join(sorted(_FILTER_OPTIONS))}"
            )
        return filter_proposals(proposals, self.options.changed(**changes))

    @torch.inference_mode()
    def _propose(self, image: ArrayLike, progress: Progress | None, *, only_good: bool) -> Proposals:
        rgb = image_to_rgb(image)
        hw = (int(rgb.shape[0]), int(rgb.shape[1]))
        if self.options.dense is not None:
            assert isinstance(self.predictor, DenseDecoder)
            self.predictor.set_image(rgb)
            size = self.predictor.model.image_size
            return search_densely(self.predictor, hw, self.options.dense, self.options, size=size, progress=progress)
        crops = crop_boxes(hw, self.options.crop_n_layers, self.options.crop_overlap_ratio)
        self.options.check_points_on(crops)
        is_windowed = self.predictor.model.config.native_window is not None
        searches = [search for index, crop in enumerate(crops) for search in self._searches(crop, index)]
        num_points, num_done = sum(len(search.points_xy) for search in searches), 0
        refines = self.options.refine
        thresholds = self.options if only_good else None
        if refines:  # candidates below its own thresholds are not refined
            lowest = candidate_thresholds(self.options)
            thresholds = replace(self.options, pred_iou_thresh=lowest[0], stability_score_thresh=lowest[1])
        found = _Collection(hw, crops)
        for search in searches:
            x0, y0, x1, y1 = search.area.box
            self.predictor.set_image(rgb[y0:y1, x0:x1])
            atol = max(search.area.hw) * self.options.tuning.edge_margin if is_windowed else 20.0
            seen: list[_Batch] = []
            for points_xy in (search.points_xy, search.between_xy):
                if points_xy is search.between_xy:
                    if not len(points_xy) or not self._are_small(seen):
                        break
                    num_points += len(points_xy)
                for part in self._parts(points_xy, search.area.hw):
                    batch = self._candidates(part, search.area.hw, thresholds)
                    seen.append(batch.rows(~near_crop_edge(batch.boxes_xyxy, search.area, hw, atol)))
                    found.add(seen[-1], search)
                    num_done += len(part)
                    if progress is not None:
                        progress(num_done, num_points)
        return self._refined(rgb, found.proposals(), num_points, progress) if refines else found.proposals()

    def _refined(
        self, rgb: NDArray[np.uint8], first: Proposals, num_points: int, progress: Progress | None
    ) -> Proposals:
        predictor = self.predictor
        assert isinstance(predictor, ZoomPredictor)
        predictor.set_image(rgb)
        return refine_proposals(
            predictor,
            first,
            self.options,
            side=predictor.model.image_size // 4,
            progress=None if progress is None else lambda done, total: progress(num_points + done, num_points + total),
        )

    def _searches(self, crop: Crop, index: int) -> Iterator[_Search]:
        """The crop itself; or, for models with a native window, views that cover it, fine to coarse.

        Views of the model's native window suit small objects but cut off large ones. They are followed by views of
        twice the side, with half as many points along a side, until one view covers the crop.
        """
        native = self.predictor.model.config.native_window
        if native is None:
            yield _Search(crop, self.options.points_of(crop).astype(np.float32), index, _NO_POINTS)
            return
        for level, side in enumerate(window_sides(crop.hw, native)):
            points_xy = self.options.points_of(crop, level=level)
            between_xy = self.options.points_between(crop) if level == 0 else _NO_POINTS
            lattice = WindowLattice(crop.hw, side)
            nearest, nearest_between = lattice.nearest(points_xy), lattice.nearest(between_xy)
            for number, box in enumerate(lattice.boxes()):
                inside = (points_xy[nearest == number] - box[:2]).astype(np.float32)
                if len(inside):
                    x, y = crop.origin_xy
                    area = Crop((box[0] + x, box[1] + y, box[2] + x, box[3] + y), crop.layer)
                    between = (between_xy[nearest_between == number] - box[:2]).astype(np.float32)
                    yield _Search(area, inside, index, between)

    def _batch_size(self, hw: tuple[int, int]) -> int:
        num_masks = 3 if self.options.multimask_output else 1
        return min(self.options.points_per_batch, max(1, _LOGITS_BUDGET // (4 * num_masks * hw[0] * hw[1])))

    def _parts(self, points_xy: NDArray[np.float32], hw: tuple[int, int]) -> Iterator[NDArray[np.float32]]:
        """The points in batches, as large as memory allows for masks of ``hw``."""
        size = self._batch_size(hw)
        for start in range(0, len(points_xy), size):
            yield points_xy[start : start + size]

    def _are_small(self, seen: Sequence[_Batch]) -> bool:
        """Whether most of the candidates are small compared to the point spacing, so that objects may be missed."""
        options, tuning, spacing = self.options, self.options.tuning, self.options.point_spacing_px
        if spacing is None or not seen:
            return False
        if options.refine:
            lowest = candidate_thresholds(options)
            options = replace(options, pred_iou_thresh=lowest[0], stability_score_thresh=lowest[1])
        iou, stability = torch.cat([batch.iou for batch in seen]), torch.cat([batch.stability for batch in seen])
        is_candidate = torch.from_numpy(passes_thresholds(iou.cpu().numpy(), stability.cpu().numpy(), options))
        boxes = torch.cat([batch.boxes_xyxy for batch in seen]).cpu()[is_candidate]
        boxes = boxes[nms(boxes, iou.cpu()[is_candidate], tuning.same_object_iou)]
        return len(boxes) > 0 and float(box_area(boxes).float().sqrt().median()) < tuning.small_object_ratio * spacing

    def _candidates(
        self, points_xy: NDArray[np.float32], hw: tuple[int, int], thresholds: MaskGeneratorOptions | None
    ) -> _Batch:
        """Masks of a batch of points, without empty ones and those below the thresholds, if there are any.

        Masks are filtered by their predicted IoU before they are resized, and resized a few at a time: large arrays
        would be mapped and zeroed by the system each time.
        """
        options = self.options
        decoded = self._decode(points_xy, hw, multimask_output=options.multimask_output)
        points_xy = points_xy.repeat(decoded.iou.shape[1], axis=0)
        if options.use_m2m:
            given = decoded.low_res.flatten(0, 1).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)[:, None]
            decoded = self._decode(points_xy, hw, multimask_output=False, mask_input=given)
        iou = decoded.iou.flatten().float()
        rows = torch.arange(len(iou), device=iou.device)
        if thresholds is not None and thresholds.pred_iou_thresh > 0:
            rows = rows[iou > thresholds.pred_iou_thresh]
        found = [_Batch.empty(hw, iou.device)]
        for part in rows.split(max(1, _RESIZED_BYTES // (4 * hw[0] * hw[1]))):
            logits = self._resized(decoded, part, hw)
            stability = stability_score(logits, options.mask_threshold, options.stability_score_offset)
            masks = threshold_logits(logits, options.mask_threshold)
            keep = masks.flatten(1).any(1)
            if thresholds is not None:
                good = passes_thresholds(iou[part].cpu().numpy(), stability.cpu().numpy(), thresholds)
                keep &= torch.from_numpy(good).to(keep.device)
            kept = masks[keep]
            points = points_xy[part[keep].cpu().numpy()]
            found.append(_Batch(kept, mask_to_box(kept), iou[part[keep]], stability[keep], points))
        return _Batch.join(found)

    def _decode(
        self,
        points_xy: NDArray[np.float32],
        hw: tuple[int, int],
        *,
        multimask_output: bool,
        mask_input: Tensor | None = None,
    ) -> _Decoded:
        """Decode single clicks in the current area of size ``hw``."""
        native, predictor = self.predictor.model.config.native_window, self.predictor
        options = {"multimask_output": multimask_output, "mask_input": mask_input}
        window = {} if native is None else {"window": max(hw)}  # one view covers the area
        if not isinstance(predictor, PointDecoder):
            return _Decoded(*predictor.predict_points(points_xy, **options, **window))  # type: ignore[arg-type]
        low_res, iou, views = predictor.decode_points(points_xy, **options, **window)  # type: ignore[arg-type]
        return _Decoded(None, iou, low_res, views[0])

    def _resized(self, decoded: _Decoded, rows: Tensor, hw: tuple[int, int]) -> Tensor:
        """(K, h, w) logits of some masks at the size of the area, cleaned up."""
        model, area = self.predictor.model, self.options.min_mask_region_area
        low_res = decoded.low_res.flatten(0, 1)[rows]
        if area > 0 and model.config.native_window is None:
            return postprocess_masks(low_res, hw, max_hole_area=area, max_sprinkle_area=area)
        if decoded.full is not None:
            logits = decoded.full.flatten(0, 1)[rows]
        else:
            assert decoded.view is not None
            logits = masks_to_image(low_res[:, None], decoded.view, hw)[:, 0]
        if area > 0:  # the view may exceed the area: clean up in image pixels
            area_px = area * (max(hw) / (model.image_size / 4)) ** 2
            logits = remove_small_regions(fill_holes(logits, area_px), area_px)
        return logits


class _Collection:
    """Collects candidates batch by batch; masks are stored as run lengths."""

    def __init__(self, hw: tuple[int, int], crops: Sequence[Crop]) -> None:
        self._hw = hw
        self._crops = tuple(crops)
        self._whole = np.zeros(hw, bool)  # used for one mask after the other
        self._runs: list[NDArray[np.int32]] = []
        self._boxes: list[NDArray[np.int64]] = [np.zeros((0, 4), np.int64)]
        self._iou: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
        self._stability: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
        self._points: list[NDArray[np.float32]] = [np.zeros((0, 2), np.float32)]
        self._crop_index: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]

    def add(self, batch: _Batch, search: _Search) -> None:
        area = search.area
        boxes = batch.boxes_xyxy.cpu().numpy() + np.array([*area.origin_xy, *area.origin_xy])
        masks = batch.masks.cpu().numpy()
        x, y, x_end, y_end = area.box
        for mask, (x0, _, x1, _) in zip(masks, boxes, strict=True):
            self._whole[y:y_end, x:x_end] = mask
            self._runs.append(run_lengths(self._whole, (int(x0), int(x1))))
        self._whole[y:y_end, x:x_end] = False
        self._boxes.append(boxes)
        self._iou.append(batch.iou.cpu().numpy())
        self._stability.append(batch.stability.cpu().numpy())
        self._points.append(batch.points_xy + np.array(area.origin_xy, np.float32))
        self._crop_index.append(np.full(len(boxes), search.crop_index))

    def proposals(self) -> Proposals:
        return Proposals(
            hw=self._hw,
            crops=self._crops,
            runs=tuple(self._runs),
            boxes_xyxy=np.concatenate(self._boxes),
            predicted_iou=np.concatenate(self._iou),
            stability=np.concatenate(self._stability),
            points_xy=np.concatenate(self._points),
            crop_index=np.concatenate(self._crop_index),
        )


def _as_predictor(model: SAM2 | PointPredictor | str | Path | None) -> PointPredictor:
    return model if isinstance(model, PointPredictor) else SAM2ImagePredictor(model)
