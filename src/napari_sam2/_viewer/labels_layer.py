"""The Labels layer of a session: the same array, object colours, and painting as correction."""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.frames.geometry import StackGeometry
    from napari_sam2.session.state.records import SessionObject

__all__ = ["label_colours", "object_colour", "painted_planes"]

QUIET = 0.55  # opacity of objects that are not the current one
_GOLDEN = 0.618034  # of the colour circle from one object to the next: neighbours in number differ most


def object_colour(object_id: int) -> NDArray[np.float32]:
    """RGBA of an object, the same in every session."""
    hue = (0.55 + (object_id - 1) * _GOLDEN) % 1.0
    saturation = (0.75, 0.5, 0.95)[(object_id - 1) // 8 % 3]
    return np.array((*colorsys.hsv_to_rgb(hue, saturation, 1.0), 1.0), np.float32)


def label_colours(objects: Iterable[SessionObject], current: int | None) -> DirectLabelColormap:
    """Colours of the Labels layer: the current object strong, others quiet, hidden ones not at all."""
    colours: dict[int | None, Any] = {None: np.array((0.7, 0.7, 0.7, QUIET)), 0: np.zeros(4)}
    for each in objects:
        colour = object_colour(each.object_id).copy()
        colour[3] = 0.0 if not each.is_visible else (1.0 if each.object_id == current else QUIET)
        colours[each.object_id] = colour
    return DirectLabelColormap(color_dict=colours)


def painted_planes(event: Any, geometry: StackGeometry, shown: int) -> set[int]:
    """The planes that a ``paint`` event of the layer changed; the one that is shown where the event does not say."""
    planes: set[int] = set()
    for atom in getattr(event, "value", None) or ():
        key = getattr(atom, "slice_key", None)
        if key is not None:
            ranges = [range(part.start, part.stop) for part in key[: geometry.ndim - 2]]
            planes |= {geometry.plane(index) for index in itertools.product(*ranges)}
        elif isinstance(atom, tuple) and len(atom) == 3 and isinstance(atom[0], tuple):
            leading = [np.atleast_1d(axis) for axis in atom[0][: geometry.ndim - 2]]
            if not leading:
                planes.add(0)
                continue
            count = max(len(axis) for axis in leading)
            columns = [np.broadcast_to(axis, count) if len(axis) in (1, count) else axis for axis in leading]
            for index in {tuple(int(v) for v in row) for row in zip(*columns, strict=True)}:
                planes.add(geometry.plane(index))
    return planes or {shown}
