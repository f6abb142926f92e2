"""A small plot of lines and marks, painted with Qt alone, in the colours of the theme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Curve", "LinePlot", "Marks"]

_HEIGHT = 72  # pixels, with a page that a window of 651 pixels shows whole
_BLUE, _ORANGE, _GREEN = QColor(64, 144, 232), QColor(238, 138, 36), QColor(64, 170, 92)
COLOURS = (_BLUE, _ORANGE, _GREEN)


@dataclass(frozen=True, eq=False)
class Curve:
    """A line over (N,) ascending x; NaN in (N,) y leaves a gap."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    name: str = ""


@dataclass(frozen=True, eq=False)
class Marks:
    """Places on the x axis: "lock" and "prompt" at the lower edge, "doubt" at the upper."""

    x: NDArray[np.float64]
    kind: Literal["prompt", "lock", "doubt"]


class LinePlot(QWidget):
    """Lines, marks and one vertical cursor.

    Attributes
    ----------
    clicked : Signal
        Emitted with the x of a click or drag, clipped to the range.
    """

    clicked = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._curves: tuple[Curve, ...] = ()
        self._marks: tuple[Marks, ...] = ()
        self._cursor: float | None = None
        self._x_range = (0.0, 1.0)
        self._y_range = (0.0, 1.0)
        self._empty_text = ""
        self.num_paints = 0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumHeight(_HEIGHT)

    # ------------------------------------------------------------------ contents
    def show_curves(
        self,
        curves: tuple[Curve, ...],
        *,
        marks: tuple[Marks, ...] = (),
        x_range: tuple[float, float] | None = None,
        y_range: tuple[float, float] | None = None,
        empty_text: str = "",
    ) -> None:
        """Replace everything but the cursor; ranges that are not given hold all curves."""
        self._curves, self._marks, self._empty_text = curves, marks, empty_text
        self._x_range = x_range or _range([curve.x for curve in curves])
        self._y_range = y_range or _range([curve.y for curve in curves])
        self.update()

    def set_cursor_x(self, x: float | None) -> None:
        """Move the vertical line."""
        if x != self._cursor:
            self._cursor = x
            self.update()

    @property
    def curves(self) -> tuple[Curve, ...]:
        """What is shown."""
        return self._curves

    @property
    def marks(self) -> tuple[Marks, ...]:
        """What is marked."""
        return self._marks

    @property
    def cursor_x(self) -> float | None:
        """Where the vertical line stands."""
        return self._cursor

    # ------------------------------------------------------------------ places
    def sizeHint(self) -> QSize:  # noqa: N802 the name is Qt's
        """Low and wide."""
        return QSize(260, _HEIGHT)

    def _area(self) -> QRectF:
        metrics = self.fontMetrics()
        left = max(metrics.horizontalAdvance(text) for text in self._y_texts()) + 6
        return QRectF(left, 8, max(1, self.width() - left - 6), max(1, self.height() - 12 - metrics.height()))

    def _y_texts(self) -> tuple[str, str]:
        low, high = self._y_range
        return f"{low:.3g}", f"{high:.3g}"

    def x_at(self, position: float) -> float:
        """The x at a horizontal position in the widget, clipped to the range."""
        area, (low, high) = self._area(), self._x_range
        share = (position - area.left()) / area.width()
        return float(np.clip(low + share * (high - low), low, high))

    def position_of(self, x: float) -> float:
        """The horizontal position of an x in the widget."""
        area, (low, high) = self._area(), self._x_range
        return area.left() + (x - low) / max(high - low, 1e-9) * area.width()

    # ------------------------------------------------------------------ mouse
    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Emit the position."""
        self._emit_position(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Emit the position while dragging."""
        self._emit_position(event)

    def _emit_position(self, event: QMouseEvent | None) -> None:
        if event is not None and self._curves and event.buttons() & Qt.MouseButton.LeftButton:
            self.clicked.emit(self.x_at(event.position().x()))

    # ------------------------------------------------------------------ painting
    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: ARG002, N802 the name is Qt's
        """Draw everything."""
        self.num_paints += 1
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text_colour = self.palette().color(QPalette.ColorRole.WindowText)
        quiet = QColor(text_colour)
        quiet.setAlphaF(0.35)
        if not self._curves:
            painter.setPen(text_colour)
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.rect(), int(flags.value if hasattr(flags, "value") else flags), self._empty_text)
            painter.end()
            return
        area = self._area()
        painter.setPen(QPen(quiet, 1))
        painter.drawRect(area)
        self._paint_marks(painter, area)
        painter.save()
        painter.setClipRect(area.adjusted(-2, -2, 2, 2))
        for number, curve in enumerate(self._curves):
            self._paint_curve(painter, area, curve, COLOURS[number % len(COLOURS)])
        painter.restore()
        if self._cursor is not None:
            x = self.position_of(self._cursor)
            painter.setPen(QPen(text_colour, 1.5))
            painter.drawLine(QPointF(x, area.top() - 3), QPointF(x, area.bottom() + 3))
        self._paint_texts(painter, area, text_colour)
        painter.end()

    def _paint_curve(self, painter: QPainter, area: QRectF, curve: Curve, colour: QColor) -> None:
        low, high = self._y_range
        y = area.bottom() - (curve.y - low) / max(high - low, 1e-9) * area.height()
        finite = np.isfinite(y)
        pen = QPen(colour, 1.8)
        painter.setPen(pen)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], finite.astype(int), [0]))))
        # every point has a dot where there is room, else single ones would not be seen
        has_room = len(curve.x) * 6 < area.width()
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            points = [QPointF(self.position_of(float(curve.x[i])), float(y[i])) for i in range(start, stop)]
            if len(points) > 1:
                painter.drawPolyline(QPolygonF(points))
            if has_room or len(points) == 1:
                painter.setBrush(colour)
                for point in points:
                    painter.drawEllipse(point, 1.8, 1.8)
                painter.setBrush(Qt.BrushStyle.NoBrush)

    def _paint_marks(self, painter: QPainter, area: QRectF) -> None:
        painter.save()
        painter.setPen(Qt.PenStyle.NoPen)
        span = max(self._x_range[1] - self._x_range[0], 1e-9)
        half = max(1.5, 0.5 * area.width() / span)
        for marks in self._marks:
            for x in marks.x:
                at = self.position_of(float(x))
                if marks.kind == "lock":
                    band = QColor(_GREEN)
                    band.setAlphaF(0.28)
                    painter.setBrush(band)
                    painter.drawRect(QRectF(at - half, area.top(), 2 * half, area.height()).intersected(area))
                elif marks.kind == "doubt":
                    painter.setBrush(_ORANGE)
                    top = area.top() - 6
                    painter.drawPolygon(
                        QPolygonF([QPointF(at - 4, top), QPointF(at + 4, top), QPointF(at, area.top() + 2)])
                    )
                else:
                    painter.setBrush(_BLUE)
                    low = area.bottom() + 6
                    painter.drawPolygon(
                        QPolygonF([QPointF(at - 4, low), QPointF(at + 4, low), QPointF(at, area.bottom() - 2)])
                    )
        painter.restore()

    def _paint_texts(self, painter: QPainter, area: QRectF, colour: QColor) -> None:
        metrics = self.fontMetrics()
        painter.setPen(colour)
        low, high = self._y_texts()
        painter.drawText(
            QPointF(area.left() - 4 - metrics.horizontalAdvance(high), area.top() + metrics.ascent()), high
        )
        painter.drawText(QPointF(area.left() - 4 - metrics.horizontalAdvance(low), area.bottom()), low)
        base = area.bottom() + metrics.ascent() + 4
        first, last = f"{self._x_range[0]:.4g}", f"{self._x_range[1]:.4g}"
        painter.drawText(QPointF(area.left(), base), first)
        painter.drawText(QPointF(area.right() - metrics.horizontalAdvance(last), base), last)
        names = [curve.name for curve in self._curves if curve.name]
        x = area.left() + 0.5 * (area.width() - sum(metrics.horizontalAdvance(name) + 10 for name in names))
        for number, name in enumerate(names):
            painter.setPen(COLOURS[number % len(COLOURS)] if len(names) > 1 else colour)
            painter.drawText(QPointF(x, base), name)
            x += metrics.horizontalAdvance(name) + 10


def _range(values: list[NDArray[np.float64]]) -> tuple[float, float]:
    """Of all finite values; never empty."""
    everything = np.concatenate([np.asarray(v, float) for v in values]) if values else np.zeros(0)
    finite = everything[np.isfinite(everything)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)
