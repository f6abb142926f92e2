"""Sessions without a window, for widgets to follow."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel
from qtpy.QtCore import QPoint

from factories import make_model, make_movie
from napari_sam2._viewer.binding import ViewerBinding
from napari_sam2._viewer.layer_places import to_viewer_units


def make_binding(num_frames: int = 6, **layer) -> ViewerBinding:
    """A movie with two discs, in a viewer without a window, with a small random network."""
    viewer = ViewerModel()
    image = viewer.add_image(make_movie(num_frames), name="cells", **layer)
    return ViewerBinding(viewer, [image], model=make_model())


def add_disc(binding: ViewerBinding, frame: int = 0, object_id: int | None = None, radius: int = 8) -> int:
    """Give the left disc's pixels on a frame."""
    h, w = binding.geometry.hw
    y, x = np.mgrid[:h, :w]
    mask = (x - 15 - 2 * frame) ** 2 + (y - 20) ** 2 < radius**2
    return binding.session.add_mask(mask, frame=frame, object_id=object_id)


def place_on_canvas(viewer, binding: ViewerBinding, row: float, column: float) -> QPoint:
    """Where a pixel of the plane shown is drawn in the canvas of a viewer."""
    canvas = viewer.window._qt_viewer.canvas
    layer = binding.labels
    world = layer.data_to_world((*binding.geometry.index(binding.current_plane), row, column))
    world = to_viewer_units(viewer, layer, world)[-2:]
    # the mapping from window to world is linear: three probes tell it
    origin, right, down = (
        np.array(canvas._map_canvas2world(spot, canvas.view)[-2:], float) for spot in ((0, 0), (100, 0), (0, 100))
    )
    spot = np.linalg.solve(np.stack((right - origin, down - origin), axis=1), np.array(world) - origin) * 100
    return QPoint(*(round(float(v)) for v in spot))
