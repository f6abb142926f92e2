"""The helpers of the layout keep texts readable in narrow docks."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from qtpy.QtCore import QPoint
from qtpy.QtGui import QFont, QFontMetrics
from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QTabWidget, QWidget

from napari_sam2._qt.forms import Form
from napari_sam2._qt.layout import column, fit_tabs, keep_tabs_fitted, make_narrow, wrap_check_boxes

NAMES = ("Click", "Everything", "Many files", "Train")


@pytest.mark.parametrize("width", [250, 400])
def test_the_names_of_tabs_fit_in_a_large_font(qtbot, width):
    tabs = QTabWidget()
    qtbot.addWidget(tabs)
    tabs.setDocumentMode(True)
    tabs.setUsesScrollButtons(False)
    for name in NAMES:
        tabs.addTab(QWidget(), name)
    tabs.resize(width, 100)
    tabs.show()
    bar = tabs.tabBar()
    fit_tabs(bar, 16)
    qtbot.wait(20)
    size = int(bar.styleSheet().split("font-size: ")[1].split("pt")[0])
    font = QFont(bar.font())
    font.setPointSize(size)
    for at, name in enumerate(NAMES):
        assert bar.tabRect(at).width() >= QFontMetrics(font).horizontalAdvance(name)
    assert sum(bar.tabRect(at).width() for at in range(len(NAMES))) <= width


def test_a_narrow_combo_box_is_painted_with_an_ellipsis(qtbot):
    boxes = []
    for text in ("nuclei objects of a very long name", "nucl"):
        box = QComboBox()
        qtbot.addWidget(box)
        make_narrow(box)
        box.addItem(text)
        box.resize(80, 24)
        boxes.append(box)
    assert boxes[0].minimumSizeHint() == boxes[1].minimumSizeHint()
    pictures = []
    for is_filtered in (True, False):
        box = boxes[0]
        if not is_filtered:
            for each in box.children():
                box.removeEventFilter(each)
        image = box.grab().toImage().convertToFormat(box.grab().toImage().Format.Format_Grayscale8)
        buffer = image.constBits()
        buffer.setsize(image.sizeInBytes())
        pictures.append(np.frombuffer(buffer, np.uint8).copy())
    assert (pictures[0] != pictures[1]).any()


def test_names_of_tabs_are_fitted_to_the_first_width_and_never_end_in_an_ellipsis(qtbot):
    tabs = QTabWidget()
    qtbot.addWidget(tabs)
    tabs.setStyleSheet("QTabBar, QTabBar::tab { font-size: 20pt; padding: 3px 6px; }")  # as napari does
    tabs.setDocumentMode(True)
    tabs.setUsesScrollButtons(False)
    for name in NAMES:
        tabs.addTab(QWidget(), name)
    keep_tabs_fitted(tabs, lambda: 20)
    gc.collect()  # nothing in Python holds the bar, and the filter must outlive it
    tabs.resize(270, 100)
    tabs.show()
    qtbot.wait(20)
    bar = tabs.tabBar()
    for at, name in enumerate(NAMES):
        assert bar.fontMetrics().horizontalAdvance(name) < bar.tabRect(at).width()
    narrow = bar.font().pointSize()
    tabs.resize(700, 100)
    qtbot.waitUntil(lambda: bar.font().pointSize() > narrow)


def test_texts_of_check_boxes_continue_on_the_next_line_where_there_is_no_room(qtbot):
    page = QWidget()
    qtbot.addWidget(page)
    layout = column(page)
    box = QCheckBox("Exclude objects at the border")
    layout.addWidget(box)
    wrap_check_boxes(page)
    page.resize(500, 80)
    page.show()
    assert box.text() == "Exclude objects at the border"
    assert page.minimumSizeHint().width() < box.fontMetrics().horizontalAdvance(box.text())
    height = box.sizeHint().height()
    page.resize(page.minimumSizeHint().width() + 20, 80)
    qtbot.waitUntil(lambda: "\n" in box.text())
    assert box.text().split() == ["Exclude", "objects", "at", "the", "border"]
    widest = max(box.fontMetrics().horizontalAdvance(line) for line in box.text().split("\n"))
    assert widest < box.width()
    assert box.sizeHint().height() > height
    page.resize(500, 80)
    qtbot.waitUntil(lambda: "\n" not in box.text())


def test_labels_of_a_form_are_aligned_again_in_another_font(qtbot):
    def call(short: int = 1, much_longer: int = 2, text: str = "a") -> None:
        """Do nothing."""

    form = Form(call, "test", {"short": {}, "much_longer": {}, "text": {"choices": ["a", "a very long choice"]}})
    qtbot.addWidget(form.gui.native)
    form.gui.native.resize(400, 200)
    form.gui.native.show()
    form.keep_aligned()
    labels = form.gui.native.findChildren(QLabel)
    widths = []
    for points in (20, 9):
        form.gui.native.setStyleSheet(f"QLabel {{ font-size: {points}pt; }}")
        qtbot.wait(50)
        assert labels[0].width() == labels[1].width()
        assert labels[1].minimumWidth() >= labels[1].fontMetrics().horizontalAdvance(labels[1].text())
        starts = {form.native(name).mapTo(form.gui.native, QPoint()).x() for name in ("short", "much_longer", "text")}
        assert len(starts) == 1  # controls of all kinds begin below each other
        widths.append(labels[1].minimumWidth())
    assert widths[0] > 1.5 * widths[1]


class _Told(QCheckBox):
    """Remembers its text whenever the layout is told of another size."""

    def __init__(self, text: str) -> None:
        self.told: list[str] = []
        super().__init__(text)

    def updateGeometry(self) -> None:  # noqa: N802 Qt's name
        self.told.append(self.text())
        super().updateGeometry()


def test_a_layout_hears_of_a_wrapped_text_after_it_has_placed_it(qtbot):
    page = QWidget()
    qtbot.addWidget(page)
    box = _Told("Exclude objects at the border of the image")
    column(page).addWidget(box)
    wrap_check_boxes(page)
    page.resize(700, 80)
    page.show()
    box.told.clear()
    page.resize(page.minimumSizeHint().width() + 20, 80)
    # Qt's own call is within the event of the resize, where the layout of a dock is at work
    qtbot.waitUntil(lambda: bool(box.told) and "\n" in box.told[-1])
