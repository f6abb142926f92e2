"""Pages of the dock, and the lines between their sections."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QWidget

__all__ = ["Page", "separator"]


class Page(QScrollArea):
    """A page that is scrolled only where the window is too low for it: the dock is never narrower than its controls.

    Parameters
    ----------
    page : QWidget
        The controls.
    """

    def __init__(self, page: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the Tab key is for the controls in it
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(page)
        bar = self.verticalScrollBar()
        if bar is not None:
            bar.rangeChanged.connect(lambda *_: self.updateGeometry())

    def minimumSizeHint(self) -> QSize:  # noqa: N802 Qt's name
        """As wide as the page and its scroll bar at least, and of any height."""
        page, bar = self.widget(), self.verticalScrollBar()
        hint = super().minimumSizeHint()
        beside = bar.sizeHint().width() if bar is not None and bar.maximum() > 0 else 0
        return hint if page is None else QSize(page.minimumSizeHint().width() + beside, hint.height())


def separator() -> QFrame:
    """A thin horizontal line between two sections."""
    drawn = QFrame()
    drawn.setFrameShape(QFrame.Shape.HLine)
    drawn.setFrameShadow(QFrame.Shadow.Sunken)
    return drawn
