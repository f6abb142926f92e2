"""Spin boxes in narrow docks: where a value has no room between the buttons, it takes the place of the buttons."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QAbstractSpinBox, QStyle, QStyleOptionSpinBox, QWidget

__all__ = ["keep_values_readable"]

_BESIDE_VALUE = 5  # pixels: the margins of Qt's line edit, and the cursor
_WITHOUT_BUTTONS = "QAbstractSpinBox { padding: 1px 2px; }"  # napari's style leaves 10 pixels at either side
_CHANGES = (
    QEvent.Type.Resize,
    QEvent.Type.FontChange,
    QEvent.Type.StyleChange,
    QEvent.Type.Show,
    QEvent.Type.Leave,
)


def keep_values_readable(root: QWidget) -> None:
    """Let the spin boxes in ``root`` show their whole value, without buttons where these leave no room for it.

    The arrow keys, typing and the mouse wheel change the value as before.
    """
    for spin in root.findChildren(QAbstractSpinBox):
        has_buttons = spin.buttonSymbols() != QAbstractSpinBox.ButtonSymbols.NoButtons
        if has_buttons and not any(isinstance(each, _FittedValue) for each in spin.children()):
            spin.installEventFilter(_FittedValue(spin))


class _FittedValue(QObject):
    """Filters events of a spin box: its buttons are shown where there is room for them beside the value."""

    def __init__(self, spin: QAbstractSpinBox) -> None:
        super().__init__(spin)
        self._symbols = spin.buttonSymbols()
        self._beside = 0  # pixels that the buttons take
        self._text = ""  # that was fitted last
        self._is_changing = False  # a style sheet changes the style, and perhaps the size, before it returns
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._fit_now)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 Qt's name
        """Fit the value into another width, in another font, and after the mouse has left."""
        if event is None or not isinstance(watched, QAbstractSpinBox):
            return False
        # Qt has no signal for each change of the text, such as by another suffix
        if event.type() == QEvent.Type.Paint and watched.text() != self._text:
            self._later.start()
        elif event.type() in _CHANGES:
            self._fit(watched)
        return False

    def _fit_now(self) -> None:
        spin = self.parent()
        if isinstance(spin, QAbstractSpinBox):
            self._fit(spin)

    def _fit(self, spin: QAbstractSpinBox) -> None:
        style = spin.style()
        has_buttons = spin.buttonSymbols() != QAbstractSpinBox.ButtonSymbols.NoButtons
        if style is None or self._is_changing or not spin.isVisible():
            return
        self._text = spin.text()
        if has_buttons:
            option = QStyleOptionSpinBox()
            spin.initStyleOption(option)
            field = style.subControlRect(
                QStyle.ComplexControl.CC_SpinBox, option, QStyle.SubControl.SC_SpinBoxEditField, spin
            )
            self._beside = spin.width() - field.width()
        needed = spin.fontMetrics().horizontalAdvance(self._text) + _BESIDE_VALUE
        has_room = needed <= spin.width() - self._beside
        if has_room == has_buttons or (has_buttons and spin.underMouse()):  # no button goes from under the mouse
            return
        self._is_changing = True
        try:
            spin.setButtonSymbols(self._symbols if has_room else QAbstractSpinBox.ButtonSymbols.NoButtons)
            spin.setStyleSheet("" if has_room else _WITHOUT_BUTTONS)
        finally:
            self._is_changing = False
