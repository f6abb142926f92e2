"""Room for the table of objects: in a low window, parts that are less needed give theirs."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QScrollArea, QWidget

from napari_sam2._qt.object_table import ObjectTable

__all__ = ["RoomForTable"]


class RoomForTable(QObject):
    """Hides parts of a page while the table in it has no room for some rows otherwise, and shows them again.

    Parameters
    ----------
    area : QScrollArea
        With the page in it.
    table : ObjectTable
        Takes the height that the other parts of the page leave.
    parts : sequence of QWidget
        In the order in which they are hidden. Nothing else may hide or show them; it may what they are in.
    """

    def __init__(self, area: QScrollArea, table: ObjectTable, parts: Sequence[QWidget]) -> None:
        super().__init__(area)
        self._area, self._table, self._parts = area, table, tuple(parts)
        self._timer = QTimer(self)  # after the layout has heard of what changed
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._fit)
        table.refreshed.connect(self._timer.start)
        for watched in (area, area.widget()):
            if watched is not None:
                watched.installEventFilter(self)

    def eventFilter(self, _watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 Qt's name
        """Fit the page into another size, and when a part of it needs another height."""
        changes = (QEvent.Type.Resize, QEvent.Type.LayoutRequest, QEvent.Type.FontChange)
        if event is not None and event.type() in changes:
            self._timer.start()
        return False

    def _fit(self) -> None:
        page, viewport = self._area.widget(), self._area.viewport()
        layout = None if page is None else page.layout()
        if layout is None or viewport is None or self._table.isHidden():
            return
        width = viewport.width()
        needed = layout.minimumHeightForWidth(width) if layout.hasHeightForWidth() else layout.minimumSize().height()
        needed += max(0, self._table.wanted_height - self._table.minimumHeight())
        # of parts in something hidden, which take no height now, none is wanted
        parts = [part for part in self._parts if (above := part.parentWidget()) is not None and not above.isHidden()]
        needed += sum(_height(part) for part in parts if part.isHidden())
        for part in parts:
            has_room = needed <= viewport.height()
            if part.isHidden() == has_room:
                part.setVisible(has_room)
            if not has_room:
                needed -= _height(part)


def _height(part: QWidget) -> int:
    """What a part and the space beside it take at least."""
    above = part.parentWidget()
    layout = None if above is None else above.layout()
    spacing = 0 if layout is None else max(layout.spacing(), 0)
    return max(part.minimumSizeHint().height(), part.minimumHeight()) + spacing
