"""Small pieces that the sections are built of, so that names, tooltips and narrow columns are never forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from qtpy.QtCore import Qt
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

__all__ = ["button", "column", "combo", "line", "named", "row", "show_error", "show_item", "shrinking_combo"]

_SHRUNK = 85  # pixels: six letters and the arrow

AnyWidget = TypeVar("AnyWidget", bound=QWidget)


def named(widget: AnyWidget, name: str, tip: str) -> AnyWidget:
    """Give a control its name, for tests and style sheets, and its tooltip."""
    widget.setObjectName(name)
    widget.setToolTip(tip)
    widget.setAccessibleName(tip.split(".")[0])
    return widget


def button(text: str, name: str, tip: str, on_click: Callable[[], Any]) -> QPushButton:
    """A push button that may become narrow."""
    made = named(QPushButton(text), name, tip)
    made.clicked.connect(lambda _checked=False: on_click())
    made.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
    return made


def combo(name: str, tip: str) -> QComboBox:
    """A combo box that does not widen the dock for its longest entry."""
    made = named(QComboBox(), name, tip)
    made.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    made.setMinimumContentsLength(6)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return made


def shrinking_combo(name: str, tip: str) -> QComboBox:
    """A combo box in a row of others: it takes what they leave it, and asks for little."""
    made = combo(name, tip)
    made.setMinimumContentsLength(0)
    made.setMinimumWidth(_SHRUNK)
    made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return made


def show_item(box: QComboBox, index: int, is_there: bool) -> None:
    """Let an entry be chosen or not; if it was chosen and can be no more, the first one is."""
    model = box.model()
    item = model.item(index) if isinstance(model, QStandardItemModel) else None
    if item is not None:
        item.setEnabled(is_there)
    if not is_there and box.currentIndex() == index:
        box.setCurrentIndex(0)


def line(name: str, tip: str, text: str = "") -> QLabel:
    """A line of text that wraps, and that can be copied."""
    made = named(QLabel(text), name, tip)
    made.setWordWrap(True)
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return made


def row(*widgets: QWidget) -> QHBoxLayout:
    """Side by side."""
    made = QHBoxLayout()
    made.setContentsMargins(0, 0, 0, 0)
    made.setSpacing(4)
    for widget in widgets:
        made.addWidget(widget)
    return made


def column(parent: QWidget) -> QVBoxLayout:
    """The layout of a section, one below the other."""
    made = QVBoxLayout(parent)
    made.setContentsMargins(0, 0, 0, 0)
    made.setSpacing(4)
    return made


def show_error(label: QLabel, error: Exception | str) -> None:
    """Say what went wrong where the eye is, and in napari's notifications."""
    from napari.utils.notifications import show_error as notify

    text = str(error) or type(error).__name__
    label.setText(text)
    label.setVisible(True)
    notify(text)
