"""Helpers to build the sections: named controls with tooltips in narrow columns, which leave the keys to the canvas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Literal, TypeVar

from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtGui import QFont, QFontMetrics, QKeyEvent, QStandardItemModel
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLayout,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStackedWidget,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QTabBar,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_sam2._messages import in_form_words
from napari_sam2._viewer.layer_frames import in_plane_words

__all__ = [
    "align_labels",
    "button",
    "column",
    "combo",
    "duration",
    "fit_tabs",
    "forget_refusal",
    "keep_keys_on_canvas",
    "keep_tabs_fitted",
    "labels_of",
    "line",
    "make_narrow",
    "name_planes",
    "named",
    "open_dialog",
    "order_tabs",
    "row",
    "set_check_text",
    "show_error",
    "show_item",
    "show_refusal",
    "shrinking_combo",
    "wrap_check_boxes",
]

_SHRUNK = 85  # pixels: six letters and the arrow
_NARROW = 4  # letters of a combo box that must fit, so that a dock in a font of 16 points fits in 333 pixels
_SMALLEST_POINTS = 7
_BESIDE_TEXT = 12  # pixels: between the square of a check box and its text, and around both
_BESIDE_LABEL = 4  # pixels: between a label and its control
_ANY_WIDTH = 2**24 - 1  # pixels: Qt's QWIDGETSIZE_MAX
_TAB_PADDING = 4  # pixels at either side of a name
_TAB_BORDERS = 4  # pixels between two tabs
_REFUSAL = "sam2_refusal"  # property of a label

AnyWidget = TypeVar("AnyWidget", bound=QWidget)


def named(widget: AnyWidget, name: str, tip: str) -> AnyWidget:
    """Give a control its name, for tests and style sheets, and its tooltip."""
    widget.setObjectName(name)
    widget.setToolTip(tip)
    widget.setAccessibleName(tip.split(".")[0])
    return widget


def name_planes(root: QWidget, word: Literal["frame", "slice"]) -> None:
    """Let the tooltips in ``root`` call planes what users call them: frames of a movie, slices of anything else."""
    for widget in (root, *root.findChildren(QWidget)):
        widget.setToolTip(in_plane_words(widget.toolTip(), word))
        widget.setAccessibleName(in_plane_words(widget.accessibleName(), word))


def button(text: str, name: str, tip: str, on_click: Callable[[], Any]) -> QPushButton:
    """A push button that may become narrow."""
    made = named(QPushButton(text), name, tip)
    made.clicked.connect(lambda _checked=False: on_click())
    made.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
    return made


def show_instead(shown: QWidget, hidden: QWidget) -> None:
    """Show a control in the place of another one, which hands its focus on: a hidden one would give it to the next."""
    had_focus = hidden.hasFocus()
    hidden.hide()
    shown.show()
    if had_focus:
        shown.setFocus()


class _ElidedText(QObject):
    """Filters the painting of combo boxes: a text without room ends in an ellipsis, and not in half a letter."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 Qt's name
        """Draw the frame, the arrow, and as much of the text as there is room for."""
        style = watched.style() if isinstance(watched, QComboBox) else None
        if event is None or event.type() != QEvent.Type.Paint or not isinstance(watched, QComboBox) or style is None:
            return False
        painter, option = QStylePainter(watched), QStyleOptionComboBox()
        watched.initStyleOption(option)
        room = style.subControlRect(
            QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, watched
        )
        option.currentText = watched.fontMetrics().elidedText(
            option.currentText, Qt.TextElideMode.ElideRight, room.width() - 4
        )
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
        painter.end()
        return True


