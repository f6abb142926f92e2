"""A frame around the control that has the keyboard: napari's style shows it for few of them."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QRect, Qt
from qtpy.QtGui import QPainter, QPaintEvent, QPalette, QPen
from qtpy.QtWidgets import QApplication, QTabBar, QWidget

__all__ = ["FocusRing"]

_WIDTH = 2  # pixels
_RADIUS = 3


class FocusRing(QObject):
    """Draws a frame around whichever control in a widget has the keyboard.

    Parameters
    ----------
    root : QWidget
        Its controls are framed; the ring ends with it.
    """

    def __init__(self, root: QWidget) -> None:
        super().__init__(root)
        self._root = root
        self._frame: _Frame | None = None
        self._framed: QWidget | None = None
        application = QApplication.instance()
        if isinstance(application, QApplication):
            application.focusChanged.connect(self._on_focus)  # Qt ends the connection with this object

    @property
    def framed(self) -> QWidget | None:
        """The control in the frame; None without one."""
        return self._framed

    def _on_focus(self, _before: QWidget | None, now: QWidget | None) -> None:
        framed = now if now is not None and now is not self._root and self._root.isAncestorOf(now) else None
        if framed is self._framed:
            return
        if self._frame is not None:
            self._frame.destroyed.disconnect(self._forget_frame)  # which may come after the next one is there
            self._frame.hide()
            self._frame.deleteLater()
        self._frame, self._framed = None, framed
        if framed is not None:
            framed.installEventFilter(self)  # once, however often; it stays, as a control may be gone by the next one
            self._frame = _Frame(framed.parentWidget())  # beside it: a page that is scrolled takes both along
            self._frame.destroyed.connect(self._forget_frame)
            self._place()

    def _forget_frame(self) -> None:
        self._frame = None

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 Qt's name
        """The frame follows its control."""
        changes = (QEvent.Type.Move, QEvent.Type.Resize, QEvent.Type.Show, QEvent.Type.Hide, QEvent.Type.Paint)
        if event is not None and event.type() in changes and watched is self._framed:
            self._place()
        return False

    def _place(self) -> None:
        framed, frame = self._framed, self._frame
        if framed is None or frame is None:
            return
        around = framed.geometry()
        if isinstance(framed, QTabBar):
            around = framed.tabRect(framed.currentIndex()).translated(framed.pos())
        if frame.geometry() != around:
            frame.setGeometry(around)
        if frame.isHidden() != framed.isHidden():
            frame.setVisible(not framed.isHidden())
            frame.raise_()


class _Frame(QWidget):
    """The frame itself, which the mouse does not notice."""

    def __init__(self, parent: QWidget | None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.hide()

    def paintEvent(self, _event: QPaintEvent | None) -> None:  # noqa: N802 Qt's name
        """A rounded frame in the colour of the text."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(self.palette().color(QPalette.ColorRole.Text), _WIDTH))
        inside = _WIDTH // 2
        painter.drawRoundedRect(QRect(self.rect()).adjusted(inside, inside, -inside, -inside), _RADIUS, _RADIUS)
        painter.end()
