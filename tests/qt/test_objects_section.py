"""The table of objects: only what differs is written, and writing it is no edit of the user's."""

from __future__ import annotations

import pytest
from qt_tools import add_disc
from qtpy.QtCore import Qt

from napari_sam2._qt import objects_section
from napari_sam2._qt.objects_section import ObjectsSection


@pytest.fixture
def section(binding, qtbot):
    made = ObjectsSection()
    qtbot.addWidget(made)
    made.set_binding(binding)
    return made


def _texts(section) -> list[list[str]]:
    rows, columns = section.table.rowCount(), section.table.columnCount()
    return [[section.table.item(row, column).text() for column in range(columns)] for row in range(rows)]


def test_rows_follow_objects_that_come_go_and_change(binding, section):
    first, second = add_disc(binding), add_disc(binding, frame=1)
    section.refresh()
    assert [row[:4] for row in _texts(section)] == [["1", "object 1", "1", "1"], ["2", "object 2", "1", "1"]]
    binding.session.rename(second, "nucleus")
    add_disc(binding, frame=2, object_id=first)
    section.refresh()
    assert [row[:4] for row in _texts(section)] == [["1", "object 1", "2", "2"], ["2", "nucleus", "1", "1"]]
    binding.session.remove_object(first)
    section.refresh()
    assert [row[:2] for row in _texts(section)] == [["2", "nucleus"]]
    binding.session.undo()
    section.refresh()
    assert [row[0] for row in _texts(section)] == ["1", "2"]


def test_unchanged_rows_are_not_written_and_nothing_comes_back(binding, section, monkeypatch):
    first = add_disc(binding)
    second = add_disc(binding, frame=1)
    section.refresh()
    changed = []
    section.table.model().dataChanged.connect(lambda top, *_: changed.append(top.row()))
    heard = []
    section.table.itemChanged.connect(heard.append)
    section.refresh()
    assert changed == []
    add_disc(binding, frame=3, object_id=second)
    section.refresh()
    assert set(changed) == {1}
    assert heard == []
    assert first == 1


def test_a_tick_that_the_session_does_not_follow_is_taken_back(binding, section, monkeypatch):
    add_disc(binding)
    section.refresh()
    monkeypatch.setattr(binding.session, "set_visible", lambda *_: None)
    item = section.table.item(0, objects_section._SHOW)
    item.setCheckState(Qt.CheckState.Unchecked)
    section.refresh()
    assert item.checkState() == Qt.CheckState.Checked
