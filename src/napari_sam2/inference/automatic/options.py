"""Options of the mask generator, with defaults for two families of models."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from napari_sam2._checks import as_numbers, check_choice, check_count, check_flag, check_number
from napari_sam2._errors import PromptError
from napari_sam2._messages import Message, Option, shown
from napari_sam2.inference.automatic.dense_settings import DenseSettings
from napari_sam2.inference.automatic.point_grids import Crop, point_grids_of_layers, points_between, points_by_spacing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "DENSE_OPTIONS",
    "MAX_POINTS",
    "MICRO_OPTIONS",
    "REFERENCE_OPTIONS",
    "GeneratorTuning",
    "MaskGeneratorOptions",
    "OutputMode",
]

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]


MAX_POINTS = 1_000_000
"""Points on one image at most: a larger image is segmented in tiles, see ``segment_tiled``."""

_MAX_POINTS_PER_SIDE = 1000
_MAX_CROP_LAYERS = 6
_SOURCES = ("points_per_side", "point_spacing_px", "point_grids", "dense")


@dataclass(frozen=True)
class GeneratorTuning:
    """Constants of the mask generator that were tuned on training images.

    Attributes
    ----------
    small_object_ratio : float
        With ``denser_for_small``: objects count as small if the side of their box is below this multiple of the point
        spacing. On 15 training images AP at IoU 0.5 rises from 0.550 to 0.612 with 1.4; with 2.0, larger nuclei are
        split more often than small ones are found.
    same_object_iou : float
        IoU of boxes above which two masks count as one object when sizes are compared.
    edge_margin : float
        Masks closer to the view's edge than this fraction of its side count as cut off. Masks that a view cuts off end
        a few pixels before its edge.
    area_exponent : float
        Exponent of the area in the score that decides which of two overlapping masks is kept, in favour of whole
        objects over their parts: 0.1 means 7 % more for twice the area.
    chooses_together : bool
        Of masks that overlap by more than ``max_overlap``, those are kept of which the predicted IoU exceeds its
        threshold by most in sum, instead of one after the other by that score.
    refine_min_iou, refine_min_stability : float
        Predicted IoU and stability of the candidates to refine; lower thresholds in the options take precedence.
    refine_box_nms, refine_max_overlap : float
        Duplicates among candidates are suppressed with at least these values of ``box_nms_thresh`` and ``max_overlap``.

    Notes
    -----
    Refinement was measured on 20 training images of nine kinds, as mean AP at IoU 0.5 / mean over 0.5 to 0.9, each with
    the best thresholds: first masks 0.35 / 0.21; with refined outlines 0.35 / 0.23; with the refined scores too
    0.34 / 0.24; with both scores and the agreement of the masks 0.385 / 0.25. Box prompts in place of clicks give good
    outlines but uninformative scores, as boxes were trained on objects only (0.25 / 0.15).
    """

    small_object_ratio: float = 1.4
    same_object_iou: float = 0.5
    edge_margin: float = 1 / 16
    area_exponent: float = 0.1
    chooses_together: bool = False
    refine_min_iou: float = 0.35
    refine_min_stability: float = 0.5
    refine_box_nms: float = 0.8
    refine_max_overlap: float = 0.6


@dataclass(frozen=True, eq=False)
class MaskGeneratorOptions:
    """How objects are detected and which masks are kept; the defaults are those of the reference.

    Attributes
    ----------
    points_per_side : int or None
        Points along each side of the image, 1 to 1,000. Exactly one of this, ``point_spacing_px``, ``point_grids`` and
        ``dense`` is given.
    point_spacing_px : float or None
        Distance between neighbouring points in image pixels, from 1, independent of the size of the image.
    point_grids : sequence of (N, 2) arrays or None
        Points (x, y) between 0 and 1, one grid for the whole image and one for each crop layer.
    dense : DenseSettings or None
        Instead of points: describe the whole image by its foreground and borders in one pass, divide it into objects
        in several ways, and give each of them to the mask decoder as a box. Much faster than a grid of points. Only
        for models with a dense head, such as sam2_micro; without crops.
    points_per_batch : int
        Maximum number of points decoded together.
    multimask_output : bool
        Three candidates per point (part, whole, more) instead of one.
    use_m2m : bool
        Decode each mask once more, as a mask prompt with its point, before it is scored.
    mask_threshold : float
        Logit above which a pixel is part of the mask.
    pred_iou_thresh : float
        Predicted IoU must be above this, 0 to 1; 0 keeps all.
    stability_score_thresh : float
        Stability must be at least this, 0 to 1; 0 keeps all.
    stability_score_offset : float
        Logits by which the threshold is raised and lowered to measure stability.
    box_nms_thresh : float
        Of two masks of one crop whose boxes have a higher IoU, the one with the lower predicted IoU is dropped.
    crop_n_layers : int
        Search again in crops: layer i has (2^i)^2 of them. 0 to 6.
    crop_nms_thresh : float
        Of two masks whose boxes have a higher IoU, the one from the larger crop is dropped.
    crop_overlap_ratio : float
        Overlap of crops in the first layer, as a fraction of the image's shorter side.
    crop_n_points_downscale_factor : int
        Each crop layer has this many times fewer points per side than the one before.
    min_mask_region_area : float
        Holes and islands of at most this many low-resolution pixels (a quarter of the model's input) are flipped at
        logit 0. The reference does this only if its CUDA extension was built; here it works on every device.
    min_region_area_px : float
        Holes and islands of the kept masks below this many image pixels are filled or removed; masks that become
        duplicates are suppressed. Called ``min_mask_region_area`` in SAM 1.
    max_overlap : float
        Fraction of a mask that better masks may cover; masks covered more are dropped. Better is a higher product of
        predicted IoU and stability, slightly in favour of whole objects over their parts. 1 keeps all masks, including
        parts, as the reference does; lower values suit objects that lie side by side.
    denser_for_small : bool
        Add points half-way between the others where the masks found are small compared to the point spacing. Only for
        models with a native window, with ``point_spacing_px``, in the views of that size.
    refine : bool
        Prompt each candidate mask again, by a click in its middle, in a crop scaled to its size. This refines outlines;
        masks that are not reproduced, or have a low presence score, are down-weighted. Only for models with a native
        window. Candidates then need a predicted IoU above 0.35 and a stability of at least 0.5 in the first pass, or
        the two thresholds above if those are lower.
    output_mode : {"binary_mask", "uncompressed_rle", "coco_rle"}
        Format of ``segmentation`` in the records.
    tuning : GeneratorTuning
        Tuned constants.

    Raises
    ------
    PromptError
        If a value is not allowed.
    """

    points_per_side: int | None = 32
    point_spacing_px: float | None = None
    point_grids: Sequence[ArrayLike] | None = None
    dense: DenseSettings | None = None
    points_per_batch: int = 64
    multimask_output: bool = True
    use_m2m: bool = False
    mask_threshold: float = 0.0
    pred_iou_thresh: float = 0.8
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: float = 0
    min_region_area_px: float = 0
    max_overlap: float = 1.0
    denser_for_small: bool = False
    refine: bool = False
    output_mode: OutputMode = "binary_mask"
    tuning: GeneratorTuning = GeneratorTuning()

    def __post_init__(self) -> None:
        for name in ("points_per_batch", "crop_n_points_downscale_factor"):
            check_count(name, getattr(self, name), 1)
        check_count("crop_n_layers", self.crop_n_layers, 0, _MAX_CROP_LAYERS)
        for name in (
            "pred_iou_thresh",
            "stability_score_thresh",
            "box_nms_thresh",
            "crop_nms_thresh",
            "crop_overlap_ratio",
            "max_overlap",
        ):
            check_number(name, getattr(self, name), 0, 1)
        for name in ("stability_score_offset", "min_mask_region_area", "min_region_area_px"):
            check_number(name, getattr(self, name), 0)
        check_number("mask_threshold", self.mask_threshold)
        for name in ("multimask_output", "denser_for_small", "refine"):
            check_flag(name, getattr(self, name))
        check_choice("output_mode", self.output_mode, get_args(OutputMode))
        self._check_points()

    def _check_points(self) -> None:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise PromptError(
                Message(
                    f"{' and '.join(given) or 'no points'} were given; give exactly one of ",
                    Option("points_per_side", ", ".join(_SOURCES), "--points-per-side and --spacing"),
                )
            )
        if self.dense is not None:
            if not isinstance(self.dense, DenseSettings):
                raise PromptError(f"dense={shown(self.dense)} was given; expected DenseSettings(...) or None")
            if self.crop_n_layers or self.refine:
                raise PromptError(
                    "dense was given with crop_n_layers or refine, which belong to grids of points; leave them out, or "
                    "give points_per_side or point_spacing_px"
                )
        if self.points_per_side is not None:
            check_count("points_per_side", self.points_per_side, 1, _MAX_POINTS_PER_SIDE)
        if self.point_spacing_px is not None:
            check_number("point_spacing_px", self.point_spacing_px, 1)
        if self.point_grids is None:
            return
        if isinstance(self.point_grids, str) or not isinstance(self.point_grids, Sequence):
            raise PromptError("point_grids is not a list of grids; give one for the whole image and one for each layer")
        if len(self.point_grids) != self.crop_n_layers + 1:
            raise PromptError(
                f"{len(self.point_grids)} point grids were given for {self.crop_n_layers} crop layers; "
                "give one for the whole image and one for each layer"
            )
        for layer, grid in enumerate(as_numbers(g, f"point grid {layer}") for layer, g in enumerate(self.point_grids)):
            if grid.ndim != 2 or grid.shape[1] != 2 or not ((grid >= 0) & (grid <= 1)).all():
                raise PromptError(
                    f"point grid {layer} of shape {grid.shape} is not allowed; give (N, 2) points (x, y) from 0 to 1"
                )

    def changed(self, **changes: object) -> MaskGeneratorOptions:
        """A copy with other values; those that are None are left as they are.

        A new ``points_per_side``, ``point_spacing_px``, ``point_grids`` or ``dense`` replaces the one that was set.

        Raises
        ------
        PromptError
            If an option does not exist, or a value is not allowed.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        known = [field.name for field in fields(self)]
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {close[0]}?" if close else f"the options are {', '.join(known)}"
                raise PromptError(f"the mask generator has no option {shown(name)}; {hint}")
        if any(name in given for name in _SOURCES):
            given = dict.fromkeys(_SOURCES) | given
        return replace(self, **given)  # type: ignore[arg-type]  # __post_init__ checks the values

    def check_points_on(self, crops: Sequence[Crop]) -> None:
        """Refuse a grid with too many points, before it is made.

        Raises
        ------
        PromptError
            If there are more than a million points in all crops together.
        """
        total = sum(self._num_points(crop) for crop in crops)
        if total > MAX_POINTS:
            h, w = crops[0].hw
            raise PromptError(
                f"the options give {total} points on {w} x {h} pixels; expected up to {MAX_POINTS}: use a "
                "larger point_spacing_px, fewer points_per_side or crop_n_layers, or segment_tiled for large images"
            )

    def _num_points(self, crop: Crop) -> int:
        if self.point_grids is not None:
            return len(np.asarray(self.point_grids[crop.layer]))
        if self.point_spacing_px is not None:
            spacing = self.point_spacing_px * self.crop_n_points_downscale_factor**crop.layer
            return math.prod(max(1, math.ceil(side / spacing)) for side in crop.hw)
        assert self.points_per_side is not None
        return max(1, int(self.points_per_side / self.crop_n_points_downscale_factor**crop.layer)) ** 2

    def points_of(self, crop: Crop, *, level: int = 0) -> NDArray[np.float64]:
        """(N, 2) points (x, y) to decode in a crop, in pixels of the crop.

        ``level`` counts up from the smallest views of a model with a native window: each level has half as many points
        along a side as the one before. ``point_grids`` are the same at every level.
        """
        if self.point_grids is not None:
            grid = np.asarray(self.point_grids[crop.layer], np.float64)
        elif self.point_spacing_px is not None:
            spacing = self.point_spacing_px * self.crop_n_points_downscale_factor**crop.layer
            grid = points_by_spacing(crop.hw, spacing * 2**level)
        else:
            assert self.points_per_side is not None
            layers = point_grids_of_layers(
                max(1, self.points_per_side // 2**level), self.crop_n_layers, self.crop_n_points_downscale_factor
            )
            grid = layers[crop.layer]
        points_xy: NDArray[np.float64] = grid * np.array(crop.hw[::-1])
        return points_xy

    def points_between(self, crop: Crop) -> NDArray[np.float64]:
        """(N, 2) additional points of the finest level for small objects; empty without ``denser_for_small``."""
        if not self.denser_for_small or self.point_spacing_px is None:
            return np.zeros((0, 2))
        spacing = self.point_spacing_px * self.crop_n_points_downscale_factor**crop.layer
        points_xy: NDArray[np.float64] = points_between(crop.hw, spacing) * np.array(crop.hw[::-1])
        return points_xy


REFERENCE_OPTIONS = MaskGeneratorOptions()
"""For models that see the whole image, resized to their input."""


MICRO_OPTIONS = MaskGeneratorOptions(
    points_per_side=None,
    point_spacing_px=12.0,
    pred_iou_thresh=0.6,
    stability_score_thresh=0.65,
    box_nms_thresh=0.9,
    max_overlap=0.3,
    min_region_area_px=12,
    denser_for_small=True,
    refine=True,
)
"""For models with a native window: a fixed point spacing, cells side by side, small regions removed.

Measured with scores that were too low (0.5 was what 0.6 is now): thresholds of 0.5 for predicted IoU times presence
and 0.65 for stability give an AP at IoU 0.5 of 0.722 on 14 training images and 10 synthetic ones, as the mean of five
kinds; with IoUs of 0.4, 0.45, 0.55 and 0.6 it is 0.705, 0.702, 0.693 and 0.671, with stabilities of 0.55 and 0.75 0.721
and 0.682.
"""


DENSE_OPTIONS = MaskGeneratorOptions(
    points_per_side=None,
    dense=DenseSettings(),
    pred_iou_thresh=0.4,
    stability_score_thresh=0.0,
    box_nms_thresh=0.9,
    max_overlap=0.3,
    min_region_area_px=12,
    tuning=GeneratorTuning(chooses_together=True),
)
"""For models with a dense head."""
