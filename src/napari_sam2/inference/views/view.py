"""Views: the rectangle of the image that fills the model's input, chosen to suit a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from napari_sam2._types import Prompt

__all__ = ["TARGET_EXTENT", "View", "choose_view", "contains_prompt", "view_for_extent", "whole_view"]

TARGET_EXTENT = 0.24
"""Longer side of an object as a fraction of the view, for views scaled to an object; matches the training data."""

_SMALLEST_WINDOW = 32  # image pixels; smaller views show no further detail


class View(NamedTuple):
    """The rectangle of the image that fills the model's square input, in image pixels (x, y, width, height).

    It may exceed the image, which is padded with black. A native view (``is_native``) keeps the image's aspect ratio
    and maps pixel centres exactly. Otherwise the whole image is resized to a square, with the reference's arithmetic.
    Through a mirrored view (``is_mirrored``), the model sees it with left and right exchanged; masks are not mirrored.
    """

    x: int
    y: int
    width: int
    height: int
    is_native: bool = False
    is_mirrored: bool = False

    @property
    def upright(self) -> View:
        """The same rectangle, not mirrored."""
        return self._replace(is_mirrored=False)


@dataclass(frozen=True)
class _Extent:
    """Centre and side of the prompted region, in image pixels."""

    x: float
    y: float
    side: float
    is_size_known: bool


def whole_view(hw: tuple[int, int]) -> View:
    """The whole image, resized to a square."""
    return View(0, 0, hw[1], hw[0])


def choose_view(prompt: Prompt, hw: tuple[int, int], native_window: int | None) -> View:
    """Choose the view for one prompt.

    Parameters
    ----------
    prompt : Prompt
        In image pixels.
    hw : tuple of int
        (height, width) of the image.
    native_window : int or None
        Side in image pixels of the view around a click; ``None``: always the whole image.

    Returns
    -------
    View
        A square centred on the first click, or on the box or mask, shifted to lie inside the image where it fits, and
        large enough for all positive clicks. A box or mask defines the object's size, so the view is scaled to it.
    """
    if native_window is None:
        return whole_view(hw)
    extent = _extent_of(prompt)
    side = extent.side / TARGET_EXTENT if extent.is_size_known else max(native_window, 2 * extent.side)
    return view_for_extent((extent.x, extent.y), side, hw)


def view_for_extent(centre_xy: tuple[float, float], side: float, hw: tuple[int, int]) -> View:
    """A square native view of about ``side`` image pixels around a point, inside the image where it fits."""
    side_px = round(min(max(side, _SMALLEST_WINDOW), max(hw)))
    origin = []
    for centre, length in zip(centre_xy, (hw[1], hw[0]), strict=True):
        start = round(centre - side_px / 2 + 0.5)
        start = min(max(start, 0), length - side_px) if side_px <= length else -((side_px - length) // 2)
        origin.append(start)
    return View(origin[0], origin[1], side_px, side_px, is_native=True)


def contains_prompt(view: View, prompt: Prompt) -> bool:
    """Whether the pixels of all points, and the box of a prompt, lie inside a view."""
    if not view.is_native:
        return True
    low, high = np.array((view.x, view.y)), np.array((view.x + view.width, view.y + view.height))
    points = prompt.points
    if not ((points >= low - 0.5) & (points < high - 0.5)).all():
        return False
    if prompt.box is None:
        return True
    corners = prompt.box.reshape(2, 2)  # centres or edges of pixels
    return bool(((corners >= low - 0.5) & (corners <= high)).all())


def _extent_of(prompt: Prompt) -> _Extent:
    if prompt.box is not None:
        x0, y0, x1, y1 = (float(v) for v in prompt.box)
        return _Extent((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2, max(x1 - x0, y1 - y0), True)
    if prompt.packed_mask is not None:
        y0, x0, y1, x1 = prompt.packed_mask.mask.box
        return _Extent((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2, float(max(x1 - x0, y1 - y0)), True)
    positive = prompt.points[prompt.labels == 1]
    points = positive if len(positive) else prompt.points
    x, y = (float(v) for v in points[0])
    reach = float(np.abs(points - points[0]).max()) if len(points) > 1 else 0.0
    return _Extent(x, y, 2 * reach, False)
