"""The table of objects: only what differs is written, and writing it is no edit of the user's."""

from __future__ import annotations

import numpy as np
import pytest
from qt_tools import add_disc, make_binding
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QLineEdit

from napari_sam2._qt import object_table
from napari_sam2._qt.layout import duration, keep_keys_on_canvas
from napari_sam2._qt.objects_section import ObjectsSection

NAME, SLICES = 3, 5  # columns


@pytest.fixture
def section(binding, qtbot):
    made = ObjectsSection(lambda: "sam2_micro")
    qtbot.addWidget(made)
    made.set_binding(binding)
    keep_keys_on_canvas(made)
    return made


def _texts(section) -> list[list[str]]:
    rows, columns = section.table.rowCount(), section.table.columnCount()
    return [[section.table.item(row, column).text() for column in range(columns)] for row in range(rows)]


def test_rows_follow_objects_that_come_go_and_change(binding, section):
    first, second = add_disc(binding), add_disc(binding, frame=1)
    section.refresh()
    assert [(*row[2:4], row[5]) for row in _texts(section)] == [("1", "object 1", "1"), ("2", "object 2", "1")]
    binding.session.rename(second, "nucleus")
    add_disc(binding, frame=2, object_id=first)
    section.refresh()
    assert [(*row[2:4], row[5]) for row in _texts(section)] == [("1", "object 1", "2"), ("2", "nucleus", "1")]
    binding.session.remove_object(first)
    section.refresh()
    assert [row[2:4] for row in _texts(section)] == [["2", "nucleus"]]
    binding.session.undo()
    section.refresh()
    assert [row[2] for row in _texts(section)] == ["1", "2"]


def test_outdated_slices_have_an_icon_and_are_counted_in_words(binding, section, qtbot):
    number = add_disc(binding)
    binding.session.propagate(start=0, stop=3)
    section.refresh()
    (row,) = _texts(section)
    assert (row[SLICES], section.table.item(0, SLICES).icon().isNull()) == ("3", True)
    add_disc(binding, frame=0, object_id=number, radius=6)
    section.refresh()
    (row,) = _texts(section)
    assert (row[SLICES], section.table.item(0, SLICES).icon().isNull()) == ("3", False)
    tip = section.table.item(0, SLICES).toolTip()
    assert tip.startswith("2 slices are outdated since the last correction: G computes them again")


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


def test_columns_are_as_wide_as_their_longest_text_without_the_whole_table_being_measured(
    binding, section, monkeypatch
):
    table, session = section.table, binding.session

    def check():
        section.refresh()
        for column in (object_table._ID, SLICES, object_table._SCORE):
            needed = max(table.sizeHintForColumn(column), table.horizontalHeader().sectionSizeHint(column))
            assert table.columnWidth(column) == needed

    table.resize(400, 300)
    for number in (1, 2, 12345):
        add_disc(binding, object_id=number)
    check()
    section.show_checks({12345: 1})
    check()
    section.show_checks({})
    check()
    session.remove_object(12345)
    check()
    session.undo()
    check()
    asked = []
    size_hint = type(table).sizeHintForIndex
    monkeypatch.setattr(type(table), "sizeHintForIndex", lambda *args: asked.append(args) or size_hint(*args))
    for number in range(3, 60):
        session.new_object(object_id=number)
    section.refresh()
    assert 0 < len(asked) < 20


def test_eye_and_padlock_are_switches(binding, section):
    session = binding.session
    for frame in range(3):
        add_disc(binding, frame=frame, object_id=1 if frame else None)
    section.refresh()
    section.table.cellClicked.emit(0, object_table._SHOW)
    assert not session.store.objects[1].is_visible
    section.table.cellClicked.emit(0, object_table._SHOW)
    assert session.store.objects[1].is_visible
    session.lock(1, [0])
    section.refresh()
    assert "1 of 3" in section.table.item(0, object_table._LOCK).toolTip()
    section.table.cellClicked.emit(0, object_table._LOCK)  # locked in part: unlocked
    assert not session.store.objects[1].locked
    section.table.cellClicked.emit(0, object_table._LOCK)
    assert session.store.objects[1].locked == {0, 1, 2}


