"""Lassos and scribbles of a Shapes layer that are still being drawn: a click begins one, and the next click ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.layers import Shapes

__all__ = ["discard_stroke", "is_drawing", "match_features"]


def is_drawing(shapes: Shapes) -> bool:
    """Whether the last shape of a layer is still being drawn.

    napari has no public attribute for it, and calls listeners of a finished shape before it says that it is finished.
    """
    return bool(shapes._is_creating) and shapes._moving_value[0] is not None


def discard_stroke(shapes: Shapes) -> None:
    """Remove the shape that is being drawn, if there is one.

    napari raises an IndexError where other shapes are removed while one is being drawn, and takes the first click with
    another tool for the end of the stroke.

    Parameters
    ----------
    shapes : napari.layers.Shapes
        Its mode stays as it is.
    """
    if not is_drawing(shapes):
        return
    mode = shapes.mode
    shapes.mode = "pan_zoom"  # napari ends the stroke, and keeps its shape
    shapes.selected_data = {len(shapes.data) - 1}
    shapes.remove_selected()
    match_features(shapes)
    shapes.mode = mode


def match_features(shapes: Shapes) -> None:
    """Remove the features of a shape that napari took away as too short; they would count for the next shape."""
    count = len(shapes.data)
    if len(shapes.features) > count:
        shapes.features = shapes.features.iloc[:count]
