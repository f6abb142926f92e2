"""Clicks on the canvas that are no prompts: they select the object under them, or cut the current one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

if TYPE_CHECKING:
    import napari

    from napari_sam2._viewer.binding import ViewerBinding

__all__ = ["CanvasClicks"]

_CLICK_RADIUS = 3.0  # pixels of the canvas: a longer way of the mouse is a drag


class CanvasClicks:
    """A click with the arrow tool, or a Ctrl-click with any tool, selects the object under it.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose canvas is clicked.
    find_binding : callable
        Returns the session that is shown, bound to its layers, or None.
    """

    def __init__(self, viewer: napari.viewer.Viewer, find_binding: Callable[[], ViewerBinding | None]) -> None:
        self._viewer = viewer
        self._find_binding = find_binding
        viewer.mouse_drag_callbacks.append(self._on_mouse)

    def close(self) -> None:
        """Stop listening to the canvas."""
        if self._on_mouse in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_mouse)

    def _on_mouse(self, viewer: Any, event: Any) -> Any:
        binding = self._find_binding()
        active = viewer.layers.selection.active
        if binding is None or active is None or event.button != 1:
            return
        is_ctrl = "Control" in event.modifiers
        if binding.is_splitting and active == binding.shapes and not is_ctrl and viewer.dims.ndisplay == 2:
            yield from self._split_at_click(binding, event)
            return
        if not is_ctrl and str(getattr(active, "mode", "")) != "pan_zoom":
            return
        mode = str(active.mode) if is_ctrl and active in binding.layers else "pan_zoom"
        if mode != "pan_zoom":
            active.mode = "pan_zoom"  # else the tool of the layer, which hears of the click next, makes a prompt of it
        pressed = tuple(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if mode != "pan_zoom":
            active.mode = mode
        way = max(abs(a - b) for a, b in zip(event.pos, pressed, strict=True))
        found = binding.object_at(event.position) if way <= _CLICK_RADIUS and viewer.dims.ndisplay == 2 else None
        if found is not None and self._find_binding() is binding:
            binding.select(found)

    def _split_at_click(self, binding: ViewerBinding, event: Any) -> Any:
        """A click on the current object cuts it; one beside it begins a line, as with the scribble."""
        pressed, position = tuple(event.pos), tuple(event.position)
        yield
        while event.type == "mouse_move":
            yield
        way = max(abs(a - b) for a, b in zip(event.pos, pressed, strict=True))
        if way <= _CLICK_RADIUS and binding.object_at(position) == binding.current is not None:
            # later: the layer, which hears of the click next, expects the line that it has begun
            QTimer.singleShot(0, partial(self._split_at, binding, position))

    def _split_at(self, binding: ViewerBinding, position: tuple[float, ...]) -> None:
        if self._find_binding() is binding and binding.is_splitting:
            binding.split_at(position)