def test_letter_after_a_click_on_a_row_edits_no_name(binding, section, qtbot):
    add_disc(binding)
    section.refresh()
    section.show()
    qtbot.waitExposed(section)
    at = section.table.visualItemRect(section.table.item(0, object_table._ID)).center()
    qtbot.mouseClick(section.table.viewport(), Qt.MouseButton.LeftButton, pos=at)
    assert not section.table.hasFocus()
    qtbot.keyClick(section.table, "n")
    assert section.table.state() != section.table.State.EditingState
    section.rename_object()
    assert section.table.state() == section.table.State.EditingState


def test_letters_are_left_to_the_viewer_while_the_table_has_the_keyboard(binding, section):
    binding.select(add_disc(binding))
    section.refresh()
    taken = {}
    for key, text in ((Qt.Key.Key_G, "g"), (Qt.Key.Key_Period, ".")):
        event = QKeyEvent(QEvent.Type.KeyPress, key, Qt.KeyboardModifier.NoModifier, text)
        section.table.keyPressEvent(event)
        taken[text] = event.isAccepted()
    assert taken == {"g": False, ".": False}


@pytest.mark.parametrize("key", [Qt.Key.Key_Return, Qt.Key.Key_Escape])
def test_the_keyboard_leaves_the_table_when_a_name_was_edited(binding, section, qtbot, key):
    binding.select(add_disc(binding))
    section.refresh()
    section.show()
    qtbot.waitExposed(section)
    section.rename_object()
    qtbot.waitUntil(lambda: section.table.findChild(QLineEdit) is not None)
    editor = section.table.findChild(QLineEdit)
    # as Qt does in a window that is active
    section.table.itemDelegate().closeEditor.connect(lambda *_: section.table.setFocus())
    qtbot.keyClicks(editor, "cell")
    qtbot.keyClick(editor, key)
    qtbot.waitUntil(lambda: section.table.state() != section.table.State.EditingState)
    qtbot.wait(50)
    assert section.focusWidget() is not section.table


def test_menu_hides_the_others_and_shows_all(binding, section):
    first, second = add_disc(binding), add_disc(binding, frame=1)
    binding.select(second)
    section.hide_others()
    assert [o.is_visible for o in binding.session.objects] == [False, True]
    section.show_all()
    assert [o.is_visible for o in binding.session.objects] == [True, True]
    assert first == 1


def test_wheel_turns_the_choice_only_of_a_combo_box_with_focus(qtbot):
    from qtpy.QtCore import QPoint, QPointF
    from qtpy.QtGui import QWheelEvent
    from qtpy.QtWidgets import QApplication, QComboBox, QSpinBox, QVBoxLayout, QWidget

    root = QWidget()
    qtbot.addWidget(root)
    layout = QVBoxLayout(root)
    combo, spin = QComboBox(), QSpinBox()
    combo.addItems(["auto", "float16"])
    for widget in (combo, spin):
        layout.addWidget(widget)
    keep_keys_on_canvas(root)
    for widget in (combo, spin):
        event = QWheelEvent(
            QPointF(3, 3),
            QPointF(widget.mapToGlobal(QPoint(3, 3))),
            QPoint(),
            QPoint(0, -120),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(widget, event)
    assert (combo.currentIndex(), spin.value()) == (0, 0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "1 h 0 min"), (23077, "6 h 25 min")]
)
def test_durations_are_in_hours_and_minutes(seconds, text):
    assert duration(seconds) == text


def _entries(section, menu) -> dict[str, object]:
    section.menu.aboutToShow.emit()
    return {action.text(): action for action in menu.actions()}


def test_menu_merges_with_an_object_and_offers_those_of_this_slice_first(binding, section):
    first, second, third = add_disc(binding), add_disc(binding, frame=4), add_disc(binding, frame=1)
    binding.select(first)
    binding.go_to(1)
    entries = _entries(section, section.merge_menu)
    assert list(entries) == [f"{third}  object {third}", f"{second}  object {second}"]
    told = []
    binding.notice.connect(lambda text, is_error: told.append((text, is_error)))
    entries[f"{second}  object {second}"].trigger()
    assert told == [("object 2 is now a part of object 1", False)]
    assert [o.object_id for o in binding.session.objects] == [first, third]
    assert binding.session.store.planes_of(first) == [0, 4]


