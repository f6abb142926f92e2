"""Tools to prompt with, and the table of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QButtonGroup,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._qt.layout import shrinking_combo
from napari_sam2._viewer.labels_layer import object_colour

if TYPE_CHECKING:
    from napari_sam2._viewer.binding import Tool, ViewerBinding
    from napari_sam2.session.state.records import SessionObject

__all__ = ["ObjectsSection"]

_COLUMNS = ("#", "name", "said", "done", "IoU", "lock", "show")
_HEADER_TIPS = (
    "Number: the object's value in the labels",
    "Name (double-click to change, F2)",
    "Clicks, boxes and masks given",
    "Frames that have a mask; in brackets those out of date since a prompt changed",
    "Mean predicted agreement of its masks with the object, 0 to 1",
    "Verified frames: nothing changes there any more",
    "Whether it is shown",
)
_ID, _NAME, _PROMPTS, _DONE, _SCORE, _LOCK, _SHOW = range(7)
_REFRESH_MS = 150
_TOOLS: tuple[tuple[Tool, str, str], ...] = (
    ("point", "points", "Click on the object; each click is answered at once (U: next tool)"),
    ("box", "box", "Drag a rectangle around the object (U: next tool)"),
    ("lasso", "lasso", "Draw around the object; what is inside becomes its mask (U: next tool)"),
    ("scribble", "scribble", "Draw a line along the object; it counts as several clicks (U: next tool)"),
    ("paint", "paint", "Paint or erase on the result; the frame becomes a correction (U: next tool)"),
)


class ObjectsSection(QWidget):
    """Buttons for prompts and objects, and one row per object."""

    said = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding: ViewerBinding | None = None
        self._shown: list[tuple[Any, ...]] = []  # per row
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REFRESH_MS)
        self._timer.timeout.connect(self.refresh)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._make_polarity())
        layout.addLayout(self._make_tools())
        layout.addLayout(self._make_object_buttons())
        self.from_row = self._make_from_row()
        layout.addWidget(self.from_row)
        self.table: Any = self._make_table()
        layout.addWidget(self.table)
        self.candidate_label = QLabel("")
        self.candidate_label.setWordWrap(True)
        layout.addWidget(self.candidate_label)
        self.setEnabled(False)

    # ------------------------------------------------------------------ parts
    def _make_polarity(self) -> QHBoxLayout:
        row = QHBoxLayout()
        self.positive = _button("+ object  N", "The next click belongs to the object (N switches)", checkable=True)
        self.negative = _button("\N{MINUS SIGN} background  N", "The next click does not belong to it (N switches)",
                                checkable=True)  # fmt: skip
        self.positive.setChecked(True)
        group = QButtonGroup(self)
        group.addButton(self.positive)
        group.addButton(self.negative)
        self.positive.clicked.connect(lambda: self._set_positive(True))
        self.negative.clicked.connect(lambda: self._set_positive(False))
        row.addWidget(self.positive)
        row.addWidget(self.negative)
        return row

    def _make_tools(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setSpacing(2)
        self.tools: dict[str, QPushButton] = {}
        group = QButtonGroup(self)
        for column, (tool, text, tip) in enumerate(_TOOLS):
            button = _button(text, tip, checkable=True)
            button.setObjectName(f"tool_{tool}")
            button.clicked.connect(lambda _=False, tool=tool: self.use_tool(tool))
            group.addButton(button)
            grid.addWidget(button, column // 3, column % 3)
            self.tools[tool] = button
        self.next_tool_button = _button("next tool  U", "Points, box, lasso, scribble, paint, in turn (U)")
        self.next_tool_button.clicked.connect(self.next_tool)
        grid.addWidget(self.next_tool_button, 1, 2)
        return grid

    def _make_object_buttons(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setSpacing(2)
        self.new_button = _button("+ new object  W", "The next prompts are about a new object (W)")
        self.candidate_button = _button("candidate  K", "Another shape for an ambiguous click (K)")
        self.previous_button = _button("< prev  H", "Select the object before (H)")
        self.next_button = _button("next >  J", "Select the next object (J)")
        self.rename_button = _button("rename  F2", "Give the current object another name (F2)")
        self.delete_button = _button(
            "delete  \N{UPWARDS WHITE ARROW}Del", "Delete the current object with its prompts and masks (Shift-Delete)"
        )
        for place, (button, call) in enumerate(
            (
                (self.new_button, self.new_object),
                (self.candidate_button, self.next_candidate),
                (self.previous_button, self.previous_object),
                (self.next_button, self.next_object),
                (self.rename_button, self.rename_object),
                (self.delete_button, self.delete_object),
            )
        ):
            button.clicked.connect(lambda _checked=False, call=call: call())
            grid.addWidget(button, place // 2, place % 2)
        return grid

    def _make_from_row(self) -> QWidget:
        """What other layers hold already, as prompts."""
        self.layer_choice = shrinking_combo(
            "layer_choice",
            "Labels, points or shapes to start objects from, such as those of Cellpose or of a file; numbers are kept",
        )
        self.this_label_button = _button(
            "this label", "Start an object from the layer's selected label, as it is on this frame"
        )
        self.all_button = _button("all", "Start objects from all points or shapes, or from all labels on this frame")
        for button, only_selected in ((self.this_label_button, True), (self.all_button, False)):
            button.clicked.connect(lambda _checked=False, only=only_selected: self.start_from_layer(only_selected=only))
        self.layer_choice.currentTextChanged.connect(self._on_layer_choice)
        holder = QWidget()
        row = QHBoxLayout(holder)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("from"))
        row.addWidget(self.layer_choice, 1)
        row.addWidget(self.this_label_button)
        row.addWidget(self.all_button)
        holder.hide()
        return holder

    def _make_table(self) -> Any:
        table: Any = QTableWidget(0, len(_COLUMNS))
        table.setObjectName("objects_table")
        table.setHorizontalHeaderLabels(list(_COLUMNS))
        for column, tip in enumerate(_HEADER_TIPS):
            table.horizontalHeaderItem(column).setToolTip(tip)
        table.verticalHeader().setVisible(False)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setMinimumHeight(110)
        table.setToolTip("Objects: select one to prompt it; J and H go through them; double-click a name to change it")
        header = table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Interactive)
        header.resizeSection(_NAME, 84)  # at 300 pixels the last columns are reached by scrolling, names stay readable
        header.setStretchLastSection(True)
        header.setMinimumSectionSize(24)
        table.itemSelectionChanged.connect(self._on_row_selected)
        table.itemChanged.connect(self._on_item_changed)
        return table

    # ------------------------------------------------------------------ binding
    def set_binding(self, binding: ViewerBinding | None) -> None:
        """Follow another binding, or none."""
        if self._binding is not None:
            self._binding.current_changed.disconnect(self._on_current)
            self._binding.session.changed.disconnect(self._later)
        self._binding = binding
        self.setEnabled(binding is not None)
        if binding is not None:
            binding.current_changed.connect(self._on_current)
            binding.session.changed.connect(self._later)
        self.show_layers()
        self.refresh()

    def _later(self, _delta: Any = None) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _on_current(self, _object_id: int | None = None) -> None:
        if self._binding is not None:
            (self.positive if self._binding.is_positive else self.negative).setChecked(True)
        self._later()

    # ------------------------------------------------------------------ actions
    def _set_positive(self, is_positive: bool) -> None:
        if self._binding is not None:
            self._binding.set_positive(is_positive)

    def toggle_positive(self) -> None:
        """The next click says the opposite."""
        if self._binding is not None:
            self._binding.set_positive(not self._binding.is_positive)
            self._on_current()

    def use_tool(self, tool: Tool) -> None:
        """Draw with a tool from now on."""
        if self._binding is not None:
            self._binding.use_tool(tool)
            self.tools[tool].setChecked(True)

    def next_tool(self) -> None:
        """Go through the tools."""
        names = [tool for tool, _, _ in _TOOLS]
        chosen = next((i for i, name in enumerate(names) if self.tools[name].isChecked()), -1)
        self.use_tool(names[(chosen + 1) % len(names)])

    def new_object(self) -> None:
        """The next prompts are about a new object."""
        if self._binding is not None:
            self._binding.new_object()

    def next_object(self) -> None:
        """Select the next object."""
        if self._binding is not None:
            self._binding.select_next(1)

    def previous_object(self) -> None:
        """Select the object before."""
        if self._binding is not None:
            self._binding.select_next(-1)

    def show_layers(self) -> None:
        """List the layers that objects can be started from."""
        binding = self._binding
        chosen = self.layer_choice.currentText()
        names = [] if binding is None else [layer.name for layer in binding.other_layers()]
        self.layer_choice.clear()
        self.layer_choice.addItems(names)
        if chosen in names:
            self.layer_choice.setCurrentText(chosen)
        self.from_row.setVisible(bool(names))

    def _chosen_layer(self) -> Any:
        layers = [] if self._binding is None else self._binding.other_layers()
        return next((layer for layer in layers if layer.name == self.layer_choice.currentText()), None)

    def _on_layer_choice(self, _text: str = "") -> None:
        self.this_label_button.setEnabled(hasattr(self._chosen_layer(), "selected_label"))

    def start_from_layer(self, *, only_selected: bool = False) -> None:
        """Start objects from the chosen layer; labels count on the frame that is shown."""
        binding, layer = self._binding, self._chosen_layer()
        if binding is None:
            return
        if layer is None:
            self.said.emit("there is no other layer with labels, points or shapes; open or make one first")
            return
        try:
            ids = binding.start_from(layer, label=int(layer.selected_label) if only_selected else None)
        except NapariSAM2Error as error:
            self.said.emit(str(error))
            return
        many = f"{len(ids)} objects" if len(ids) > 1 else f"object {ids[0]}"
        binding.said.emit(f"{many} started from {layer.name}; G propagates", False)

    def delete_object(self) -> None:
        """Delete the current object; undo brings it back."""
        binding = self._binding
        if binding is not None and binding.current is not None:
            binding.session.remove_object(binding.current)

    def rename_object(self) -> None:
        """Edit the current object's name in the table."""
        row = self._row_of(None if self._binding is None else self._binding.current)
        if row is not None:
            self.table.editItem(self.table.item(row, _NAME))

    def next_candidate(self) -> None:
        """Take another candidate of the click on the frame that is shown."""
        binding = self._binding
        if binding is None or binding.current is None:
            return
        try:
            number = binding.session.next_candidate(binding.current, binding.current_plane, block=False)
        except NapariSAM2Error as error:
            self.said.emit(str(error))
            return
        self.candidate_label.setText(f"shape: {number + 1} of 3 (next: K)")

    # ------------------------------------------------------------------ table
    def _row_of(self, object_id: int | None) -> int | None:
        for row in range(self.table.rowCount()):
            if self.table.item(row, _ID).data(Qt.ItemDataRole.UserRole) == object_id:
                return row
        return None

    def refresh(self) -> None:
        """Write the table anew."""
        binding = self._binding
        # each change of an item would come back as a call, for which Python's lock is waited for
        with QSignalBlocker(self.table):
            objects = [] if binding is None else binding.session.objects
            self._add_rows(len(objects))
            if self.table.rowCount() > len(objects):
                self.table.setRowCount(len(objects))
            del self._shown[len(objects) :]
            for row, each in enumerate(objects):
                self._fill(row, each)
            row_now = self._row_of(None if binding is None else binding.current)
            if row_now is not None and self.table.currentRow() != row_now:
                self.table.setCurrentCell(row_now, _NAME)
        self._tell_candidate()

    def _fill(self, row: int, each: SessionObject) -> None:
        """One row, if it is to show something else than it does: each item that is set is drawn anew."""
        assert self._binding is not None
        stats = self._binding.session.store.stats(each.object_id)
        locked = len(each.locked)
        texts = {
            _ID: str(each.object_id),
            _NAME: each.name,
            _PROMPTS: str(stats.num_prompts),
            _DONE: f"{stats.num_done}" + (f" ({stats.num_stale} old)" if stats.num_stale else ""),
            _SCORE: "" if np.isnan(stats.mean_iou) else f"{stats.mean_iou:.2f}",
        }
        shown = (*texts.values(), locked, each.is_visible)
        if row < len(self._shown) and self._shown[row] == shown:
            return
        items = [self.table.item(row, column) for column in range(len(_COLUMNS))]
        for column, text in texts.items():
            if items[column].text() != text:
                items[column].setText(text)
        for column, is_on in ((_LOCK, bool(locked)), (_SHOW, each.is_visible)):
            items[column].setCheckState(Qt.CheckState.Checked if is_on else Qt.CheckState.Unchecked)
        if items[_ID].data(Qt.ItemDataRole.UserRole) != each.object_id:
            items[_ID].setData(Qt.ItemDataRole.UserRole, each.object_id)
            items[_ID].setIcon(_swatch(each.object_id))
        items[_LOCK].setToolTip(
            f"{locked} frames locked; nothing changes there" if locked else "Lock all frames that are done"
        )
        self._shown[row : row + 1] = [shown]

    def _add_rows(self, count: int) -> None:
        """Empty rows, as many as are missing."""
        for row in range(self.table.rowCount(), count):
            self.table.insertRow(row)
            for column in range(len(_COLUMNS)):
                item = QTableWidgetItem()
                flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
                if column == _NAME:
                    flags |= Qt.ItemFlag.ItemIsEditable
                if column in (_LOCK, _SHOW):
                    flags |= Qt.ItemFlag.ItemIsUserCheckable
                item.setFlags(flags)
                self.table.setItem(row, column, item)
            self.table.item(row, _SHOW).setToolTip("Show or hide the object; its labels stay")

    def _tell_candidate(self) -> None:
        binding = self._binding
        entry = None
        if binding is not None and binding.current is not None:
            entry = binding.session.store.prompts.get((binding.current, binding.current_plane))
        if entry is None or len(entry.prompt.points) != 1 or entry.prompt.box is not None:
            self.candidate_label.setText("")
        else:
            self.candidate_label.setText(f"shape: {(entry.candidate or 0) + 1} of 3 (next: K)")

    def _on_row_selected(self) -> None:
        row = self.table.currentRow()
        if self._binding is None or row < 0 or self.table.item(row, _ID) is None:
            return
        self._binding.select(self.table.item(row, _ID).data(Qt.ItemDataRole.UserRole))

    def _on_item_changed(self, item: QTableWidgetItem) -> None:
        if self._binding is None:
            return
        self._shown[item.row()] = ()  # what the user made of the row may not be what becomes of it
        session = self._binding.session
        object_id = self.table.item(item.row(), _ID).data(Qt.ItemDataRole.UserRole)
        is_on = item.checkState() == Qt.CheckState.Checked
        if item.column() == _NAME and item.text().strip():
            session.rename(object_id, item.text().strip())
        elif item.column() == _SHOW:
            session.set_visible(object_id, is_on)
        elif item.column() == _LOCK and is_on:
            session.lock(object_id)
        elif item.column() == _LOCK:
            session.unlock(object_id)


def _button(text: str, tip: str, *, checkable: bool = False) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setCheckable(checkable)
    button.setMinimumWidth(40)
    return button


def _swatch(object_id: int) -> QIcon:
    red, green, blue, _ = (int(255 * v) for v in object_colour(object_id))
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor(red, green, blue))
    return QIcon(pixmap)
