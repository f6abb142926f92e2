"""The docks below the canvas: the table of measurements and the lineage."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMainWindow, QWidget

from napari_sam2._qt.lineage_view import LineageView
from napari_sam2._qt.measurements_table import MeasurementsTable

if TYPE_CHECKING:
    import napari

    from napari_sam2._viewer.binding import ViewerBinding

__all__ = ["DocksBelow", "keep_height_of_side_docks"]


class DocksBelow:
    """Opens the docks below the canvas, each at most once at a time.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer that they are docked to; beside a viewer model without a window, they are windows of their own.
    find_binding : callable
        Returns the session that is shown, bound to its layers, or None.
    prepare : callable
        Called before a new dock is shown, when it is among ``all``.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        find_binding: Callable[[], ViewerBinding | None],
        prepare: Callable[[], None],
    ) -> None:
        self._viewer = viewer
        self._find_binding = find_binding
        self._prepare = prepare
        self._measurements: MeasurementsTable | None = None
        self._lineage: LineageView | None = None

    @property
    def all(self) -> list[QWidget]:
        """The docks that have been opened."""
        return [each for each in (self._measurements, self._lineage) if each is not None]

    def show_measurements(self) -> MeasurementsTable:
        """Open the table of measurements, or measure again in the one that is open."""
        shown = self._measurements
        if shown is not None and _is_open(shown):
            shown.measure()
            return shown
        made = self._measurements = MeasurementsTable(self._viewer)
        self._dock(made, "SAM 2 measurements")
        made.set_binding(self._find_binding())
        return made

    def show_lineage(self) -> LineageView:
        """Open the lineage of the session, or show it in the view that is open."""
        shown = self._lineage
        if shown is not None and _is_open(shown):
            shown.set_binding(self._find_binding())
            return shown
        made = self._lineage = LineageView()
        self._dock(made, "SAM 2 lineage")
        made.set_binding(self._find_binding())
        return made

    def set_binding(self, binding: ViewerBinding | None) -> None:
        """Show another session in the docks that are there."""
        if self._measurements is not None:
            self._measurements.set_binding(binding)
        if self._lineage is not None:
            self._lineage.set_binding(binding)

    def close(self) -> None:
        """Close all docks."""
        for each in self.all:
            each.close()
        self._measurements = self._lineage = None

    def _dock(self, made: QWidget, name: str) -> None:
        self._prepare()
        window = getattr(self._viewer, "window", None)
        if window is not None:
            window.add_dock_widget(made, name=name, area="bottom")
            return
        made.setWindowTitle(name)
        made.show()


def _is_open(dock: QWidget) -> bool:
    return dock.parent() is not None or dock.isVisible()


def keep_height_of_side_docks(window: QMainWindow) -> None:
    """Let docks below the canvas take height from the canvas, not from the docks beside it."""
    for corner, area in (
        (Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.LeftDockWidgetArea),
        (Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.RightDockWidgetArea),
    ):
        window.setCorner(corner, area)
