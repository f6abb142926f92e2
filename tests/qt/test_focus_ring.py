"""The control that has the keyboard is framed, wherever it is in the dock."""

from __future__ import annotations

import pytest
from qtpy.QtCore import QCoreApplication, QEvent, Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QPushButton, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_sam2._qt.focus_ring import FocusRing

BY_TAB = Qt.FocusReason.TabFocusReason


@pytest.fixture
def page(qtbot):
    """A window with controls that napari's style draws the same with the keyboard and without."""
    root = QWidget()
    qtbot.addWidget(root)
    root.setStyleSheet("* { outline: none; border: none; }")
    layout = QVBoxLayout(root)
    for kind in (QPushButton, QCheckBox, QComboBox):
        layout.addWidget(kind())
    tabs = QTabWidget()
    for name in ("Click", "Train"):
        tabs.addTab(QWidget(), name)
    layout.addWidget(tabs)
    ring = FocusRing(root)
    root.resize(200, 240)
    root.show()
    root.activateWindow()
    qtbot.waitUntil(root.isActiveWindow)
    return root, ring


def picture(root) -> object:
    return root.grab().toImage()


@pytest.mark.parametrize("kind", [QPushButton, QCheckBox, QComboBox])
def test_the_control_with_the_keyboard_is_framed_and_no_other(qtbot, page, kind):
    root, ring = page
    control = root.findChild(kind)
    control.setFocus(BY_TAB)
    qtbot.waitUntil(lambda: ring.framed is control)
    framed = picture(root)
    control.clearFocus()
    qtbot.waitUntil(lambda: ring.framed is None)
    assert picture(root) != framed
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert len([each for each in root.findChildren(QWidget) if type(each).__name__ == "_Frame"]) == 0


def test_of_tabs_the_one_in_front_is_framed(qtbot, page):
    root, ring = page
    bar = root.findChild(QTabWidget).tabBar()
    bar.setFocus(BY_TAB)
    qtbot.waitUntil(lambda: ring.framed is bar)
    first = ring._frame.geometry()
    assert first == bar.tabRect(0).translated(bar.pos())
    bar.setCurrentIndex(1)
    qtbot.waitUntil(lambda: ring._frame.geometry() == bar.tabRect(1).translated(bar.pos()))


def test_the_frame_follows_a_control_that_moves_hides_or_is_deleted(qtbot, page):
    root, ring = page
    control = root.findChild(QCheckBox)
    control.setFocus(BY_TAB)
    qtbot.waitUntil(lambda: ring.framed is control)
    root.findChild(QPushButton).setFixedHeight(70)
    qtbot.waitUntil(lambda: ring._frame.geometry() == control.geometry() and control.y() > 70)
    control.hide()
    qtbot.waitUntil(lambda: ring.framed is not control or ring._frame.isHidden())
    control.show()
    control.setFocus(BY_TAB)
    qtbot.waitUntil(lambda: ring.framed is control)
    control.deleteLater()
    qtbot.waitUntil(lambda: ring.framed is not control)


def test_a_page_that_is_replaced_while_a_control_of_it_has_the_keyboard_takes_the_frame_along(qtbot, page):
    root, ring = page
    area, inner = QScrollArea(), QWidget()
    QVBoxLayout(inner).addWidget(control := QPushButton("a"))
    area.setWidget(inner)
    root.layout().addWidget(area)
    qtbot.waitUntil(control.isVisible)
    control.setFocus(BY_TAB)
    qtbot.waitUntil(lambda: ring.framed is control)
    area.setWidget(QWidget())
    qtbot.waitUntil(lambda: ring.framed is not control)
    other = root.findChild(QPushButton)
    other.setFocus(BY_TAB)
    qtbot.waitUntil(lambda: ring.framed is other and ring._frame is not None and ring._frame.isVisible())
