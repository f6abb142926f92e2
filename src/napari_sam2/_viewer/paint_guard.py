"""No painting while the sliders are beyond a Labels layer, where napari raises an error or paints on another slice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._viewer.layer_places import to_layer_units

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

__all__ = ["PAINT_MODES", "PaintGuard"]

PAINT_MODES = ("paint", "erase", "fill", "polygon")


class PaintGuard:
    """Takes Labels layers out of their painting modes while a slider is beyond them, and back when it returns.

    The mode and not ``editable`` is changed: napari forgets the history of a layer that is made not editable.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Whose Labels layers are watched, until ``close``.
    tell : callable
        Called with a line for the user who chooses to paint where that cannot be.
    """

    def __init__(self, viewer: ViewerModel, tell: Callable[[str], object]) -> None:
        self._viewer, self._tell = viewer, tell
        self._left: dict[Labels, str] = {}  # the modes that layers have again when the sliders are back
        self._is_setting = False
        dims = viewer.dims.events
        self._connections: list[tuple[Any, Callable[..., Any]]] = [
            (event, self._on_sliders) for event in (dims.current_step, dims.ndisplay, dims.order, dims.ndim)
        ]
        self._connections += [
            (viewer.layers.events.inserted, self._on_inserted),
            (viewer.layers.events.removed, self._on_removed),
        ]
        for event, slot in self._connections:
            event.connect(slot)
        for layer in viewer.layers:
            self._watch(layer)

    def close(self) -> None:
        """Watch no more, and give layers their modes again."""
        for event, slot in self._connections:
            event.disconnect(slot)
        self._connections.clear()
        for layer in self._viewer.layers:
            self._let_go(layer)
        for layer in list(self._left):
            self._give_back(layer)

    def _watch(self, layer: Any) -> None:
        if hasattr(layer, "selected_label"):
            # last: else the buttons of the layer hear of the mode that the guard chooses before the one it replaces
            layer.events.mode.connect(self._on_mode, position="last")

    def _let_go(self, layer: Any) -> None:
        if hasattr(layer, "selected_label"):
            with contextlib.suppress(ValueError):
                layer.events.mode.disconnect(self._on_mode)

    def _on_inserted(self, event: Any) -> None:
        self._watch(event.value)
        self._on_sliders()  # a larger image may have moved them

    def _on_removed(self, event: Any) -> None:
        self._let_go(event.value)
        self._give_back(event.value)

    def _on_sliders(self, _event: Any = None) -> None:
        for layer in [layer for layer in self._left if not self._beyond(layer)]:
            self._give_back(layer)
        for layer in self._viewer.layers:
            if hasattr(layer, "selected_label") and layer.mode in PAINT_MODES and self._beyond(layer):
                self._take_out(layer)

    def _on_mode(self, event: Any) -> None:
        layer = event.source
        if self._is_setting:
            return
        self._left.pop(layer, None)  # the user has chosen anew
        if layer.mode in PAINT_MODES and (text := self._beyond(layer)):
            self._take_out(layer)
            self._tell(text)

    def _take_out(self, layer: Labels) -> None:
        self._left[layer] = str(layer.mode)
        self._set_mode(layer, "pan_zoom")

    def _give_back(self, layer: Any) -> None:
        mode = self._left.pop(layer, None)
        if mode is not None:
            self._set_mode(layer, mode)

    def _set_mode(self, layer: Labels, mode: str) -> None:
        self._is_setting = True
        try:
            layer.mode = mode
        finally:
            self._is_setting = False

    def _beyond(self, layer: Labels) -> str:
        """What is shown instead of a slice of the layer, in words; empty if one of its slices is."""
        dims = self._viewer.dims
        position = layer.world_to_data(to_layer_units(self._viewer, layer, dims.point))
        offset = dims.ndim - layer.ndim
        sizes = layer.level_shapes[0]
        for axis in (axis - offset for axis in dims.not_displayed if axis >= offset):
            place, last = round(float(np.rint(position[axis]))), int(sizes[axis]) - 1
            if not 0 <= place <= last:
                name = str(layer.axis_labels[axis])
                name = f"axis {axis}" if name.lstrip("-").isdigit() else name
                return (
                    f"{layer.name} has {name} 0 to {last}, but {place} is shown; move the slider into this range to "
                    "paint"
                )
        return ""
