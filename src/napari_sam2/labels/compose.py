"""Combine many masks into one label image, and decide which object gets a pixel that several claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, Self, cast, get_args

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._errors import PromptError
from napari_sam2.labels.rle import RLE, decode_rle

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["LabelRule", "RecordRule", "compose_labels", "masks_to_labels"]

_MAX_PIXELS = 2**31

LabelRule = Literal["highest_logit", "highest_score", "first", "last"]
RecordRule = Literal["small_on_top", "best_score"]


class TensorLike(Protocol):
    """The part of ``torch.Tensor`` that is needed to copy one to numpy, so that this package needs no torch."""

    def detach(self) -> Self: ...

    def cpu(self) -> Self: ...

    def float(self) -> Self: ...

    def is_floating_point(self) -> bool: ...

    def numpy(self) -> NDArray[np.generic]: ...


def compose_labels(
    masks: NDArray[np.generic] | TensorLike,
    object_ids: Sequence[int],
    rule: LabelRule = "highest_logit",
    *,
    scores: ArrayLike | None = None,
    threshold: float = 0.0,
) -> NDArray[np.int32]:
    """Combine one mask per object into a label image.

    Parameters
    ----------
    masks : (O, H, W) array or tensor
        Logits, or bool masks (for every rule but ``"highest_logit"``).
    object_ids : sequence of int
        The label of each object: positive, all different.
    rule : {"highest_logit", "highest_score", "first", "last"}
        Which object gets a pixel that several claim: the one with the highest logit there, the one with the highest
        of ``scores``, or the first or last in the given order. Ties go to the earlier object.
    scores : (O,) array-like, optional
        Required by ``"highest_score"``.
    threshold : float, default 0.0
        An object claims the pixels where its logit is strictly above; NaN claims nothing.

    Returns
    -------
    (H, W) int32 array
        0 where no object claims the pixel.

    Raises
    ------
    PromptError
        If shapes, ids, rule or scores do not fit together.
    """
    array = _as_planes(masks)
    ids = _checked_ids(object_ids, len(array))
    if rule not in get_args(LabelRule):
        raise PromptError(f"the overlap rule {rule!r} was given; expected {', '.join(get_args(LabelRule))}")
    if rule == "highest_logit":
        if array.dtype == bool:
            raise PromptError(
                "bool masks have no logits to compare; give logits, or one of the rules highest_score, first, last"
            )
        return _highest_logit(array, ids, threshold)
    labels = np.zeros(array.shape[1:], np.int32)
    for index in _painting_order(rule, len(array), scores):
        plane = array[index]
        labels[plane if array.dtype == bool else plane > threshold] = ids[index]
    return labels


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
        raise PromptError(f"the rule {rule!r} was given; expected {', '.join(get_args(RecordRule))}")
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


def _as_planes(masks: NDArray[np.generic] | TensorLike) -> NDArray[np.generic]:
    if isinstance(masks, np.ndarray) or not hasattr(masks, "detach"):
        array: NDArray[np.generic] = np.asarray(masks)
    else:
        copy = masks.detach().cpu()
        array = copy.float().numpy() if copy.is_floating_point() else copy.numpy()  # numpy has no bfloat16
    if array.ndim != 3:
        raise PromptError(f"masks of shape {array.shape} were given; expected (objects, height, width)")
    return array


def _checked_ids(object_ids: Sequence[int], num_objects: int) -> list[int]:
    ids = [int(object_id) for object_id in object_ids]
    if len(ids) != num_objects:
        raise PromptError(f"{len(ids)} object ids were given for {num_objects} masks; give one id per mask")
    if len(set(ids)) != len(ids) or any(not 0 < object_id <= np.iinfo(np.int32).max for object_id in ids):
        raise PromptError(f"the object ids {ids} were given; expected different positive integers below 2^31")
    return ids


def _highest_logit(logits: NDArray[np.generic], ids: list[int], threshold: float) -> NDArray[np.int32]:
    labels = np.zeros(logits.shape[1:], np.int32)
    best = np.full(logits.shape[1:], threshold, np.float32)
    for plane, object_id in zip(logits, ids, strict=True):
        wins = plane > best
        np.copyto(best, plane, where=wins, casting="same_kind")
        labels[wins] = object_id
    return labels


def _painting_order(rule: LabelRule, num_objects: int, scores: ArrayLike | None) -> list[int]:
    """Indices of the objects in the order of painting; the last one painted wins."""
    if rule == "last":
        return list(range(num_objects))
    if rule == "first":
        return list(range(num_objects))[::-1]
    values = np.zeros(0) if scores is None else np.asarray(scores, np.float64)
    if scores is None or values.shape != (num_objects,) or np.isnan(values).any():
        given = "none" if scores is None else f"{values.tolist()}"
        raise PromptError(f"rule 'highest_score' needs one score for each of {num_objects} objects; given: {given}")
    return [int(i) for i in np.argsort(-values, kind="stable")][::-1]


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
