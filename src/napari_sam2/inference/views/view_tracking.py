"""Move the view along with a tracked object from one frame to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam2.inference.views.view import TARGET_EXTENT, View, view_for_extent

if TYPE_CHECKING:
    from napari_sam2._types import Prompt

__all__ = [
    "MaskExtent",
    "ViewTrackingSettings",
    "extent_in_image",
    "inside_image",
    "moved_view",
    "next_view",
    "view_with_prompt",
]


@dataclass(frozen=True)
class ViewTrackingSettings:
    """When the view of a tracked object is moved or rescaled, as fractions of the view's side.

    Attributes
    ----------
    min_extent, max_extent : float
        The view is rescaled when the object's longer side leaves this range.
    max_offset : float
        The view is recentred when the object's centre is farther than this from its own.
    prompt_margin : float
        Side of a view that was enlarged for a prompt, relative to the mask and prompt inside it.
    """

    min_extent: float = 0.08
    max_extent: float = 0.55
    max_offset: float = 0.15
    prompt_margin: float = 1.25


class MaskExtent(NamedTuple):
    """Bounding box of a mask in image pixels: centre (x, y) and longer side."""

    x: float
    y: float
    side: float


def extent_in_image(mask: NDArray[np.bool_], view: View) -> MaskExtent | None:
    """Extent of a low-resolution mask (h, w) of a view; ``None`` if it is empty."""
    if not mask.any():
        return None
    h, w = mask.shape
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y0, y1, x0, x1 = int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1
    scale_x, scale_y = view.width / w, view.height / h
    return MaskExtent(
        view.x + (x0 + x1) / 2 * scale_x - 0.5,
        view.y + (y0 + y1) / 2 * scale_y - 0.5,
        max((x1 - x0) * scale_x, (y1 - y0) * scale_y),
    )


def next_view(
    extent: MaskExtent | None,
    view: View,
    hw: tuple[int, int],
    settings: ViewTrackingSettings = ViewTrackingSettings(),
) -> View:
    """Choose the view for the next frame.

    The view stays as it is while the object is well inside and of a suitable size, so that objects can share views and
    memories stay aligned. Otherwise it is centred on the object and scaled to it.

    Parameters
    ----------
    extent : MaskExtent or None
        The object on the current frame; None if it is not visible.
    view : View
        The current view.
    hw : tuple of int
        (height, width) of the image.
    settings : ViewTrackingSettings, optional
        When the view moves.

    Returns
    -------
    View
    """
    if extent is None or not view.is_native:
        return view
    share = extent.side / view.width
    has_good_size = settings.min_extent <= share <= settings.max_extent
    side = view.width if has_good_size else extent.side / TARGET_EXTENT
    centre_x, centre_y = view.x + view.width / 2 - 0.5, view.y + view.height / 2 - 0.5
    offset = max(abs(extent.x - centre_x), abs(extent.y - centre_y))
    if side == view.width and offset <= settings.max_offset * view.width:
        return view
    return view_for_extent((extent.x, extent.y), side, hw)


def moved_view(view: View, x: int, y: int) -> View:
    """The view moved by (x, y) image pixels; it may exceed the image."""
    return view._replace(x=view.x + x, y=view.y + y)


def inside_image(view: View, hw: tuple[int, int]) -> View:
    """The native view nearest to ``view`` that lies inside the image, or is centred on it where it is larger."""
    return view_for_extent((view.x + view.width / 2 - 0.5, view.y + view.height / 2 - 0.5), view.width, hw)


def view_with_prompt(
    view: View,
    mask: NDArray[np.bool_],
    prompt: Prompt,
    hw: tuple[int, int],
    settings: ViewTrackingSettings = ViewTrackingSettings(),
) -> View:
    """A view that contains both a mask and a prompt that lies partly outside the current view.

    Parameters
    ----------
    view : View
        The current view.
    mask : numpy.ndarray
        (h, w) low-resolution mask in that view.
    prompt : Prompt
        Points and box in image pixels.
    hw : tuple of int
        (height, width) of the image.
    settings : ViewTrackingSettings, optional
        How much larger the view is than the mask and the prompt.

    Returns
    -------
    View
        No smaller than ``view``.
    """
    corners = [prompt.points] if prompt.box is None else [prompt.points, prompt.box.reshape(2, 2)]
    extent = extent_in_image(mask, view)
    if extent is not None:
        centre, half = np.array((extent.x, extent.y)), extent.side / 2
        corners.append(np.stack((centre - half, centre + half)))
    points = np.concatenate(corners)
    low, high = points.min(0), points.max(0)
    side = max(float(view.width), settings.prompt_margin * (float((high - low).max()) + 1))
    x, y = ((low + high) / 2).tolist()
    return view_for_extent((x, y), side, hw)
