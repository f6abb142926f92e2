"""Filter automatic masks by score, area and image border."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._checks import as_numbers, check_number
from napari_sam2._errors import PromptError
from napari_sam2._messages import shown
from napari_sam2.labels.rle import RLE, decode_rle

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["filter_records"]

Record = TypeVar("Record", bound=Mapping[str, object])


@checked(PromptError)
def filter_records(
    records: Sequence[Record],
    *,
    min_iou: float = 0.0,
    min_stability: float = 0.0,
    min_area: float = 0.0,
    max_area: float = math.inf,
    pixel_size: float | tuple[float, float] = 1.0,
    exclude_border: bool = False,
) -> list[Record]:
    """Filter automatic masks; the given records are not changed, so thresholds can be varied.

    Parameters
    ----------
    records : sequence of MaskRecord
        Records from `SAM2AutomaticMaskGenerator`.
    min_iou : float, default 0.0
        Minimum predicted IoU, 0 to 1.
    min_stability : float, default 0.0
        Minimum stability score, 0 to 1.
    min_area, max_area : float
        Range of areas, both limits included, in units of ``pixel_size`` squared; default pixels.
    pixel_size : float or (float, float), default 1.0
        Side of a pixel, or (height, width) of it, such as 0.25 for micrometres.
    exclude_border : bool, default False
        Drop masks that touch the image border, as their objects may be cut off.

    Returns
    -------
    list of MaskRecord
        The records that pass, in the given order.

    Raises
    ------
    PromptError
        If a value is not allowed.

    Examples
    --------
    >>> records = SAM2AutomaticMaskGenerator().generate_masks(image)
    >>> labels = masks_to_labels(filter_records(records, min_area=20, pixel_size=0.25), image.shape[:2])
    """
    for name, value in (("min_iou", min_iou), ("min_stability", min_stability)):
        check_number(name, value, 0, 1)
    min_area = check_number("min_area", min_area, 0)
    if max_area != math.inf:
        max_area = check_number("max_area", max_area, 0)
    if not 0 <= min_area <= max_area:
        raise PromptError(f"areas from {min_area:g} to {max_area:g} were given; expected 0 <= min_area <= max_area")
    sizes = as_numbers(pixel_size, "pixel_size")
    sides = np.broadcast_to(sizes.ravel(), (2,)) if sizes.size in (1, 2) else np.zeros(2)
    if not (np.isfinite(sides).all() and (sides > 0).all()):
        raise PromptError(f"pixel_size={shown(pixel_size)} was given; expected a positive number, or (height, width)")
    unit = float(sides[0] * sides[1])
    return [
        record
        for record in records
        if _number(record["predicted_iou"]) >= min_iou
        and _number(record["stability_score"]) >= min_stability
        and min_area <= _number(record["area"]) * unit <= max_area
        and not (exclude_border and _touches_border(record))
    ]


def _touches_border(record: Mapping[str, object]) -> bool:
    segmentation = record["segmentation"]
    if not isinstance(segmentation, Mapping):
        mask: NDArray[np.bool_] = np.asarray(cast("ArrayLike", segmentation), bool)
        h, w = mask.shape
    else:
        h, w = (int(n) for n in segmentation["size"])
    x0, y0, width, height = (round(_number(value)) for value in cast("Sequence[float]", record["bbox"]))
    # a box may hold its last column and row or their distance to the first: check masks within one pixel
    if x0 > 0 and y0 > 0 and x0 + width < w - 1 and y0 + height < h - 1:
        return False
    if isinstance(segmentation, Mapping):
        mask = decode_rle(cast("RLE", segmentation))
    return bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())


def _number(value: object) -> float:
    return float(cast("float", value))
