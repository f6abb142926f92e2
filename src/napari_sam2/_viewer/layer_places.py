"""Where the data of one layer lie in another, as the viewer shows them: through the transforms and units of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from numpy.typing import NDArray

__all__ = ["LayerMap", "resample_plane", "show_plane", "to_layer_units", "to_viewer_units"]


@dataclass(frozen=True, eq=False)
class LayerMap:
    """An affine map from the data coordinates of one layer to those of another.

    Attributes
    ----------
    matrix : numpy.ndarray
        (axes of the second, axes of the first) float64.
    offset : numpy.ndarray
        (axes of the second,) float64.
    """

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    @classmethod
    def between(cls, first: Any, second: Any, viewer: ViewerModel) -> LayerMap:
        """The map from one layer to another.

        Layers are aligned at their last axes, as napari does.

        Parameters
        ----------
        first, second : napari.layers.Layer
            Any layers.
        viewer : napari.components.ViewerModel
            Whose sliders say where a layer lies on axes that it lacks.
        """
        factors = _unit_factors(first.units, second.units, first.ndim)
        given = to_layer_units(viewer, second, viewer.dims.point)
        shown = np.zeros(second.ndim)
        shown[second.ndim - len(given) :] = given

        def place(row: NDArray[np.float64]) -> NDArray[np.float64]:
            world = np.asarray(first.data_to_world(row), float)[-second.ndim :]
            full = shown.copy()
            full[second.ndim - len(world) :] = world * factors[-len(world) :]
            return np.asarray(second.world_to_data(full), float)

        offset = place(np.zeros(first.ndim))
        columns = [place(row) - offset for row in np.eye(first.ndim)]
        return cls(np.stack(columns, axis=1), offset)

    def __call__(self, rows: Any) -> NDArray[np.float64]:
        """(N, axes) coordinates in the second layer."""
        return np.asarray(rows, float) @ self.matrix.T + self.offset

    @property
    def is_identity(self) -> bool:
        """Whether both layers lie exactly on each other."""
        same = self.matrix.shape[0] == self.matrix.shape[1] and np.allclose(self.matrix, np.eye(len(self.matrix)))
        return bool(same and np.allclose(self.offset, 0, atol=1e-6))


def resample_plane(array: Any, to_array: LayerMap, index: tuple[int, ...], hw: tuple[int, int]) -> NDArray[Any]:
    """(H, W) of one plane of an image, from labels that lie elsewhere in the world, by the nearest pixel.

    Parameters
    ----------
    array : LazyArray
        The labels; only the planes that are needed are read.
    to_array : LayerMap
        From the image to the labels.
    index : tuple of int
        The plane: one number for each axis of the image before Y and X.
    hw : tuple of int
        Size of the plane.

    Returns
    -------
    numpy.ndarray
        In the type of the labels; 0 where they do not reach.
    """
    shape = np.array(array.shape)
    corner = to_array(np.array([[*index, 0, 0]]))[0]
    down, right = to_array.matrix[:, -2], to_array.matrix[:, -1]
    rows, columns = np.arange(hw[0])[:, None], np.arange(hw[1])[None]
    places, inside = [], np.ones(hw, bool)
    for axis, length in enumerate(shape):
        # halves are rounded up, so that each pixel belongs to one place
        place = np.floor(corner[axis] + rows * down[axis] + columns * right[axis] + 0.5).astype(np.int64)
        inside &= (place >= 0) & (place < length)
        places.append(place)
    found = np.zeros(hw, np.dtype(array.dtype))
    if not inside.any():
        return found
    kept = [place[inside] for place in places]
    read = [slice(int(place.min()), int(place.max()) + 1) for place in kept]
    part = np.asarray(array[tuple(read)])
    found[inside] = part[tuple(place - window.start for place, window in zip(kept, read, strict=True))]
    return found


def to_layer_units(
    viewer: ViewerModel, layer: Any, world: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """World coordinates of a viewer in the units of a layer, for its ``world_to_data``; its last axes only."""
    last = np.asarray(world, float)[-layer.ndim :]
    return last * _unit_factors(viewer.layers.units, layer.units, len(last))


def to_viewer_units(viewer: ViewerModel, layer: Any, world: Sequence[float]) -> NDArray[np.float64]:
    """What a layer's ``data_to_world`` gives in the units of a viewer, for its sliders."""
    return np.asarray(world, float) * _unit_factors(layer.units, viewer.layers.units, len(world))


def show_plane(viewer: ViewerModel, layer: Any, index: Sequence[int]) -> None:
    """Move the sliders of a viewer to a plane of a layer, given by its indices on the axes before Y and X."""
    corner = np.zeros(layer.ndim)
    corner[: len(index)] = index
    world = to_viewer_units(viewer, layer, layer.data_to_world(corner))
    offset = viewer.dims.ndim - layer.ndim
    for axis in range(len(index)):
        viewer.dims.set_point(axis + offset, float(world[axis]))


def _unit_factors(given: Any, wanted: Any, ndim: int) -> NDArray[np.float64]:
    """By what coordinates in some units become those in others, on the last axes; 1 where that cannot be.

    napari's transforms know nothing of units, its canvas and sliders do.
    """
    factors = np.ones(ndim)
    pairs = zip(reversed(given or ()), reversed(wanted or ()), strict=False)
    for axis, (unit, other) in zip(reversed(range(ndim)), pairs, strict=False):
        if unit != other and unit.dimensionality == other.dimensionality:
            factors[axis] = float((1 * unit).to(other).magnitude)
    return factors
