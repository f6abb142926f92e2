"""Regions of interest: shapes that limit automatic segmentation to a part of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import FrameError
from napari_sam2._viewer.layer_places import LayerMap

if TYPE_CHECKING:
    from napari.layers import Image, Shapes
    from numpy.typing import NDArray

    from napari_sam2._viewer.layer_frames import ShownImage

__all__ = ["Region", "region_of"]

_ELLIPSE_CORNERS = 64
_AREAS = ("rectangle", "polygon", "ellipse")


@dataclass(frozen=True, eq=False)
class Region:
    """The part of an image that is segmented, the same on all slices.

    Attributes
    ----------
    top, left : int
        First row and column of the window around it.
    mask : numpy.ndarray
        (h, w) bool, the window.
    """

    top: int
    left: int
    mask: NDArray[np.bool_]

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the window."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def is_same_as(self, other: Region | None) -> bool:
        """Whether both are the same part of an image."""
        return (
            other is not None
            and (self.top, self.left) == (other.top, other.left)
            and np.array_equal(self.mask, other.mask)
        )

    def crop(self, image: Image) -> Image:
        """A layer with the window only, displayed in the same way; it is in no viewer.

        Raises
        ------
        FrameError
            If the image has several resolutions.
        """
        from napari.layers import Image

        if image.multiscale:
            raise FrameError(
                f"{image.name} has several resolutions, which a region cannot limit; segment it without a region"
            )
        place: Any = (..., *self.window, slice(None)) if image.rgb else (..., *self.window)
        options: dict[str, Any] = {} if image.rgb else {"contrast_limits": image.contrast_limits}
        return Image(
            image.data[place],
            rgb=image.rgb,
            name=image.name,
            gamma=image.gamma,
            colormap=None if image.rgb else image.colormap,
            scale=image.scale,
            units=image.units,
            axis_labels=image.axis_labels,
            **options,
        )

    def inside(self, labels: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """(..., h, w) labels of the window without the pixels outside the region."""
        return np.where(self.mask, labels, 0).astype(np.int32)


def region_of(shapes: Shapes, shown: ShownImage) -> Region:
    """The region that the rectangles, polygons and ellipses of a layer enclose together.

    Parameters
    ----------
    shapes : napari.layers.Shapes
        Placed through its transform and units; the slice on which a shape was drawn does not count.
    shown : ShownImage
        The image.

    Raises
    ------
    FrameError
        If no area of the image is inside.
    """
    from napari.components import ViewerModel
    from skimage.draw import polygon

    hw = shown.geometry.hw
    to_image = LayerMap.between(shapes, shown.pixels_layer(), ViewerModel())
    image = np.zeros(hw, bool)
    for corners, kind in zip(shapes.data, shapes.shape_type, strict=True):
        if kind in _AREAS:
            yx = to_image(np.asarray(corners, float))[:, -2:]
            image[polygon(*_outline(yx, kind).T, hw)] = True
    if not image.any():
        raise FrameError(
            f"the layer {shapes.name} encloses no part of the image; draw a rectangle, a polygon or an ellipse on it"
        )
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return Region(int(rows[0]), int(columns[0]), image[window])


def _outline(corners: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    if kind != "ellipse":
        return corners
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)
    middle = corners.mean(axis=0)
    across, down = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    return np.asarray(middle + np.cos(angles)[:, None] * across + np.sin(angles)[:, None] * down)
