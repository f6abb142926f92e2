"""Encodes the image under the mouse while the user looks at it, so that a click there is answered sooner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari

    from napari_sam2._viewer.binding import ViewerBinding

__all__ = ["LookingAhead"]

_REST_MS = 60  # without a move of the mouse or another frame


class LookingAhead(QObject):
    """Has the session of a viewer look ahead wherever the mouse comes to rest, and on each frame that is stayed on.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Whose mouse and sliders are followed, until ``stop``.
    binding : callable
        The binding at the time, or None.
    parent : QObject
        Owner.
    """

    def __init__(self, viewer: napari.viewer.Viewer, binding: Callable[[], ViewerBinding | None], parent: QObject):
        super().__init__(parent)
        self._viewer = viewer
        self._binding = binding
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REST_MS)
        self._timer.timeout.connect(self._look)
        viewer.mouse_move_callbacks.append(self._on_move)
        viewer.dims.events.current_step.connect(self.begin)

    def begin(self, _event: Any = None) -> None:
        """Look ahead once nothing has moved for a moment."""
        self._timer.start()

    def stop(self) -> None:
        """Let go of the viewer."""
        self._timer.stop()
        if self._on_move in self._viewer.mouse_move_callbacks:
            self._viewer.mouse_move_callbacks.remove(self._on_move)
        self._viewer.dims.events.current_step.disconnect(self.begin)

    def _on_move(self, _viewer: Any, event: Any) -> None:
        if not event.buttons:
            self._timer.start()

    def _look(self) -> None:
        binding = self._binding()
        if binding is not None:
            binding.look_ahead()
