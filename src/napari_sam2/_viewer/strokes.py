"""Shapes of a layer that are still being drawn: a click with the lasso or the scribble begins one, another ends it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.layers import Shapes

__all__ = ["Strokes"]


class Strokes:
    """Knows whether the last shape of a layer is still being drawn, and can discard it.

    napari adds a shape when its drawing begins, and emits an event when it ends; until then there is one shape more
    than after the event before.

    Parameters
    ----------
    shapes : napari.layers.Shapes
        The layer.
    """

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._count = len(shapes.data)

    @property
    def is_drawing(self) -> bool:
        """Whether the last shape is still being drawn."""
        return len(self._shapes.data) > self._count

    def settle(self) -> None:
        """Take all shapes as finished; to be called when the layer says that they have changed.

        napari keeps the features and the colours of a shape that it drops as too short: the next shape would have the
        features, and in the 3D display napari would lose all shapes.
        """
        shapes, count = self._shapes, len(self._shapes.data)
        self._count = count
        if len(shapes.features) > count:
            shapes.features = shapes.features.iloc[:count]
        if len(shapes.edge_color) > count:
            # napari has no public way to take a colour away without its shape, and its proxy shows nothing else
            view = getattr(shapes, "__wrapped__", shapes)._data_view  # noqa: SLF001
            view._edge_color, view._face_color = view._edge_color[:count], view._face_color[:count]  # noqa: SLF001

    def discard(self) -> None:
        """Remove the shape that is being drawn, if there is one; the mode of the layer stays.

        napari raises an IndexError where other shapes are removed while one is being drawn, and takes the first click
        with another tool for its end.
        """
        if not self.is_drawing:
            return
        shapes, finished = self._shapes, self._count
        mode = shapes.mode
        shapes.mode = "pan_zoom"  # napari ends the stroke, and keeps its shape
        self.remove([len(shapes.data) - 1] if len(shapes.data) > finished else [])
        shapes.mode = mode

    def remove(self, rows: Iterable[int]) -> None:
        """Remove finished shapes; the mode of the layer stays.

        napari emits the event of a shape before its drawing has ended, ends a drawing once more where shapes are
        removed, and raises a TypeError if that is the same one. Another mode ends it in time.

        Parameters
        ----------
        rows : iterable of int
            Their places in the layer.
        """
        shapes, gone = self._shapes, set(rows)
        if gone:
            mode = shapes.mode
            shapes.mode = "pan_zoom"
            shapes.selected_data = gone
            shapes.remove_selected()
            shapes.mode = mode
        self.settle()
