"""Labels that a viewer has opened as an image: how they are told apart, and the Labels layer that they belong in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._viewer.image_source import placement_of
from napari_sam2.labels.conversion import convert_labels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.layers import Image, Labels

__all__ = ["as_labels", "looks_like_labels"]

_NUM_LINES = 64  # of pixels that are looked at, or up to twice as many
_FEWEST_PAIRS = 16  # neighbours inside objects
_SAME = 0.9  # share of them that are equal: 0.96 and more in 163 label images, 0.46 and less in 160 images


def looks_like_labels(image: Image) -> bool:
    """Whether an image in memory holds whole numbers in areas of one value, on a background of 0.

    Only some lines of pixels are read, so that a window can ask at any time; data on disk is not read at all.
    """
    data = image.data
    if image.rgb or image.multiscale or not isinstance(data, np.ndarray) or data.ndim < 2:
        return False
    lines = data.reshape(-1, data.shape[-1]) if data.flags.c_contiguous else data[(0,) * (data.ndim - 2)]
    some = np.asarray(lines[:: max(1, len(lines) // _NUM_LINES)])
    if some.dtype.kind == "f":
        if not (np.isfinite(some).all() and (some == np.rint(some)).all()):
            return False
    elif some.dtype.kind not in "iub":
        return False
    inside = some != 0
    pairs = inside[:, :-1] & inside[:, 1:]
    if inside.all() or pairs.sum() < _FEWEST_PAIRS:
        return False
    return bool((some[:, :-1] == some[:, 1:])[pairs].mean() >= _SAME)


def as_labels(image: Image, layers: Iterable[Any]) -> Labels:
    """The Labels layer of an image that holds labels.

    Parameters
    ----------
    image : napari.layers.Image
        With labels as its values.
    layers : iterable of layers
        Of the viewer. If the image has no scale of its own, the labels lie on the first image of the same shape.

    Returns
    -------
    napari.layers.Labels
        Not yet in a viewer. A mask of 0 and 255 (or 65535) is split into its connected components, with a warning.

    Raises
    ------
    FrameError
        If a value is negative or no whole number, as for label files.
    """
    from napari.layers import Labels

    data = np.asarray(image.data)
    others = (each for each in layers if each.__class__.__name__ == "Image" and each != image)
    fitting = (each for each in others if not each.rgb and not each.multiscale and each.data.shape == data.shape)
    is_placed = not np.allclose(image.scale, 1) or np.any(image.translate)
    where = image if is_placed else next(fitting, image)
    found = convert_labels(data, image.name)
    found.warn(image.name)
    return Labels(found.labels, name=image.name, **placement_of(where).arguments())