def make_narrow(box: QComboBox) -> None:
    """Let a combo box be narrower than its entries: it shows the beginning of those that have no room."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(_NARROW)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    box.installEventFilter(_ElidedText(box))


def fit_tabs(bar: QTabBar, points: int) -> None:
    """Write the names of tabs in a font in which all of them have room, at most as large as ``points``."""
    texts = [bar.tabText(at) for at in range(bar.count())]
    font = QFont(bar.font())
    for size in range(points, _SMALLEST_POINTS - 1, -1):
        font.setPointSize(size)
        metrics = QFontMetrics(font)
        needed = sum(metrics.horizontalAdvance(text) + 2 * _TAB_PADDING + _TAB_BORDERS for text in texts)
        if needed <= bar.width():
            break
    # Qt measures in the font of the bar where a name ends in an ellipsis, and draws in that of its tabs
    style = f"QTabBar {{ font-size: {size}pt; }} QTabBar::tab {{ font-size: {size}pt; padding: 3px {_TAB_PADDING}px; }}"
    if bar.styleSheet() != style:
        bar.setStyleSheet(style)


class _FittedTabs(QObject):
    """Filters events of a bar of tabs: their names are fitted to each new width, also to the first one."""

    def __init__(self, tabs: QTabWidget, points: Callable[[], int]) -> None:
        super().__init__(tabs)  # and not the bar, which Qt has made: PyQt forgets what Python objects such parents have
        self._points = points

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 Qt's name
        """Fit the names once the bar has its width."""
        if event is not None and event.type() == QEvent.Type.Resize and isinstance(watched, QTabBar):
            fit_tabs(watched, self._points())
        return False


def keep_tabs_fitted(tabs: QTabWidget, points: Callable[[], int]) -> None:
    """Call `fit_tabs` whenever the width of the bar changes; ``points`` gives the wanted font size."""
    bar = tabs.tabBar()
    if bar is not None:
        bar.setDrawBase(False)  # its line shows between the tabs of napari's style
        bar.installEventFilter(_FittedTabs(tabs, points))


class _WrappedText(QObject):
    """Filters events of check boxes: a text without room continues on the next line."""

    def __init__(self, box: QCheckBox) -> None:
        super().__init__(box)
        self._words: list[str] = []
        self._later = QTimer(self)  # ends with the box
        self._later.setSingleShot(True)
        self._later.timeout.connect(box.updateGeometry)
        self.write(box, box.text())

    def write(self, box: QCheckBox, text: str) -> None:
        """Show another text."""
        self._words = text.split()
        self._fit(box)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 Qt's name
        """Break the text again in another width or font."""
        changes = (QEvent.Type.Resize, QEvent.Type.FontChange, QEvent.Type.StyleChange)
        if event is not None and event.type() in changes and isinstance(watched, QCheckBox):
            self._fit(watched)
        return False

    def _fit(self, box: QCheckBox) -> None:
        metrics, style = box.fontMetrics(), box.style()
        beside = _BESIDE_TEXT
        if style is not None:
            beside += style.pixelMetric(QStyle.PixelMetric.PM_IndicatorWidth, None, box)
        box.setMinimumWidth(beside + max((metrics.horizontalAdvance(word) for word in self._words), default=0))
        lines = [""]
        for word in self._words:
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and metrics.horizontalAdvance(longer) > box.width() - beside:
                lines.append(word)
            else:
                lines[-1] = longer
        if box.text() != "\n".join(lines):
            box.setText("\n".join(lines))
            # again after this event: a layout that is placing the box just now does not hear of its new height
            self._later.start(0)


def wrap_check_boxes(root: QWidget) -> None:
    """Let the check boxes in ``root`` be as narrow as their longest word: their texts continue on the next line."""
    for box in root.findChildren(QCheckBox):
        if box.text() and not any(isinstance(each, _WrappedText) for each in box.children()):
            box.installEventFilter(_WrappedText(box))


def set_check_text(box: QCheckBox, text: str) -> None:
    """Change the text of a check box, whether it wraps or not."""
    wrapped = next((each for each in box.children() if isinstance(each, _WrappedText)), None)
    if wrapped is None:
        box.setText(text)
    else:
        wrapped.write(box, text)


def combo(name: str, tip: str) -> QComboBox:
    """A combo box that does not widen the dock for its longest entry."""
    made = named(QComboBox(), name, tip)
    make_narrow(made)
    return made


def shrinking_combo(name: str, tip: str) -> QComboBox:
    """A combo box that takes the width that others in its row leave."""
    made = combo(name, tip)
    made.setMinimumContentsLength(0)
    made.setMinimumWidth(_SHRUNK)
    made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return made


def show_item(box: QComboBox, index: int, is_there: bool) -> None:
    """Enable or disable an entry; if a disabled one is selected, select the first."""
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


def align_labels(labels: Iterable[QLabel]) -> None:
    """Make labels in front of controls as wide as the widest, in the font that they have now."""
    each = list(labels)
    for label in each:
        label.setMinimumWidth(0)
        label.setMaximumWidth(_ANY_WIDTH)
        label.ensurePolished()
        label.setIndent(label.indent())  # has the label forget its size hint, of which the width before was a part
    widest = max((label.sizeHint().width() for label in each), default=0)
    for label in each:
        label.setFixedWidth(widest + _BESIDE_LABEL)  # with a minimum, each row may make its label a bit wider


def labels_of(form: QFormLayout) -> list[QLabel]:
    """The labels in front of the controls of a form."""
    items = [form.itemAt(row, QFormLayout.ItemRole.LabelRole) for row in range(form.rowCount())]
    found = [None if item is None else item.widget() for item in items]
    return [label for label in found if isinstance(label, QLabel)]


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


class _CalmInput(QObject):
    """Filters events of combo and spin boxes: the wheel belongs to them only with focus, Enter and Esc end typing."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 Qt's name
        """Hand an unfocused wheel event on to what is scrolled."""
        if event is None or not isinstance(watched, QWidget):
            return False
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        is_end = isinstance(event, QKeyEvent) and event.key() in (
            Qt.Key.Key_Return,
            Qt.Key.Key_Enter,
            Qt.Key.Key_Escape,
        )
        if is_end and event.type() == QEvent.Type.KeyPress and isinstance(watched, QAbstractSpinBox):
            watched.interpretText()
            watched.clearFocus()
            return True
        return False


