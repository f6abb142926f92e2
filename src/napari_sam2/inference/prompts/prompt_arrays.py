"""Convert arguments of ``predict`` to prompts: sequences, and the reference's point_coords, box and mask_input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._checks import as_numbers
from napari_sam2._errors import PromptError
from napari_sam2._messages import shown
from napari_sam2._types import Prompt

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["NO_POINTS", "as_prompts", "clicks_in", "mask_inputs_of", "prompts_from_arrays"]


class _NoPoints:
    """Stands for a prompt that consists of earlier logits only."""

    points = np.zeros((0, 2), np.float32)
    labels = np.zeros(0, np.int32)
    box = None
    mask = None


NO_POINTS: Prompt = _NoPoints()  # type: ignore[assignment]


def prompts_from_arrays(
    point_coords: ArrayLike | None, point_labels: ArrayLike | None, box: ArrayLike | None, mask_input: ArrayLike | None
) -> tuple[list[Prompt | None], list[NDArray[np.float32] | None], bool]:
    """Convert the reference's arguments: prompts, their mask inputs, and whether they are a single object.

    Raises
    ------
    PromptError
        If shapes do not fit, values are not allowed, or nothing is given.
    """
    points = None if point_coords is None else as_numbers(point_coords, "point_coords").astype(np.float32)
    boxes = None if box is None else as_numbers(box, "box").astype(np.float32)
    if points is not None and points.ndim not in (2, 3):
        raise PromptError(f"point_coords of shape {points.shape} were given; expected (N, 2), or (P, N, 2) for a batch")
    if points is None and point_labels is not None:
        raise PromptError("point_labels were given without point_coords; give both")
    many_points, many_boxes = points is not None and points.ndim == 3, boxes is not None and boxes.ndim == 2
    count = len(points) if many_points and points is not None else len(boxes) if many_boxes and boxes is not None else 1
    if many_points and many_boxes and points is not None and boxes is not None and len(points) != len(boxes):
        raise PromptError(
            f"{len(points)} sets of points and {len(boxes)} boxes were given; give one of each per object"
        )
    labels = None if point_labels is None else as_numbers(point_labels, "point_labels")
    if labels is not None and not np.isin(labels, (0, 1)).all():
        raise PromptError(f"point_labels {shown(labels.tolist())} were given; expected 1 (object) or 0 (background)")
    if labels is not None and labels.ndim == 2 and len(labels) != count:
        raise PromptError(
            f"{len(labels)} rows of point_labels were given for {count} prompt(s); give one row per object"
        )
    mask_inputs = mask_inputs_of(mask_input, count)
    if points is None and boxes is None:
        if mask_input is None:
            raise PromptError("no prompt was given; give prompts, point_coords, a box or a mask_input")
        return [None] * count, mask_inputs, count == 1
    prompts: list[Prompt | None] = []
    for i in range(count):
        these = points[i] if many_points and points is not None else points
        prompts.append(
            Prompt(
                points=np.zeros((0, 2), np.float32) if these is None else these,
                labels=None if labels is None else (labels[i] if labels.ndim == 2 else labels).astype(np.int32),
                box=boxes[i] if many_boxes and boxes is not None else boxes,
            )
        )
    return prompts, mask_inputs, count == 1


def as_prompts(prompts: object) -> list[Prompt | None]:
    """A list of prompts from one prompt or a sequence of them.

    Raises
    ------
    PromptError
        If anything else is given.
    """
    if isinstance(prompts, Prompt):
        return [prompts]
    several: list[Prompt | None] = []
    for prompt in prompts if isinstance(prompts, Iterable) and not isinstance(prompts, str | bytes) else [prompts]:
        if not isinstance(prompt, Prompt):
            raise PromptError(
                f"{shown(prompt)} was given as a prompt; give Prompt(points=..., box=..., mask=...), or points as "
                "predict(point_coords=[(x, y)])"
            )
        several.append(prompt)
    return several


def clicks_in(points_xy: NDArray[np.float32], hw: tuple[int, int]) -> list[Prompt]:
    """One prompt for each of (N, 2) positive clicks on different objects of an image.

    Raises
    ------
    PromptError
        If there is none, the shape is another one, or a click lies outside the image.
    """
    if points_xy.ndim != 2 or points_xy.shape[1] != 2 or not len(points_xy):
        raise PromptError(f"points_xy of shape {points_xy.shape} was given; expected (N, 2), at least one click")
    prompts = [Prompt(points=point[None]) for point in points_xy]
    for prompt in prompts:
        prompt.check_inside(hw)
    return prompts


def mask_inputs_of(mask_input: ArrayLike | None, count: int) -> list[NDArray[np.float32] | None]:
    """The mask input (h, w) of each of ``count`` prompts, from the reference's argument.

    Raises
    ------
    PromptError
        If the shape does not fit, or a value is not finite.
    """
    if mask_input is None:
        return [None] * count
    array = as_numbers(mask_input, "mask_input").astype(np.float32)
    if not np.isfinite(array).all():
        raise PromptError("mask_input holds NaN or infinite logits; give the logits that predict returned")
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[1] != 1 or len(array) != count or not array.size:
        raise PromptError(
            f"mask_input of shape {np.shape(mask_input)} was given for {count} prompt(s); "
            "expected (1, h, w), or (P, 1, h, w) for a batch"
        )
    return [a[0] for a in array]