def test_the_next_line_drawn_splits_the_object_and_leaves_no_prompt(binding, section):
    number = add_disc(binding)
    binding.select(number)
    binding.use_tool("point")
    section.split_object()
    assert section.tools["scribble"].isChecked()
    told = []
    binding.notice.connect(lambda text, is_error: told.append((text, is_error)))
    binding.shapes.add_paths([[[0, 20, -9], [0, 20, 40]]])
    assert len(binding.session.objects) == 2
    assert len(binding.shapes.data) == 0
    assert "was split" in told[-1][0]
    assert binding.tool == "point"  # as before
    binding.use_tool("scribble")
    binding.shapes.add_paths([[[0, 15, 10], [0, 15, 20]]])  # an ordinary scribble again
    assert len(binding.session.objects) == 2
    assert len(binding.shapes.data) == 1


def test_prompts_of_hidden_objects_are_hidden_too(binding, section):
    first = binding.new_object()
    binding.points.add([[0, 20, 15]])
    binding.shapes.add_rectangles([[[0, 10, 5], [0, 10, 25], [0, 30, 25], [0, 30, 5]]])
    second = binding.session.new_object()
    binding.select(second)
    binding.points.add([[0, 30, 50]])
    section.hide_others()
    assert binding.points.shown.tolist() == [False, True]
    assert binding.shapes.edge_color[0, -1] == 0
    assert set(binding.session.store.prompts) == {(first, 0), (second, 0)}
    section.show_all()
    assert binding.points.shown.all()
    assert binding.shapes.edge_color[0, -1] == 1


def test_many_objects_are_hidden_in_one_step(binding, section):
    for _ in range(5):
        binding.session.new_object()
    binding.select(3)
    changes = []
    binding.session.changed.connect(changes.append)
    for is_shown in (False, True):
        section.show_only_current()
        assert [o.is_visible or is_shown for o in binding.session.objects] == [
            o.object_id == 3 or is_shown for o in binding.session.objects
        ]
    assert len(changes) == 2
    binding.session.undo()
    assert [o.object_id for o in binding.session.objects if o.is_visible] == [3]
    binding.session.undo()
    assert all(o.is_visible for o in binding.session.objects)
    binding.session.redo()
    assert "session.show_only(object_id=3)" in binding.session.to_python()


def test_classes_have_a_column_and_colours(binding, section):
    first, second = add_disc(binding), add_disc(binding, frame=1)
    section.refresh()
    assert section.table.isColumnHidden(object_table._CLASS)
    binding.select(second)
    section.set_class("cell")
    section.refresh()
    assert not section.table.isColumnHidden(object_table._CLASS)
    assert [row[object_table._CLASS] for row in _texts(section)] == ["", "cell"]
    assert "cell" in _entries(section, section.class_menu)
    own = binding.labels.colormap.map(second)
    section.by_class.setChecked(True)
    assert not np.allclose(binding.labels.colormap.map(second), own)
    section.outline_button.click()
    assert binding.labels.contour == 2
    section.show_checks({first: 3})
    section.refresh()
    assert "3 slices to check" in section.table.item(0, object_table._SCORE).toolTip()


def test_a_long_table_is_completed_bit_by_bit_whatever_changes_meanwhile(binding, section, qtbot, monkeypatch):
    """Each update began with the first row: with thousands of objects the last rows never came, and it never ended."""
    monkeypatch.setattr("napari_sam2._qt.object_table._REFRESH_S", 0.0)  # time for one row
    count = 12
    for _ in range(count):
        binding.session.new_object()
    section.table._timer.stop()
    updates = 0
    section.refresh()
    while section.table._timer.isActive():
        section.table._timer.stop()
        if updates == count // 2:
            binding.session.rename(1, "first")
            section.table._timer.stop()
        section.table._go_on()
        updates += 1
        assert updates <= 2 * count
    assert [section.table.item(row, 2).text() for row in range(count)] == [str(n + 1) for n in range(count)]
    assert section.table.item(0, 3).text() == "first"