def keep_keys_on_canvas(root: QWidget) -> None:
    """Leave the keyboard to the canvas: buttons, combo boxes and tables in ``root`` take focus by Tab only.

    A shortcut pressed after a click on one of them would otherwise go to it, and a button that is hidden while it has
    the focus would hand it to the next combo box. The mouse wheel changes no combo or spin box that has no focus.
    """
    filter_ = _CalmInput(root)
    for kind in (QAbstractButton, QComboBox, QAbstractItemView):
        for widget in root.findChildren(kind):
            widget.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    for spin in root.findChildren(QAbstractSpinBox):
        spin.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    for input_ in (*root.findChildren(QComboBox), *root.findChildren(QAbstractSpinBox)):
        input_.installEventFilter(filter_)


def order_tabs(root: QWidget) -> None:
    """Let the Tab key go through the controls of ``root`` as the eye does: in the order of its layouts."""
    found = [each for each in _in_order(root) if each.focusPolicy() & Qt.FocusPolicy.TabFocus]
    for one, other in pairwise(found):
        QWidget.setTabOrder(one, other)


def _in_order(widget: QWidget) -> Iterator[QWidget]:
    """The widgets in a widget, in the order of its layouts; inner parts of controls are left to these."""
    yield widget
    if isinstance(widget, QScrollArea):
        inner = widget.widget()
        pages = [] if inner is None else [inner]
    elif isinstance(widget, QTabWidget | QStackedWidget):
        bar = widget.tabBar() if isinstance(widget, QTabWidget) else None
        if bar is not None:
            yield bar
        pages = [page for page in map(widget.widget, range(widget.count())) if page is not None]
    else:
        yield from _in_layout(widget.layout())
        return
    for page in pages:
        yield from _in_order(page)


def _in_layout(layout: QLayout | None) -> Iterator[QWidget]:
    for at in range(0 if layout is None else layout.count()):
        item = None if layout is None else layout.itemAt(at)
        if item is None:
            continue
        widget = item.widget()
        if widget is not None:
            yield from _in_order(widget)
        else:
            yield from _in_layout(item.layout())


def open_dialog(dialog: QDialog) -> None:
    """Show a dialog and delete it when it is closed; otherwise Qt keeps it as long as its parent."""
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.open()


def duration(seconds: float) -> str:
    """Time in words: "45 s", "12 min", "6 h 24 min"."""
    if seconds < 60:
        return f"{max(0, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def show_error(label: QLabel, error: Exception | str, names: Mapping[str, str] | None = None) -> None:
    """Show an error in a label and as a notification, with options as ``names`` calls them."""
    from napari.utils.notifications import show_error as notify

    text = in_form_words(error, names or {}) if isinstance(error, Exception) else error
    text = text or type(error).__name__
    label.setText(text)
    label.setVisible(True)
    notify(text)


def show_refusal(label: QLabel, error: Exception | str) -> None:
    """Show what is wrong with the values of a form; `forget_refusal` takes it away when they are changed."""
    show_error(label, error)
    label.setProperty(_REFUSAL, label.text())


def forget_refusal(label: QLabel) -> None:
    """Empty a label that still shows a refusal."""
    if label.text() == label.property(_REFUSAL):
        label.setText("")
