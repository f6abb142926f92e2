"""The reference's arguments, point_coords and the like, as prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._checks import as_numbers
from napari_sam2._errors import PromptError
from napari_sam2._types import Prompt

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = []


class _NoPoints:
    """Stands for a prompt that consists of earlier logits alone."""

    points = np.zeros((0, 2), np.float32)
    labels = np.zeros(0, np.int32)
    box = None
    mask = None


_NO_POINTS: Prompt = _NoPoints()  # type: ignore[assignment]


def _from_arrays(
    point_coords: ArrayLike | None, point_labels: ArrayLike | None, box: ArrayLike | None, mask_input: ArrayLike | None
) -> tuple[list[Prompt | None], list[NDArray[np.float32] | None], bool]:
    """The reference's arguments as prompts, their mask inputs, and whether they mean one object."""
    points = None if point_coords is None else as_numbers(point_coords, "point_coords").astype(np.float32)
    boxes = None if box is None else as_numbers(box, "box").astype(np.float32)
    if points is not None and points.ndim not in (2, 3):
        raise PromptError(
            f"point_coords of shape {points.shape} were given; allowed is (N, 2), or (P, N, 2) for a batch"
        )
    if points is None and point_labels is not None:
        raise PromptError("point_labels were given without point_coords; give both")
    many_points, many_boxes = points is not None and points.ndim == 3, boxes is not None and boxes.ndim == 2
    count = len(points) if many_points and points is not None else len(boxes) if many_boxes and boxes is not None else 1
    if many_points and many_boxes and points is not None and boxes is not None and len(points) != len(boxes):
        raise PromptError(
            f"{len(points)} sets of points and {len(boxes)} boxes were given; give one of each per object"
        )
    labels = None if point_labels is None else np.asarray(point_labels)
    mask_inputs = _mask_inputs(mask_input, count)
    if points is None and boxes is None:
        if mask_input is None:
            raise PromptError("nothing was asked; give prompts, point_coords, a box or a mask_input")
        return [None] * count, mask_inputs, count == 1
    prompts: list[Prompt | None] = []
    for i in range(count):
        these = points[i] if many_points and points is not None else points
        prompts.append(
            Prompt(
                points=np.zeros((0, 2), np.float32) if these is None else these,
                labels=labels[i] if labels is not None and labels.ndim == 2 else labels,
                box=boxes[i] if many_boxes and boxes is not None else boxes,
            )
        )
    return prompts, mask_inputs, count == 1


def _mask_inputs(mask_input: ArrayLike | None, count: int) -> list[NDArray[np.float32] | None]:
    if mask_input is None:
        return [None] * count
    array = as_numbers(mask_input, "mask_input").astype(np.float32)
    if not np.isfinite(array).all():
        raise PromptError("mask_input holds NaN or infinite logits; give what predict returned as logits")
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[1] != 1 or len(array) != count:
        raise PromptError(
            f"mask_input of shape {np.shape(mask_input)} was given for {count} prompt(s); "
            "allowed is (1, h, w), or (P, 1, h, w) for a batch"
        )
    return [a[0] for a in array]
