"""The rectangle of an image that fills the model's input, and which one suits a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from napari_sam2._types import Prompt

__all__ = ["TARGET_EXTENT", "View", "choose_view", "view_for_extent", "whole_view"]

TARGET_EXTENT = 0.24  # of the model's input: what an object of known size should fill


_SMALLEST_WINDOW = 32  # image pixels: closer than this there is nothing more to see


class View(NamedTuple):
    """The rectangle of the image that fills the model's square input, in image pixels (x, y, width, height).

    It may reach beyond the image; what lies there is black. ``is_native``: cut out at the image's own
    proportions, with pixel centres mapped exactly. Otherwise the whole image squeezed into a square, with
    the reference's arithmetic.
    """

    x: int
    y: int
    width: int
    height: int
    is_native: bool = False


@dataclass(frozen=True)
class _Extent:
    """Centre and side of what a prompt is about, in image pixels."""

    x: float
    y: float
    side: float
    is_size_known: bool


def whole_view(hw: tuple[int, int]) -> View:
    """The whole image, squeezed into a square."""
    return View(0, 0, hw[1], hw[0])


def choose_view(prompt: Prompt, hw: tuple[int, int], native_window: int | None) -> View:
    """Where to look for one prompt.

    Parameters
    ----------
    prompt : Prompt
        In image pixels.
    hw : tuple of int
        (height, width) of the image.
    native_window : int or None
        Side in image pixels of the window around a click; ``None``: always the whole image.

    Returns
    -------
    View
        A square window centred on the first thing the prompt points at, shifted to lie inside the image where
        it fits, and large enough for every click on the object. A box or mask tells the size of the object,
        so the window is chosen to show it at a size the model knows best.
    """
    if native_window is None:
        return whole_view(hw)
    extent = _extent_of(prompt)
    side = extent.side / TARGET_EXTENT if extent.is_size_known else max(native_window, 2 * extent.side)
    return view_for_extent((extent.x, extent.y), side, hw)


def view_for_extent(centre_xy: tuple[float, float], side: float, hw: tuple[int, int]) -> View:
    """A square native window of about ``side`` image pixels around a point, inside the image where it fits."""
    side_px = round(min(max(side, _SMALLEST_WINDOW), max(hw)))
    origin = []
    for centre, length in zip(centre_xy, (hw[1], hw[0]), strict=True):
        start = round(centre - side_px / 2 + 0.5)
        start = min(max(start, 0), length - side_px) if side_px <= length else -((side_px - length) // 2)
        origin.append(start)
    return View(origin[0], origin[1], side_px, side_px, is_native=True)


def _extent_of(prompt: Prompt) -> _Extent:
    if prompt.box is not None:
        x0, y0, x1, y1 = (float(v) for v in prompt.box)
        return _Extent((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2, max(x1 - x0, y1 - y0), True)
    if prompt.mask is not None:
        ys, xs = np.nonzero(prompt.mask)
        side = max(np.ptp(xs), np.ptp(ys)) + 1
        return _Extent(float(xs.min() + xs.max()) / 2, float(ys.min() + ys.max()) / 2, float(side), True)
    assert prompt.labels is not None
    positive = prompt.points[prompt.labels == 1]
    points = positive if len(positive) else prompt.points
    x, y = (float(v) for v in points[0])
    reach = float(np.abs(points - points[0]).max()) if len(points) > 1 else 0.0
    return _Extent(x, y, 2 * reach, False)
