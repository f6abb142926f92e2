"""The table of the objects of a session: one row for each, with switches for being shown and locked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from qtpy.QtCore import QEvent, QSignalBlocker, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QIcon, QKeyEvent, QPalette, QResizeEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QSizePolicy, QTableWidget, QTableWidgetItem, QWidget

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._qt.icons import colour_icon, draw_icon, swatch
from napari_sam2._viewer.labels_layer import class_colours
from napari_sam2._viewer.layer_frames import in_plane_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._viewer.binding import ViewerBinding
    from napari_sam2.session.state.records import SessionObject
    from napari_sam2.session.state.store import ObjectStats

__all__ = ["ObjectTable"]

_COLUMNS = ("", "", "#", "Name", "Class", "Slices", "IoU")
_HEADER_TIPS = (
    "Shown or hidden (click)",
    "Locked slices are not changed (click to lock or unlock)",
    "Number of the object: its value in the labels",
    "Name (F2 or double click to change it)",
    "Class (change it in the menu above the table)",
    "Slices with a mask; with a circular arrow if some are outdated since the last correction",
    "Mean predicted IoU of its masks, 0 to 1; marked if slices should be checked",
)
_SHOW, _LOCK, _ID, _NAME, _CLASS, _DONE, _SCORE = range(7)
_ICON_WIDTH = 24  # pixels
_ROW_HEIGHT = 24
_WANTED_ROWS = 4  # to be in sight where the window has room
_TABLE_HEIGHT = 72  # pixels: a title and a row, also in a large font
_FONT_POINTS = 9  # of the font that widths are given for
_WIDE_FROM = 330  # pixels: in narrower tables a class is its colour
_SHORTEST_NAME = "object 9"  # must fit, or names that nobody gave are hidden
_FITTED = (_ID, _CLASS, _DONE, _SCORE)
_MARGIN = 8
_GRID = 1  # pixel between columns
_REFRESH_MS = 150
_REFRESH_S = 0.03  # of one update of the table


@dataclass(frozen=True)
class _ShownRow:
    """What a row shows.

    Attributes
    ----------
    texts : dict of int to str
        By column.
    counts : tuple of int
        Prompts, empty and outdated slices, locked slices, slices to check.
    is_visible : bool
        Whether the object is shown.
    colour : tuple of float
        RGBA of its class; empty without one.
    """

    texts: dict[int, str]
    counts: tuple[int, int, int, int, int]
    is_visible: bool
    colour: tuple[float, ...]

    def has_icon(self, column: int) -> bool:
        """Whether there is an icon beside the text."""
        _, _, num_outdated, _, num_checks = self.counts
        return bool({_ID: True, _CLASS: self.colour, _DONE: num_outdated, _SCORE: num_checks}[column])


class ObjectTable(QTableWidget):
    """One row for each object of a session.

    Attributes
    ----------
    refreshed : Signal
        Emitted after rows were updated.
    notice : Signal
        Emitted with a line for the user.
    """

    refreshed = Signal()
    notice = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, len(_COLUMNS), parent)
        self._binding: ViewerBinding | None = None
        self._shown: list[_ShownRow | None] = []  # per row
        self._longest: dict[tuple[int, bool], tuple[int, int]] = {}  # column and whether with an icon -> length, row
        self._icons: dict[tuple[str, str], QIcon] = {}
        self._checks: dict[int, int] = {}  # object -> slices to check
        self._class_colours: dict[str, NDArray[np.float32]] = {}
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REFRESH_MS)
        self._timer.timeout.connect(self._go_on)
        self._is_changed = False  # since the table was updated
        self._next_row, self._num_left = 0, 0  # of the table to be updated
        self.setObjectName("objects_table")
        self.setAccessibleName("Objects")
        self.setHorizontalHeaderLabels(list(_COLUMNS))
        for at, tip in enumerate(_HEADER_TIPS):
            self._title_of(at).setToolTip(tip)
        self._row_header.setVisible(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)  # the Tab key leaves the table; the arrow keys go through it
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        # a letter typed after a row was chosen is a shortcut, and not the beginning of a name
        self.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked | QAbstractItemView.EditTrigger.EditKeyPressed)
        # as high as there is room, whatever its rows ask for
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
        self.setMinimumHeight(_TABLE_HEIGHT)
        self.setIconSize(QSize(16, 16))
        self.setToolTip(
            "Objects: select one to prompt it; J and H select the next and the previous one, Space hides or shows it"
        )
        header = self._header
        header.setAccessibleName("Columns of the objects")
        header.setMinimumSectionSize(_ICON_WIDTH)
        # with ResizeToContents, Qt measures up to 1000 rows again after each item that is set: 2 ms for 900 objects
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        for at in (_SHOW, _LOCK):
            header.resizeSection(at, _ICON_WIDTH)
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        header.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        delegate = self.itemDelegate()
        assert delegate is not None
        delegate.closeEditor.connect(self.refresh_later)  # of the name, whose column may be hidden again
        # later: Qt gives the keyboard to the table after this, which would take letters for the beginning of names
        delegate.closeEditor.connect(lambda *_: QTimer.singleShot(0, self._leave_table))
        self.itemSelectionChanged.connect(self._on_row_selected)
        self.itemChanged.connect(self._on_item_changed)
        self.cellClicked.connect(self._on_cell_clicked)
        self._fit_rows()

    @property
    def _header(self) -> QHeaderView:
        header = self.horizontalHeader()
        assert header is not None
        return header

    @property
    def _row_header(self) -> QHeaderView:
        header = self.verticalHeader()
        assert header is not None
        return header

    @property
    def _viewport(self) -> QWidget:
        viewport = self.viewport()
        assert viewport is not None
        return viewport

    def _title_of(self, column: int) -> QTableWidgetItem:
        title = self.horizontalHeaderItem(column)
        assert title is not None
        return title

    def _cell(self, row: int, column: int) -> QTableWidgetItem:
        cell = self.item(row, column)
        assert cell is not None
        return cell

    def set_binding(self, binding: ViewerBinding | None) -> None:
        """Show the objects of another session, or none."""
        if self._binding is not None:
            self._binding.session.changed.disconnect(self.refresh_later)
        self._binding = binding
        self._checks = {}
        if binding is not None:
            binding.session.changed.connect(self.refresh_later)
        self._title_of(_DONE).setText(f"{self._word.capitalize()}s")
        for at, tip in enumerate(_HEADER_TIPS):
            self._title_of(at).setToolTip(in_plane_words(tip, self._word))

    def show_checks(self, counts: Mapping[int, int]) -> None:
        """Mark the objects that have slices to check, by object."""
        self._checks = dict(counts)
        self.refresh_later()

    @property
    def _word(self) -> Literal["frame", "slice"]:
        """What a plane is called."""
        return "slice" if self._binding is None else self._binding.plane_word

    @property
    def wanted_height(self) -> int:
        """Pixels for the titles and the first rows, or all of few."""
        rows = min(_WANTED_ROWS, self.rowCount())
        return self._header.sizeHint().height() + rows * self._row_header.defaultSectionSize() + 2 * self.frameWidth()

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Columns fit into the new width, and the current object stays in sight in a lower table."""
        super().resizeEvent(event)
        self._fit_columns()
        self._show_current_row()

    def _show_current_row(self) -> None:
        """Scroll to the current object; Qt scrolls to no cell of a hidden column, which names may be."""
        if self.currentRow() >= 0:
            self.scrollToItem(self._cell(self.currentRow(), _ID))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Show what is to be edited, or with Space the object, or hide it; letters are keys of the viewer, and not the
        beginning of a name to search.
        """
        if event is not None and event.key() == Qt.Key.Key_Space:
            self._on_cell_clicked(self.currentRow(), _SHOW)
            return
        if event is not None and event.text().isprintable() and event.text():
            event.ignore()
            return
        if event is not None and event.key() == Qt.Key.Key_F2:
            self.setColumnHidden(_NAME, False)
        super().keyPressEvent(event)

    def _leave_table(self) -> None:
        """The keys are those of the canvas again after a name was edited."""
        window = self.window()
        if window is not None and window.focusWidget() is self:
            window.setFocus()

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Rows are as high as the font, and icons have the colour of the theme's text."""
        super().changeEvent(event)
        if event is None:
            return
        if event.type() == QEvent.Type.FontChange:
            self._fit_rows()
            self._fit_columns()
        elif event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self._shown = [None] * len(self._shown)
            self._longest = {}
            self.refresh_later()

    def _fit_rows(self) -> None:
        height = max(_ROW_HEIGHT, self.fontMetrics().height() + 8)
        self._row_header.setDefaultSectionSize(height)

    def _fit_columns(self) -> None:
        """Hide what says nothing or has no room: slices of a single image; where names that somebody gave would be cut
        to a letter, slices; and names that nobody gave, where they would be.
        """
        binding = self._binding
        has_slices = binding is None or binding.geometry.num_frames > 1
        has_names = binding is not None and any(
            each.name != f"object {each.object_id}" for each in binding.session.objects
        )
        is_edited = self.state() == QAbstractItemView.State.EditingState
        needed = self.fontMetrics().horizontalAdvance(_SHORTEST_NAME) + _MARGIN
        self.setColumnHidden(_DONE, not has_slices)  # the title of a hidden column has no size
        fitted = self._fit_to_texts(has_slices=has_slices)
        self._fit_class_column(self._room_beside(fitted) >= needed)
        has_room = self._room_beside(fitted) >= needed
        is_named = has_names or is_edited or has_room
        self.setColumnHidden(_NAME, not is_named)
        self.setColumnHidden(_DONE, not has_slices or (is_named and not has_room))
        self._header.setStretchLastSection(not is_named)

    def _fit_to_texts(self, *, has_slices: bool) -> int:
        """Make columns as wide as their texts and icons; the width of all of them, in pixels."""
        widths = {at: self._needed_width(at) for at in (_ID, _SCORE, _DONE)}
        for at, width in widths.items():
            self._header.resizeSection(at, width)
        return sum(width for at, width in widths.items() if has_slices or at != _DONE)

    def _needed_width(self, column: int) -> int:
        """Of a column, in pixels: its title, or its longest texts, with an icon and without; no other cell is asked."""
        if not self._longest:
            for row, shown in enumerate(self._shown):
                if shown is not None:
                    self._note_longest(row, shown)
        rows = [row for (at, _), (_, row) in self._longest.items() if at == column]
        hints = [self.sizeHintForIndex(self.indexFromItem(self._cell(row, column))).width() for row in rows]
        return max([self._header.sectionSizeHint(column), *(hint + _GRID for hint in hints)])

    def _note_longest(self, row: int, shown: _ShownRow) -> None:
        """Keep which rows have the longest texts."""
        for column in _FITTED:
            key, length = (column, shown.has_icon(column)), len(shown.texts[column])
            if length >= self._longest.get(key, (0, 0))[0]:
                self._longest[key] = (length, row)

    def _room_beside(self, fitted_width: int) -> int:
        """What the other columns leave for names, in pixels."""
        header = self._header
        fixed = [header.sectionSize(at) for at in (_SHOW, _LOCK, _CLASS) if not self.isColumnHidden(at)]
        return int(self._viewport.width() - sum(fixed) - fitted_width)

    def _fit_class_column(self, has_room: bool) -> None:
        """The names of classes, or where there is no room for them their colours only."""
        is_wide = has_room and self.width() >= _WIDE_FROM * self.font().pointSizeF() / _FONT_POINTS
        self._title_of(_CLASS).setText(_COLUMNS[_CLASS] if is_wide else "")
        wanted = self._needed_width(_CLASS) + _MARGIN if is_wide else _ICON_WIDTH
        self._header.resizeSection(_CLASS, min(max(wanted, _ICON_WIDTH), self.width() // 3))

    def _row_of(self, object_id: int | None) -> int | None:
        for row in range(self.rowCount()):
            if self._object_in(row) == object_id:
                return row
        return None

    def refresh_later(self, *_: Any) -> None:
        """Update the table soon, together with what changes until then."""
        self._is_changed = True
        if not self._timer.isActive():
            self._timer.start()

    def refresh(self) -> None:
        """Update the table; where it is long, the rows in sight at once and the others after other events."""
        self._is_changed = True
        self._go_on()

    def _go_on(self) -> None:
        """Update as many rows as there is time for, each time from where the last ones ended."""
        binding = self._binding
        # each change of an item would come back as a call, for which Python's lock is waited for
        with QSignalBlocker(self):
            objects = [] if binding is None else binding.session.objects
            if self.rowCount() > len(objects):
                self.setRowCount(len(objects))
                self._longest = {}
            del self._shown[len(objects) :]
            self._next_row = min(self._next_row, self.rowCount())
            classes = {each.class_name for each in objects if each.class_name}
            self.setColumnHidden(_CLASS, not classes)
            self._class_colours = class_colours(classes)
            self.setVisible(bool(objects))
            if self._is_changed:
                self._is_changed, self._num_left = False, len(objects)
            for row in self._rows_in_sight():
                self._fill(row, objects[row])
            end = time.thread_time() + _REFRESH_S
            for _ in range(min(self._num_left, len(objects))):
                row = self._next_row % len(objects)
                self._add_rows(row + 1)
                self._fill(row, objects[row])
                self._next_row, self._num_left = row + 1, self._num_left - 1
                if time.thread_time() > end and self._num_left:
                    self._timer.start()  # the rest after other events
                    break
            self._fit_columns()
            row_now = self._row_of(None if binding is None else binding.current)
            if row_now is not None and self.currentRow() != row_now:
                self.setCurrentCell(row_now, _NAME)
                self._show_current_row()
        self.refreshed.emit()

    def _fill(self, row: int, each: SessionObject) -> None:
        """Update one row, if it has changed: each item that is set is drawn again."""
        assert self._binding is not None
        stats = self._binding.session.store.stats(each.object_id)
        locked = len(each.locked)
        with_mask = stats.num_done - stats.num_empty
        texts = {
            _ID: str(each.object_id),
            _NAME: each.name,
            _CLASS: each.class_name,
            _DONE: f"{with_mask}",
            _SCORE: "" if np.isnan(stats.mean_iou) else f"{stats.mean_iou:.2f}",
        }
        num_checks = self._checks.get(each.object_id, 0)
        colour = tuple(self._class_colours.get(each.class_name, ()))
        counts = (stats.num_prompts, stats.num_empty, stats.num_stale, locked, num_checks)
        shown = _ShownRow(texts, counts, each.is_visible, colour)
        if self._shown[row] == shown:
            return
        items = [self._cell(row, column) for column in range(len(_COLUMNS))]
        for column, text in texts.items():
            if items[column].text() != text:
                items[column].setText(text)
        if items[_ID].data(Qt.ItemDataRole.UserRole) != each.object_id:
            items[_ID].setData(Qt.ItemDataRole.UserRole, each.object_id)
            items[_ID].setIcon(swatch(each.object_id))
        items[_SHOW].setIcon(self._icon("eye" if each.is_visible else "eye_off"))
        items[_SHOW].setToolTip("Shown; a click hides it" if each.is_visible else "Hidden; a click shows it")
        state = "lock_open" if not locked else ("lock" if locked >= with_mask else "lock_half")
        items[_LOCK].setIcon(self._icon(state))
        items[_LOCK].setToolTip(
            f"Locked on {locked} of {with_mask} {self._word}s, which do not change; a click unlocks them"
            if locked
            else f"Not locked; a click locks all {self._word}s with a mask"
        )
        items[_DONE].setIcon(self._icon("outdated") if stats.num_stale else QIcon())
        items[_DONE].setToolTip(self._in_slices(stats))
        items[_NAME].setToolTip(f"{each.name}: {with_mask} {self._word}s")
        items[_CLASS].setIcon(colour_icon(colour) if colour else QIcon())
        items[_CLASS].setToolTip(each.class_name)
        items[_SCORE].setIcon(self._icon("warning") if num_checks else QIcon())
        items[_SCORE].setToolTip(f"{num_checks} {self._word}s to check (keys 8 and 9 go to them)" if num_checks else "")
        self._shown[row] = shown
        noted = [(column, length, has_icon) for (column, has_icon), (length, at) in self._longest.items() if at == row]
        if any(shown.has_icon(at) != has_icon or len(shown.texts[at]) < length for at, length, has_icon in noted):
            self._longest = {}  # another row may be the longest now
        elif self._longest:
            self._note_longest(row, shown)

    def _in_slices(self, stats: ObjectStats) -> str:
        """What the slices of an object are, in words."""
        found = f"{stats.num_done - stats.num_empty} with a mask, {stats.num_empty} where the object was not found"
        outdated = ""
        if stats.num_stale:
            planes = f"{stats.num_stale} {self._word}s are" if stats.num_stale != 1 else f"1 {self._word} is"
            outdated = f"{planes} outdated since the last correction: G computes them again\n"
        return f"{outdated}{found}; prompts: {stats.num_prompts}"

    def _icon(self, name: str) -> QIcon:
        colour = self.palette().color(QPalette.ColorRole.Text)
        key = (name, colour.name())
        if key not in self._icons:
            self._icons[key] = draw_icon(name, colour)
        return self._icons[key]

    def _rows_in_sight(self) -> range:
        """The rows that are shown, of those that are there."""
        first, last = self.rowAt(0), self.rowAt(self._viewport.height() - 1)
        return range(max(first, 0), self.rowCount() if last < 0 else last + 1)

    def _add_rows(self, count: int) -> None:
        """Empty rows, as many as are missing."""
        for row in range(self.rowCount(), count):
            self.insertRow(row)
            self._shown.append(None)
            for column in range(len(_COLUMNS)):
                item = QTableWidgetItem()
                flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
                item.setFlags(flags | Qt.ItemFlag.ItemIsEditable if column == _NAME else flags)
                self.setItem(row, column, item)

    def edit_current_name(self) -> None:
        """Edit the name of the current object."""
        row = self._row_of(None if self._binding is None else self._binding.current)
        if row is not None and self.state() != QAbstractItemView.State.EditingState:
            self.setColumnHidden(_NAME, False)
            self.editItem(self._cell(row, _NAME))

    def try_lock(self, object_id: int, *, is_on: bool) -> None:
        """Lock an object wherever it has a mask, or unlock it."""
        assert self._binding is not None
        session = self._binding.session
        try:
            if is_on:
                planes = [p for p in session.store.planes_of(object_id) if session.store.masks[object_id, p].area]
                session.lock(object_id, planes)
            else:
                session.unlock(object_id)
        except NapariSAM2Error as error:
            self.notice.emit(self._binding.in_words(error))

    def _on_row_selected(self) -> None:
        object_id = self._object_in(self.currentRow())
        if self._binding is not None and object_id is not None:
            self._binding.select(object_id)

    def _object_in(self, row: int) -> int | None:
        item = self.item(row, _ID)
        object_id: int | None = None if item is None else item.data(Qt.ItemDataRole.UserRole)
        return object_id

    def _on_item_changed(self, item: QTableWidgetItem) -> None:
        if self._binding is None or item.column() != _NAME:
            return
        self._shown[item.row()] = None  # the session may refuse the change
        object_id = self._object_in(item.row())
        if object_id is not None and item.text().strip():
            self._binding.session.rename(object_id, item.text().strip())
        self.refresh_later()

    def _on_cell_clicked(self, row: int, column: int) -> None:
        """The eye and the padlock are switches."""
        object_id = self._object_in(row)
        each = (
            None if self._binding is None or object_id is None else self._binding.session.store.objects.get(object_id)
        )
        if self._binding is None or each is None:
            return
        if column == _SHOW:
            self._binding.session.set_visible(each.object_id, not each.is_visible)
        elif column == _LOCK:
            self.try_lock(each.object_id, is_on=not each.locked)
