"""The Labels layer of a session: the same array, object colours, and painting as correction."""

from __future__ import annotations

import colorsys
import itertools
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap

if TYPE_CHECKING:
    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_sam2.frames.geometry import StackGeometry
    from napari_sam2.session.state.records import SessionObject

__all__ = [
    "class_colours",
    "is_used",
    "label_colours",
    "label_levels",
    "mark_as_used",
    "object_colour",
    "painted_planes",
]

LARGEST_PAINTED = 2**24
"""Pixels of a plane: napari looks each one up with each change of a colour, which takes 10 ms per million."""

_LARGEST_COARSE = 2048  # pixels: longest side of the coarsest level

QUIET = 0.55  # opacity of objects that are not the current one
_NUM_CLASS_COLOURS = 16  # more classes share them
_GOLDEN = 0.618034  # of the colour circle from one object to the next: neighbours in number differ most
_USED = "napari_sam2_used"  # in the metadata of layers that objects were started from


def mark_as_used(layer: Labels) -> None:
    """Note that objects were started from a layer, so that no search replaces its labels."""
    layer.metadata[_USED] = True


def is_used(layer: Labels) -> bool:
    """Whether objects were started from a layer."""
    return bool(layer.metadata.get(_USED))


@dataclass(frozen=True, eq=False)
class _EveryNth:
    """Every n-th pixel of labels on disk, read where it is shown.

    Attributes
    ----------
    labels : array
        Integers, ending in Y and X.
    step : int
        In pixels.
    """

    labels: Any
    step: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is left."""
        *leading, height, width = self.labels.shape
        return (*leading, *(len(range(self.step // 2, n, self.step)) for n in (height, width)))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the labels."""
        dtype: np.dtype[Any] = np.dtype(self.labels.dtype)
        return dtype

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read a part."""
        given = index if isinstance(index, tuple) else (index,)
        full = [*given, *(slice(None),) * (self.ndim - len(given))]
        for axis in (-2, -1):
            places = range(self.step // 2, int(self.labels.shape[axis]), self.step)[full[axis]]
            full[axis] = places if isinstance(places, int) else slice(places.start, places.stop, places.step)
        return np.asarray(self.labels[tuple(full)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it."""
        return np.asarray(self[:], dtype)


def label_levels(labels: Any) -> list[Any]:
    """The levels that a Labels layer shows labels in: one, or of planes above ``LARGEST_PAINTED`` pixels a pyramid.

    The coarser levels are every second, fourth, ... pixel of the labels and follow them: nothing is copied. napari
    draws only what is on screen of a pyramid, but does not paint on it.

    Parameters
    ----------
    labels : array
        Integers, ending in Y and X.

    Returns
    -------
    list of array
        The finest first, which is ``labels``.
    """
    height, width = (int(n) for n in labels.shape[-2:])
    levels = [labels]
    step = 2
    while height * width > LARGEST_PAINTED and max(height, width) * 2 > _LARGEST_COARSE * step:
        part = (..., slice(step // 2, None, step), slice(step // 2, None, step))
        levels.append(labels[part] if isinstance(labels, np.ndarray) else _EveryNth(labels, step))
        step *= 2
    return levels


def object_colour(object_id: int) -> NDArray[np.float32]:
    """RGBA of an object, the same in every session."""
    hue = (0.55 + (object_id - 1) * _GOLDEN) % 1.0
    saturation = (0.75, 0.5, 0.95)[(object_id - 1) // 8 % 3]
    return np.array((*colorsys.hsv_to_rgb(hue, saturation, 1.0), 1.0), np.float32)


def class_colours(names: Iterable[str]) -> dict[str, NDArray[np.float32]]:
    """RGBA of each class; a class keeps its colour when others come and go, as far as there are enough."""
    taken: dict[int, str] = {}
    for name in sorted({name for name in names if name}):
        wanted = zlib.crc32(name.encode()) % _NUM_CLASS_COLOURS
        free = [(wanted + step) % _NUM_CLASS_COLOURS for step in range(_NUM_CLASS_COLOURS)]
        place = next((at for at in free if at not in taken), wanted + _NUM_CLASS_COLOURS * len(taken))
        taken[place] = name
    return {name: object_colour(1 + at % _NUM_CLASS_COLOURS) for at, name in taken.items()}


def label_colours(
    objects: Iterable[SessionObject], current: int | None, *, by_class: bool = False
) -> DirectLabelColormap:
    """Colours of the Labels layer: the current object strong, others quiet, hidden ones not at all.

    With ``by_class``, objects of a class have its colour, and those without one are grey.
    """
    shown = list(objects)
    of_class = class_colours(each.class_name for each in shown)
    colours: dict[int | None, Any] = {None: np.array((0.7, 0.7, 0.7, QUIET)), 0: np.zeros(4)}
    made = DirectLabelColormap(color_dict=colours)
    for each in shown:
        colour = object_colour(each.object_id).copy()
        if by_class:
            colour = of_class.get(each.class_name, np.array((0.7, 0.7, 0.7, 1.0), np.float32)).copy()
        colour[3] = 0.0 if not each.is_visible else (1.0 if each.object_id == current else QUIET)
        made.color_dict[each.object_id] = colour  # not above: there napari parses each one, 50 microseconds
    return made


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
