"""Combine many masks into one label image, and decide which object gets a pixel that several claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._errors import PromptError
from napari_sam2._messages import shown
from napari_sam2.labels.rle import RLE, decode_rle

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["RecordRule", "masks_to_labels"]

_MAX_PIXELS = 2**31

RecordRule = Literal["small_on_top", "best_score"]


@checked(PromptError)
def masks_to_labels(
    records: Sequence[Mapping[str, object]],
    hw: tuple[int, int] | None = None,
    *,
    rule: RecordRule = "small_on_top",
    min_visible_fraction: float = 0.0,
) -> NDArray[np.int32]:
    """Combine automatic masks into a label image: record i becomes label i + 1.

    Parameters
    ----------
    records : sequence of MaskRecord
        Masks of one image; segmentations as bool arrays or run lengths, compressed or not.
    hw : tuple of int, optional
        Height and width of the image; needed only if there are no records.
    rule : {"small_on_top", "best_score"}
        ``"small_on_top"`` paints from large to small, so that an object nested in a larger one stays visible;
        ``"best_score"`` gives a contested pixel to the mask with the higher ``predicted_iou * stability_score``.
    min_visible_fraction : float, default 0.0
        Drop masks of which less than this fraction stays visible under the masks above them. About 0.2 removes the
        thin rims that near-duplicates leave; 0 keeps all.

    Returns
    -------
    (H, W) int32 array
        0 is background.

    Raises
    ------
    PromptError
        If the masks differ in shape, or there is neither a record nor ``hw``.
    """
    if hw is not None and not (min(hw) >= 1 and hw[0] * hw[1] <= _MAX_PIXELS):
        raise PromptError(f"hw={hw} was given; expected a height and a width from 1, and up to {_MAX_PIXELS} pixels")
    if rule not in get_args(RecordRule):
        raise PromptError(f"the rule {shown(rule)} was given; expected {', '.join(get_args(RecordRule))}")
    if not 0 <= min_visible_fraction <= 1:
        raise PromptError(f"min_visible_fraction={min_visible_fraction:g} was given; expected 0 to 1")
    shapes = {_record_hw(record) for record in records} | ({hw} if hw is not None else set())
    if len(shapes) != 1:
        given = ", ".join(str(shape) for shape in sorted(shapes)) or "no records and no hw"
        raise PromptError(f"{given} were given; give masks of one image, or hw=(height, width) if there are none")
    if rule == "small_on_top":
        keys = [-_number(record["area"]) for record in records]
    else:
        keys = [_number(record["predicted_iou"]) * _number(record["stability_score"]) for record in records]
    order = [int(i) for i in np.argsort(keys, kind="stable")]
    return _paint_records(records, order, shapes.pop(), min_visible_fraction)


def _paint_records(
    records: Sequence[Mapping[str, object]], order: list[int], hw: tuple[int, int], min_visible_fraction: float
) -> NDArray[np.int32]:
    """Paint from the topmost mask down, each only on pixels that are still background."""
    labels = np.zeros(hw, np.int32)
    for index in reversed(order):
        mask = _record_mask(records[index])
        visible = mask & (labels == 0)
        if visible.sum() >= min_visible_fraction * mask.sum():
            labels[visible] = index + 1
    return labels


def _record_mask(record: Mapping[str, object]) -> NDArray[np.bool_]:
    segmentation = record["segmentation"]
    if isinstance(segmentation, Mapping):
        return decode_rle(cast("RLE", segmentation))
    return np.asarray(segmentation, bool)


def _record_hw(record: Mapping[str, object]) -> tuple[int, int]:
    segmentation = record["segmentation"]
    shape = segmentation["size"] if isinstance(segmentation, Mapping) else np.shape(cast("ArrayLike", segmentation))
    if len(shape) != 2:
        raise PromptError(f"a segmentation of shape {tuple(shape)} was given; expected (height, width)")
    return (int(shape[0]), int(shape[1]))


def _number(value: object) -> float:
    return float(cast("float", value))