def test_in_a_narrow_table_names_are_hidden_until_an_object_is_given_one(binding, section, qtbot):
    font = section.font()
    font.setPointSize(20)
    section.setFont(font)
    section.resize(250, 400)
    section.show()
    first = add_disc(binding)
    binding.select(first)
    section.refresh()
    assert section.table.isColumnHidden(NAME)
    section.rename_object()
    assert not section.table.isColumnHidden(NAME)
    editor = section.table.findChild(QLineEdit)
    qtbot.keyClicks(editor, "nucleus")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: binding.session.store.objects[first].name == "nucleus", timeout=60_000)
    qtbot.wait(300)
    assert not section.table.isColumnHidden(NAME)


@pytest.mark.parametrize(("width", "points"), [(250, 9), (280, 9), (400, 9), (365, 16)])
def test_names_and_scores_can_be_read_beside_classes(binding, section, width, points):
    """Names were cut to a letter, or scores lay outside."""
    font = section.font()
    font.setPointSize(points)
    section.setFont(font)
    section.resize(width, 400)
    section.show()
    for _ in range(12):
        number = binding.session.new_object()
    add_disc(binding, object_id=number)
    binding.session.rename(number, "mitotic")
    binding.session.set_class(number, "dividing")
    section.table._checks = {number: 2}
    section.refresh()
    section.table.item(section.table.rowCount() - 1, object_table._SCORE).setText("0.95")
    hidden = []
    for _ in range(3):
        section.table._fit_columns()
        hidden.append(section.table.isColumnHidden(SLICES))
    assert len(set(hidden)) == 1
    table, header = section.table, section.table.horizontalHeader()
    assert not table.isColumnHidden(NAME)
    least = section.fontMetrics().horizontalAdvance("mitotic")
    assert header.sectionSize(NAME) >= least
    last = object_table._SCORE
    assert header.sectionViewportPosition(last) + header.sectionSize(last) <= table.viewport().width() + 1


def test_the_current_row_stays_in_sight_in_a_lower_table(binding, section):
    section.resize(280, 500)
    section.show()
    for _ in range(12):
        number = binding.session.new_object()
    binding.select(number)
    section.refresh()
    section.resize(280, 260)
    table = section.table
    last = table.visualItemRect(table.item(table.rowCount() - 1, NAME if not table.isColumnHidden(NAME) else 2))
    assert last.bottom() <= table.viewport().height()


def test_the_current_row_stays_in_sight_where_names_have_no_room(binding, section, qtbot):
    font = section.font()
    font.setPointSize(20)
    section.setFont(font)
    section.resize(250, 700)
    section.show()
    for _ in range(12):
        number = add_disc(binding)
    section.refresh()
    binding.select(number)
    section.refresh()
    section.resize(250, 300)
    table = section.table
    assert table.isColumnHidden(NAME)
    qtbot.waitUntil(lambda: 0 < table.visualItemRect(table.item(11, 2)).bottom() <= table.viewport().height())
    binding.select(1)
    qtbot.waitUntil(lambda: table.visualItemRect(table.item(0, 2)).top() >= 0)


def test_space_hides_the_current_object_and_shows_it_again(binding, section):
    section.show()
    for _ in range(2):
        number = add_disc(binding)
    binding.select(number)
    section.refresh()
    for expected in ([True, False], [True, True]):
        section.table.keyPressEvent(
            QKeyEvent(QEvent.Type.KeyPress, Qt.Key.Key_Space, Qt.KeyboardModifier.NoModifier, " ")
        )
        assert [each.is_visible for each in binding.session.objects] == expected


def test_a_table_of_a_single_image_has_no_column_of_slices(qtbot):
    made, section = make_binding(1), ObjectsSection(lambda: "sam2_micro")
    qtbot.addWidget(section)
    section.set_binding(made)
    assert section.table.isColumnHidden(SLICES)
    made.close()
    made.session.close()


def test_rows_are_as_high_as_the_font(binding, section):
    font = section.font()
    font.setPointSize(24)
    section.setFont(font)
    add_disc(binding)
    section.refresh()
    assert section.table.rowHeight(0) >= section.fontMetrics().height()


def test_icons_of_rows_follow_the_theme(binding, section, qtbot):
    add_disc(binding)
    section.refresh()
    icon = section.table.item(0, object_table._SHOW).icon()
    before = icon.pixmap(16).toImage()
    section.setStyleSheet("QTableWidget { color: #123456; }")
    qtbot.waitUntil(lambda: section.table.item(0, object_table._SHOW).icon().pixmap(16).toImage() != before)
