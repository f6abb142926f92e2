"""Values in narrow spin boxes are whole: they take the place of the buttons."""

from __future__ import annotations

import pytest
from qtpy.QtWidgets import QAbstractSpinBox, QDoubleSpinBox, QLineEdit, QSpinBox, QWidget

from napari_sam2._qt.fitted_spin import keep_values_readable
from napari_sam2._qt.layout import column

STYLE = (  # as napari's, whose buttons are within the padding of the value
    "QAbstractSpinBox { padding: 1px 10px; min-width: 70px; border: none; font-size: %dpt; }"
    "QAbstractSpinBox::up-button { subcontrol-origin: margin; subcontrol-position: center right; width: 20px; }"
    "QAbstractSpinBox::down-button { subcontrol-origin: margin; subcontrol-position: center left; width: 20px; }"
)


@pytest.fixture
def page(qtbot) -> QWidget:
    made = QWidget()
    qtbot.addWidget(made)
    made.setStyleSheet(STYLE % 14)
    layout = column(made)
    area, slices = QDoubleSpinBox(), QSpinBox()
    area.setSuffix(" µm²")
    slices.setRange(0, 9999)
    slices.setValue(5)
    slices.setSuffix(" slices")
    for spin in (area, slices):
        layout.addWidget(spin)
    keep_values_readable(made)
    return made


def has_buttons(spin: QAbstractSpinBox) -> bool:
    return spin.buttonSymbols() != QAbstractSpinBox.ButtonSymbols.NoButtons


def is_whole(spin: QAbstractSpinBox) -> bool:
    return spin.fontMetrics().horizontalAdvance(spin.text()) < spin.findChild(QLineEdit).width()


def test_a_value_without_room_takes_the_place_of_the_buttons(qtbot, page):
    spins = page.findChildren(QAbstractSpinBox)
    for spin in spins:
        spin.ensurePolished()  # takes the font of the style
    needed = max(spin.fontMetrics().horizontalAdvance(spin.text()) for spin in spins)
    page.resize(needed + 120, 100)
    page.show()
    qtbot.waitUntil(lambda: all(has_buttons(spin) and is_whole(spin) for spin in spins))
    page.resize(needed + 16, 100)
    qtbot.waitUntil(lambda: all(map(is_whole, spins)))
    assert not all(map(has_buttons, spins))
    page.resize(needed + 120, 100)
    qtbot.waitUntil(lambda: all(has_buttons(spin) and is_whole(spin) for spin in spins))


def test_a_value_that_grows_or_a_larger_font_keeps_the_value_whole(qtbot, page):
    area = page.findChild(QDoubleSpinBox)
    area.setMaximum(1e7)
    area.ensurePolished()  # takes the font of the style
    page.resize(area.fontMetrics().horizontalAdvance("0.00 µm²") + 80, 100)
    page.show()
    qtbot.waitUntil(lambda: has_buttons(area))
    area.setValue(12345.0)
    qtbot.waitUntil(lambda: not has_buttons(area) and is_whole(area))
    area.setValue(0.0)
    qtbot.waitUntil(lambda: has_buttons(area) and is_whole(area))
    area.setSuffix(" square micrometres")
    qtbot.waitUntil(lambda: not has_buttons(area))
    area.setSuffix(" µm²")
    qtbot.waitUntil(lambda: has_buttons(area))
    page.setStyleSheet(STYLE % 17)
    qtbot.waitUntil(lambda: is_whole(area))


def test_a_spin_box_that_never_had_buttons_gets_none(qtbot, page):
    plain = QSpinBox(page)
    plain.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
    keep_values_readable(page)
    plain.resize(300, 30)
    page.show()
    plain.show()
    qtbot.wait(20)
    assert not has_buttons(plain)
