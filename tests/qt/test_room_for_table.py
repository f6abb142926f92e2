"""In a low window, the table of objects keeps some rows, and other parts of the page give their room."""

from __future__ import annotations

import pytest
from qt_tools import add_disc, make_binding
from qtpy.QtWidgets import QScrollArea, QVBoxLayout, QWidget

from napari_sam2._qt.object_table import ObjectTable
from napari_sam2._qt.room_for_table import RoomForTable


@pytest.fixture
def page(qtbot, binding):
    """A scroll area with a table of five objects, and a holder with two parts of 60 pixels."""
    for _ in range(5):
        add_disc(binding)
    area, inner = QScrollArea(), QWidget()
    qtbot.addWidget(area)
    area.setWidgetResizable(True)
    area.setWidget(inner)
    table, holder = ObjectTable(), QWidget()
    parts = (QWidget(), QWidget())
    inside = QVBoxLayout(holder)
    for part in parts:
        part.setFixedHeight(60)
        inside.addWidget(part)
    layout = QVBoxLayout(inner)
    layout.addWidget(table, 1)
    layout.addWidget(holder)
    table.set_binding(binding)
    RoomForTable(area, table, parts)
    area.resize(300, 600)
    area.show()
    table.refresh()
    return area, table, holder, parts


def test_parts_give_their_room_to_the_table_one_after_the_other_and_come_back(qtbot, page):
    area, table, _, parts = page
    qtbot.wait(50)
    assert [part.isVisible() for part in parts] == [True, True]
    beside = area.height() - table.height()
    area.resize(300, beside + table.wanted_height - 10)
    qtbot.waitUntil(lambda: [part.isVisible() for part in parts] == [False, True])
    qtbot.waitUntil(lambda: table.height() >= table.wanted_height)
    area.resize(300, beside + table.wanted_height - 75)
    qtbot.waitUntil(lambda: [part.isVisible() for part in parts] == [False, False])
    qtbot.waitUntil(lambda: table.height() >= table.wanted_height)
    area.resize(300, 600)
    qtbot.waitUntil(lambda: [part.isVisible() for part in parts] == [True, True])


def test_few_objects_want_no_more_rows_than_they_are(qtbot, page, binding):
    _, table, _, _ = page
    of_many = table.wanted_height
    for each in list(binding.session.objects)[1:]:
        binding.session.remove_object(each.object_id)
    qtbot.waitUntil(lambda: table.rowCount() == 1)
    assert table.wanted_height < of_many - 40


def test_parts_in_something_hidden_take_no_room(qtbot, page):
    area, table, holder, parts = page
    qtbot.wait(50)
    beside = area.height() - table.height()
    holder.hide()
    area.resize(300, beside + table.wanted_height - 100)
    qtbot.wait(50)
    holder.show()
    qtbot.waitUntil(lambda: [part.isVisible() for part in parts] == [False, False])


def test_a_page_without_objects_keeps_its_parts(qtbot):
    binding = make_binding()
    area, inner = QScrollArea(), QWidget()
    qtbot.addWidget(area)
    area.setWidget(inner)
    table, part = ObjectTable(), QWidget()
    layout = QVBoxLayout(inner)
    layout.addWidget(table)
    layout.addWidget(part)
    table.set_binding(binding)
    RoomForTable(area, table, [part])
    area.resize(200, 40)
    area.show()
    table.refresh()
    qtbot.wait(50)
    assert part.isVisible()
    binding.close()
    binding.session.close()
