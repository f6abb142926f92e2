"""Tools to prompt with, and the table of objects."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from qtpy.QtCore import QEvent, QSignalBlocker, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QAction, QColor, QIcon, QKeyEvent, QPalette, QPixmap, QResizeEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QInputDialog,
    QLabel,
    QMenu,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QWidget,
)
from superqt import QElidingLabel

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._qt import layout as parts
from napari_sam2._qt.alike_offer import AlikeOffer
from napari_sam2._qt.gradual_start import GradualStart, say_started
from napari_sam2._qt.icons import IconButton, draw_icon
from napari_sam2._viewer.labels_layer import class_colours, object_colour
from napari_sam2._viewer.layer_frames import in_plane_words
from napari_sam2.session.results.divisions import propose_divisions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_sam2._viewer.binding import ViewerBinding
    from napari_sam2._viewer.binding_tools import Tool
    from napari_sam2.session.state.records import SessionObject
    from napari_sam2.session.state.store import ObjectStats

__all__ = ["ObjectsSection"]

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
_TABLE_HEIGHT = 72  # pixels: a title and a row, also in a large font
_FONT_POINTS = 9  # of the font that widths are given for
_WIDE_FROM = 330  # pixels: in narrower tables a class is its colour
_SHORTEST_NAME = "object 9"  # must fit, or names that nobody gave are hidden
_MARGIN = 8
_REFRESH_MS = 150
_REFRESH_S = 0.03  # of one update of the table
_MOST_ENTRIES = 30  # of a menu of objects
_AT_ONCE_PIXELS = 2**16  # of a plane whose labels are read in place; 300 objects on four times as many take 160 ms
_TOOLS: tuple[tuple[Tool, str], ...] = (
    ("point", "Points: click on the object; the mask appears at once"),
    ("box", "Box: drag a rectangle around the object. As background (N), the inside is taken away"),
    (
        "lasso",
        "Lasso: draw around the object; the inside becomes the mask. As background (N), the inside is taken away",
    ),
    ("scribble", "Scribble: draw a line along the object; it counts as several clicks"),
    ("paint", "Brush: paint on the mask, or as background (N) erase it; the painted slice is used as a correction"),
)
_ADVICE = "Click on an object in the image: it appears here as object 1."
_WITH_ANOTHER: Mapping[str, str] = MappingProxyType(
    {"Merge with": "merge", "Continues as": "join", "Swap from here on with": "swap", "Daughter of": "parent"}
)
_WHAT_WAS_DONE: Mapping[str, str] = MappingProxyType(
    {
        "merge": "{1} is now a part of {0}",
        "join": "{1} is now the later part of {0}",
        "swap": "{0} and {1} are swapped from this {word} on",
        "parent": "{0} is now a daughter of {1}",
    }
)


class _ObjectTable(QTableWidget):
    """A table whose column of names may be hidden, until the edit key is pressed.

    Attributes
    ----------
    resized : Signal
        Emitted when the table has its new size.
    """

    resized = Signal()

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Emit ``resized`` after it."""
        super().resizeEvent(event)
        self.resized.emit()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Show what is to be edited; letters are keys of the viewer, and not the beginning of a name to search."""
        if event is not None and event.text().isprintable() and event.text():
            event.ignore()
            return
        if event is not None and event.key() == Qt.Key.Key_F2:
            self.setColumnHidden(_NAME, False)
        super().keyPressEvent(event)


class ObjectsSection(QWidget):
    """Buttons for prompts and objects, and one row per object.

    Parameters
    ----------
    model : callable
        Gives the name of the model that searches objects like the current one.
    """

    notice = Signal(str)

    def __init__(self, model: Callable[[], str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.alike = AlikeOffer(model)
        self.alike.notice.connect(self.notice)
        self._binding: ViewerBinding | None = None
        self._shown: list[tuple[Any, ...]] = []  # per row
        self._icons: dict[tuple[str, str], QIcon] = {}
        self._checks: dict[int, int] = {}  # object -> slices to check
        self._class_colours: dict[str, NDArray[np.float32]] = {}
        self._starting = GradualStart(self, self.notice.emit)
        self._chosen: Tool | None = _TOOLS[0][0]  # the tool to go on with; None is the arrow
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REFRESH_MS)
        self._timer.timeout.connect(self._go_on)
        self._is_changed = False  # since the table was updated
        self._next_row, self._num_left = 0, 0  # of the table to be updated
        layout = parts.column(self)
        layout.addLayout(self._make_tools())
        layout.addLayout(self._make_title_row())
        self.table: Any = self._make_table()
        layout.addWidget(self.table, 1)
        self.advice = parts.line("sam2_objects_advice", "How to start.", _ADVICE)
        layout.addWidget(self.advice)
        layout.addStretch(0)
        layout.addWidget(self.alike)
        self.candidate_label = parts.named(
            QElidingLabel(""), "sam2_candidate", "Which of the three candidate masks of a single click is shown."
        )
        self.candidate_label.hide()
        layout.addWidget(self.candidate_label)
        self.setEnabled(False)
        self._fit_rows()
        self.refresh()

    # ------------------------------------------------------------------ parts
    def _make_tools(self) -> QHBoxLayout:
        self.pan_button = IconButton(
            "select",
            "sam2_tool_select",
            "Select: click to select an object, drag to move the image. With other tools: Ctrl-click. Next tool: U",
            checkable=True,
        )
        self.pan_button.clicked.connect(self._on_pan)
        self.tools: dict[str, QToolButton] = {}
        for number, (tool, tip) in enumerate(_TOOLS, start=1):
            tip = f"{tip}. Next tool: U. Key: Alt-{number}"  # noqa: PLW2901
            made = IconButton(tool, f"sam2_tool_{tool}", tip, checkable=True)
            made.clicked.connect(lambda _=False, tool=tool: self.use_tool(tool))
            self.tools[tool] = made
        self.polarity = IconButton(
            "object",
            "sam2_polarity",
            "What the next prompt is: object adds to the mask, background takes away. Key: N",
            text="object",
        )
        self.polarity.clicked.connect(self.toggle_positive)
        made_row = parts.row(self.pan_button, *self.tools.values())
        made_row.setSpacing(1)
        made_row.addStretch(1)
        made_row.addWidget(self.polarity)
        return made_row

    def _make_title_row(self) -> QHBoxLayout:
        self.title = QLabel("Objects")
        self.new_button = IconButton(
            "plus", "sam2_new_object", "New object: the next prompts belong to it. Key: W", text="new"
        )
        self.new_button.clicked.connect(self.new_object)
        self.menu_button = IconButton("menu", "sam2_object_menu", "Actions for the current object")
        self.menu_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.menu = self._make_menu()
        self.menu_button.setMenu(self.menu)
        self.outline_button = IconButton(
            "outline", "sam2_outlines", "Show masks as outlines, or filled", checkable=True
        )
        self.outline_button.clicked.connect(self._on_outline)
        made_row = parts.row(self.title)
        made_row.addStretch(1)
        made_row.addWidget(self.outline_button)
        made_row.addWidget(self.new_button)
        made_row.addWidget(self.menu_button)
        return made_row

    def _make_menu(self) -> QMenu:
        menu = QMenu(self)
        self._actions: dict[str, QAction] = {}
        for text, key, call in (
            ("Rename", "F2", self.rename_object),
            ("Another mask for a single click", "K", self.next_candidate),
            ("Next object", "J", self.next_object),
            ("Previous object", "H", self.previous_object),
            ("Show this object only, or all", "Shift+H", self.show_only_current),
            ("Find objects like this", ".", self.alike.find_next),
            ("Lock all slices", "", self.lock_object),
            ("Split", "", self.split_object),
            ("Divided here", "Shift+D", self.divide_here),
            ("Cut the track here", "Shift+X", self.cut_here),
            ("Delete", "Shift+Del", self.delete_object),
        ):
            # the key is text only: it is bound to the viewer, and Qt would bind it a second time
            action = menu.addAction(f"{text}\t{key}")
            assert action is not None
            action.triggered.connect(lambda _checked=False, call=call: call())
            self._actions[text] = action
        self.class_menu = QMenu("Class", menu)
        self.other_menus = {name: QMenu(name, menu) for name in _WITH_ANOTHER}
        self.merge_menu = self.other_menus["Merge with"]
        for each in (*self.other_menus.values(), self.class_menu):
            menu.insertMenu(action, each)  # before "Delete"
        menu.aboutToShow.connect(self._fill_other_menus)
        menu.aboutToShow.connect(self._fill_class_menu)
        by_class = menu.addAction("Colour by class")
        assert by_class is not None
        self.by_class = by_class
        self.by_class.setCheckable(True)
        self.by_class.toggled.connect(self._on_by_class)
        menu.addSeparator()
        self.from_menu = QMenu("Start objects from", menu)
        self.from_menu.setToolTip(
            "Start objects from labels, points or shapes of other layers, such as those of Cellpose or of a file. "
            "Numbers are kept"
        )
        menu.addMenu(self.from_menu)
        menu.aboutToShow.connect(self._fill_from_menu)
        return menu

    def _fill_other_menus(self) -> None:
        """What is done with the current object and another one; the objects on this slice first."""
        is_stack = self._binding is not None and self._binding.geometry.num_frames > 1
        for name, menu in self.other_menus.items():
            self._fill_with_objects(menu, _WITH_ANOTHER[name])
            action = menu.menuAction()
            if action is not None:
                action.setVisible(is_stack or name == "Merge with")

    def _fill_with_objects(self, menu: QMenu, method: str) -> None:
        binding, current = self._binding, self._current
        menu.clear()
        objects = [] if binding is None else [o for o in binding.session.objects if o.object_id != current]
        if binding is not None:
            here = binding.session.store.masks_on(binding.current_plane)
            objects.sort(key=lambda each: each.object_id not in here or not here[each.object_id].area)
        for each in objects[:_MOST_ENTRIES]:
            action = menu.addAction(_swatch(each.object_id), f"{each.object_id}  {each.name}")
            assert action is not None
            action.triggered.connect(lambda _checked=False, other=each.object_id: self.do_with_another(method, other))
        menu.setEnabled(bool(objects) and current is not None)

    def _fill_class_menu(self) -> None:
        """The classes in use, none, and a new one."""
        menu, binding = self.class_menu, self._binding
        menu.clear()
        names = [] if binding is None else sorted({o.class_name for o in binding.session.objects if o.class_name})
        colours = class_colours(names)
        for name in names:
            action = menu.addAction(_coloured(colours[name]), name)
            assert action is not None
            action.triggered.connect(lambda _checked=False, name=name: self.set_class(name))
        for text, call in (("New class...", self.ask_for_class), ("No class", lambda: self.set_class(""))):
            action = menu.addAction(text)
            assert action is not None
            action.triggered.connect(lambda _checked=False, call=call: call())
        menu.setEnabled(self._current is not None)

    def _fill_from_menu(self) -> None:
        """The layers that objects can be started from, as they are now."""
        menu = self.from_menu
        menu.clear()
        layers = [] if self._binding is None else self._binding.other_layers()
        for layer in layers:
            is_labels = hasattr(layer, "selected_label")
            entries = [(f"{layer.name}: all{f' labels on this {self._word}' if is_labels else ''}", False)]
            if is_labels:
                entries.append((f"{layer.name}: label {layer.selected_label} only", True))
            for text, only_selected in entries:
                action = menu.addAction(text)
                assert action is not None
                # by name: the menu would keep the data of a layer that is removed
                action.triggered.connect(
                    lambda _checked=False, name=layer.name, only=only_selected: self._start_from_named(name, only)
                )
        menu.setEnabled(bool(layers))

    def _make_table(self) -> Any:
        table: Any = _ObjectTable(0, len(_COLUMNS))
        table.setObjectName("objects_table")
        table.setAccessibleName("Objects")
        table.setHorizontalHeaderLabels(list(_COLUMNS))
        for at, tip in enumerate(_HEADER_TIPS):
            table.horizontalHeaderItem(at).setToolTip(tip)
        table.verticalHeader().setVisible(False)
        table.setWordWrap(False)
        table.setTabKeyNavigation(False)  # the Tab key leaves the table; the arrow keys go through it
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        # a letter typed after a row was chosen is a shortcut, and not the beginning of a name
        table.setEditTriggers(
            QAbstractItemView.EditTrigger.DoubleClicked | QAbstractItemView.EditTrigger.EditKeyPressed
        )
        # as high as there is room, whatever its rows ask for
        table.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
        table.setMinimumHeight(_TABLE_HEIGHT)
        table.setIconSize(QSize(16, 16))
        table.setToolTip("Objects: select one to prompt it; J and H select the next and the previous one")
        header = table.horizontalHeader()
        header.setAccessibleName("Columns of the objects")
        header.setMinimumSectionSize(_ICON_WIDTH)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        for at in (_SHOW, _LOCK):
            header.setSectionResizeMode(at, QHeaderView.ResizeMode.Fixed)
            header.resizeSection(at, _ICON_WIDTH)
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(_CLASS, QHeaderView.ResizeMode.Fixed)
        header.setTextElideMode(Qt.TextElideMode.ElideRight)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        delegate = table.itemDelegate()
        delegate.closeEditor.connect(self._later)  # of the name, whose column may be hidden again
        # later: Qt gives the keyboard to the table after this, which would take letters for the beginning of names
        delegate.closeEditor.connect(lambda *_: QTimer.singleShot(0, self._leave_table))
        table.itemSelectionChanged.connect(self._on_row_selected)
        table.itemChanged.connect(self._on_item_changed)
        table.cellClicked.connect(self._on_cell_clicked)
        table.resized.connect(self._on_resized)
        return table

    def _leave_table(self) -> None:
        """The keys are those of the canvas again after a name was edited."""
        window = self.window()
        if window is not None and window.focusWidget() is self.table:
            window.setFocus()

    def _on_resized(self) -> None:
        """Columns fit into the new width, and the current object stays in sight in a lower table."""
        self._fit_columns()
        if self.table.currentItem() is not None:
            self.table.scrollToItem(self.table.currentItem())

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Rows are as high as the font, and icons have the colour of the theme's text."""
        super().changeEvent(event)
        if event is None:
            return
        if event.type() == QEvent.Type.FontChange:
            self._fit_rows()
            self._fit_columns()
        elif event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self._shown = [()] * len(self._shown)
            self._later()

    def _fit_rows(self) -> None:
        height = max(_ROW_HEIGHT, self.fontMetrics().height() + 8)
        self.table.verticalHeader().setDefaultSectionSize(height)

    def _fit_columns(self) -> None:
        """Hide what says nothing or has no room: slices of a single image; where names that somebody gave would be cut
        to a letter, slices; and names that nobody gave, where they would be.
        """
        binding = self._binding
        has_slices = binding is None or binding.geometry.num_frames > 1
        has_names = binding is not None and any(
            each.name != f"object {each.object_id}" for each in binding.session.objects
        )
        is_edited = self.table.state() == QAbstractItemView.State.EditingState
        needed = self.fontMetrics().horizontalAdvance(_SHORTEST_NAME) + _MARGIN
        self.table.setColumnHidden(_DONE, not has_slices)  # the title of a hidden column has no size
        fitted = self._fitted_width(has_slices=has_slices)  # once: each cell is asked for its size
        self._fit_class_column(self._room_beside(fitted) >= needed)
        has_room = self._room_beside(fitted) >= needed
        is_named = has_names or is_edited or has_room
        self.table.setColumnHidden(_NAME, not is_named)
        self.table.setColumnHidden(_DONE, not has_slices or (is_named and not has_room))
        self.table.horizontalHeader().setStretchLastSection(not is_named)

    def _fitted_width(self, *, has_slices: bool) -> int:
        """Of the columns that are as wide as their texts, in pixels."""
        header = self.table.horizontalHeader()
        fitted = [_ID, _SCORE, *([_DONE] if has_slices else [])]
        return sum(max(header.sectionSizeHint(at), self.table.sizeHintForColumn(at)) for at in fitted)

    def _room_beside(self, fitted_width: int) -> int:
        """What the other columns leave for names, in pixels."""
        header = self.table.horizontalHeader()
        fixed = [header.sectionSize(at) for at in (_SHOW, _LOCK, _CLASS) if not self.table.isColumnHidden(at)]
        return int(self.table.viewport().width() - sum(fixed) - fitted_width)

    def _fit_class_column(self, has_room: bool) -> None:
        """The names of classes, or where there is no room for them their colours only."""
        is_wide = has_room and self.table.width() >= _WIDE_FROM * self.font().pointSizeF() / _FONT_POINTS
        self.table.horizontalHeaderItem(_CLASS).setText(_COLUMNS[_CLASS] if is_wide else "")
        wanted = self.table.sizeHintForColumn(_CLASS) + _MARGIN if is_wide else _ICON_WIDTH
        self.table.horizontalHeader().resizeSection(_CLASS, min(max(wanted, _ICON_WIDTH), self.table.width() // 3))

    # ------------------------------------------------------------------ binding
    def set_binding(self, binding: ViewerBinding | None) -> None:
        """Follow another binding, or none."""
        if self._binding is not None:
            self._binding.current_changed.disconnect(self._on_current)
            self._binding.tool_changed.disconnect(self._show_tool)
            self._binding.session.changed.disconnect(self._later)
        self._starting.stop()
        self._binding = binding
        self.setEnabled(binding is not None)
        self.alike.set_binding(binding)
        if binding is not None:
            binding.current_changed.connect(self._on_current)
            binding.tool_changed.connect(self._show_tool)
            binding.session.changed.connect(self._later)
        self._name_planes()
        self._checks = {}
        self.by_class.setChecked(binding is not None and binding.is_coloured_by_class)
        self.outline_button.setChecked(binding is not None and binding.shows_outlines)
        self.tools["paint"].setVisible(binding is None or binding.can_paint)
        self._show_tool()
        self._on_current()
        self.refresh()

    def _name_planes(self) -> None:
        """Say slices or frames, as the axis is called."""
        parts.name_planes(self, self._word)
        self.table.horizontalHeaderItem(_DONE).setText(f"{self._word.capitalize()}s")
        for at, tip in enumerate(_HEADER_TIPS):
            self.table.horizontalHeaderItem(at).setToolTip(in_plane_words(tip, self._word))
        self._actions["Lock all slices"].setText(f"Lock all {self._word}s")

    @property
    def _word(self) -> Literal["frame", "slice"]:
        """What a plane is called."""
        return "slice" if self._binding is None else self._binding.plane_word

    def _later(self, *_: Any) -> None:
        self._is_changed = True
        if not self._timer.isActive():
            self._timer.start()

    def _on_current(self, _object_id: int | None = None) -> None:
        is_positive = self._binding is None or self._binding.is_positive
        self.polarity.setText("object" if is_positive else "backgr.")
        self.polarity.set_icon_name("object" if is_positive else "background")
        self._later()

    def follow_step(self) -> None:
        """The viewer shows another frame."""
        self._later()

    def _show_tool(self, _tool: Tool | None = None) -> None:
        """Only the tool that is active in the viewer is highlighted."""
        binding = self._binding
        tool = None if binding is None else binding.tool
        # of layers that are removed together, napari selects one after the other: nobody chose their tools
        if tool is not None and binding is not None and all(each in binding.viewer.layers for each in binding.layers):
            self._chosen = tool
        for name, each in self.tools.items():
            each.setChecked(name == tool)
        active = None if binding is None else binding.viewer.layers.selection.active
        self.pan_button.setChecked(binding is not None and active in binding.layers and str(active.mode) == "pan_zoom")

    # ------------------------------------------------------------------ actions
    def toggle_positive(self) -> None:
        """The next prompt is background instead of object, or the other way round."""
        if self._binding is not None:
            self._binding.set_positive(not self._binding.is_positive)
            self._on_current()

    def use_tool(self, tool: Tool) -> None:
        """Draw with a tool from now on."""
        self._chosen = tool
        if self._binding is not None:
            self._binding.use_tool(tool)
        self._show_tool()

    def take_up_tool(self) -> None:
        """Go on with the tool that was chosen last, on whatever image prompts go to now."""
        if self._chosen is None:
            self._on_pan()
        elif self._binding is not None:
            self.use_tool(_TOOLS[0][0] if self.tools[self._chosen].isHidden() else self._chosen)

    def _on_pan(self) -> None:
        self._chosen = None
        if self._binding is not None:
            if self._binding.viewer.layers.selection.active not in self._binding.layers:
                self._binding.use_tool("point")
            self._binding.pan()
            self._chosen = None  # the tool in between was on the way only
        self._show_tool()

    def next_tool(self) -> None:
        """Go through the tools."""
        names = [tool for tool, _ in _TOOLS if not self.tools[tool].isHidden()]
        chosen = next((i for i, name in enumerate(names) if self.tools[name].isChecked()), -1)
        self.use_tool(names[(chosen + 1) % len(names)])

    def new_object(self) -> None:
        """Begin a new object with the next prompts."""
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

    def _start_from_named(self, name: str, only_selected: bool) -> None:
        layers = [] if self._binding is None else self._binding.other_layers()
        for layer in layers:
            if layer.name == name:
                self.start_from_layer(layer, only_selected=only_selected)

    def start_from_layer(self, layer: Any, *, only_selected: bool = False) -> None:
        """Start objects from another layer; of labels, those on the slice that is shown."""
        binding = self._binding
        if binding is None:
            return
        label = int(layer.selected_label) if only_selected else None
        try:
            if hasattr(layer, "selected_label") and math.prod(binding.geometry.hw) > _AT_ONCE_PIXELS:
                self._starting.start(binding, binding.layer_labels(layer, label))
                return
            ids = binding.start_from(layer, label=label)
        except NapariSAM2Error as error:
            self.notice.emit(self._in_words(error))
            return
        say_started(binding, ids, layer.name)

    @property
    def is_starting(self) -> bool:
        """Whether objects from a layer are still to be started."""
        return self._starting.is_running

    def delete_object(self) -> None:
        """Delete the current object; undo brings it back."""
        binding = self._binding
        if binding is not None and binding.current is not None:
            binding.session.remove_object(binding.current)

    def do_with_another(self, method: str, other_id: int) -> None:
        """Merge, join or swap the current object with another one, or make that one its parent."""
        binding, current = self._binding, self._current
        if binding is None or current is None:
            return
        session, plane = binding.session, binding.current_plane
        calls: dict[str, Callable[[], None]] = {
            "merge": lambda: session.merge(current, other_id),
            "join": lambda: session.join(current, other_id),
            "swap": lambda: session.swap(current, other_id, plane),
            "parent": lambda: session.set_parent(current, other_id),
        }
        # before the call: the other object may be gone after it
        names = [session.store.objects[each].name for each in (current, other_id)]
        if self._try(calls[method]):
            binding.notice.emit(_WHAT_WAS_DONE[method].format(*names, word=self._word), False)

    def _try(self, call: Callable[[], object]) -> bool:
        """Whether a call of the session worked; else its error is shown."""
        try:
            call()
        except NapariSAM2Error as error:
            self.notice.emit(self._in_words(error))
            return False
        return True

    def divide_here(self) -> None:
        """The current object has divided: its daughters begin on the frame that is shown.

        Objects that begin there beside it become its daughters; otherwise its mask is divided.
        """
        binding, current = self._binding, self._current
        if binding is None or current is None:
            return
        name, plane = binding.session.store.objects[current].name, binding.current_plane
        found: list[int] = []
        session = binding.session
        proposed = [each for each in propose_divisions(session, object_ids=[current]) if each.frame == plane]
        daughters = proposed[0].daughters if proposed else ()
        if not self._try(lambda: found.extend(session.divide(current, plane, daughters or None))):
            return
        masks = binding.session.store.masks
        missing = next((each for each in found if (each, plane) not in masks), None)
        binding.select(found[0] if missing is None else missing)
        then = "G tracks both" if missing is None else f"click on object {missing}, then G tracks both"
        binding.notice.emit(f"{name} divides into objects {found[0]} and {found[1]}; {then}", False)

    def cut_here(self) -> None:
        """From the frame that is shown on, the current object is a new one."""
        binding, current = self._binding, self._current
        if binding is None or current is None:
            return
        found: list[int] = []
        if self._try(lambda: found.append(binding.session.cut(current, binding.current_plane))):
            binding.select(found[0])
            binding.notice.emit(f"from this {self._word} on it is object {found[0]}", False)

    def show_only_current(self) -> None:
        """Hide the other objects; show all if they are hidden already."""
        binding = self._binding
        others = [] if binding is None else [o for o in binding.session.objects if o.object_id != self._current]
        if any(each.is_visible for each in others):
            self.hide_others()
        else:
            self.show_all()

    def split_object(self) -> None:
        """The next click on the current object, or line across it, cuts it."""
        if self._binding is not None:
            self._binding.split_next()
        self._show_tool()

    def _in_words(self, error: NapariSAM2Error) -> str:
        return str(error) if self._binding is None else self._binding.in_words(error)

    def close_tasks(self) -> None:
        """End what runs in the background."""
        self.alike.close()

    def set_class(self, name: str) -> None:
        """Put the current object into a class; an empty name takes it out."""
        if self._binding is not None and self._current is not None:
            try:
                self._binding.session.set_class(self._current, name)
            except NapariSAM2Error as error:
                self.notice.emit(self._in_words(error))

    def ask_for_class(self) -> None:
        """Let the user name a new class for the current object."""
        dialog = QInputDialog(self)
        dialog.setWindowTitle("New class")
        dialog.setLabelText("Class of the current object, such as cell or debris")
        dialog.textValueSelected.connect(self.set_class)
        parts.open_dialog(dialog)

    def _on_by_class(self, is_on: bool) -> None:
        if self._binding is not None:
            self._binding.colour_by_class(is_on)

    def _on_outline(self, is_on: bool) -> None:
        if self._binding is not None:
            self._binding.show_outlines(is_on)

    def show_checks(self, counts: Mapping[int, int]) -> None:
        """Mark the objects that have slices to check, by object."""
        self._checks = dict(counts)
        self._later()

    def hide_others(self) -> None:
        """Show the current object alone."""
        if self._binding is not None and self._current is not None:
            self._binding.session.show_only(self._current)

    def show_all(self) -> None:
        """Show every object."""
        if self._binding is not None:
            self._binding.session.show_only(None)

    @property
    def _current(self) -> int | None:
        return None if self._binding is None else self._binding.current

    def lock_object(self) -> None:
        """Lock the current object wherever it has a mask."""
        if self._binding is not None and self._current is not None:
            self._try_lock(self._current, is_on=True)

    def _try_lock(self, object_id: int, *, is_on: bool) -> None:
        assert self._binding is not None
        session = self._binding.session
        try:
            if is_on:
                planes = [p for p in session.store.planes_of(object_id) if session.store.masks[object_id, p].area]
                session.lock(object_id, planes)
            else:
                session.unlock(object_id)
        except NapariSAM2Error as error:
            self.notice.emit(self._in_words(error))

    def rename_object(self) -> None:
        """Edit the current object's name in the table."""
        row = self._row_of(None if self._binding is None else self._binding.current)
        if row is not None and self.table.state() != QAbstractItemView.State.EditingState:
            self.table.setColumnHidden(_NAME, False)
            self.table.editItem(self.table.item(row, _NAME))

    def next_candidate(self) -> None:
        """Take another candidate of the click on the frame that is shown."""
        binding = self._binding
        if binding is None or binding.current is None:
            return
        try:
            number = binding.session.next_candidate(binding.current, binding.current_plane, block=False)
        except NapariSAM2Error as error:
            self.notice.emit(self._in_words(error))
            return
        self._show_candidate(number)

    # ------------------------------------------------------------------ table
    def _row_of(self, object_id: int | None) -> int | None:
        for row in range(self.table.rowCount()):
            if self.table.item(row, _ID).data(Qt.ItemDataRole.UserRole) == object_id:
                return row
        return None

    def refresh(self) -> None:
        """Update the table; where it is long, the rows in sight at once and the others after other events."""
        self._is_changed = True
        self._go_on()

    def _go_on(self) -> None:
        """Update as many rows as there is time for, each time from where the last ones ended."""
        binding = self._binding
        # each change of an item would come back as a call, for which Python's lock is waited for
        with QSignalBlocker(self.table):
            objects = [] if binding is None else binding.session.objects
            if self.table.rowCount() > len(objects):
                self.table.setRowCount(len(objects))
            del self._shown[len(objects) :]
            self._next_row = min(self._next_row, self.table.rowCount())
            self.title.setText(f"Objects  {len(objects)}" if objects else "Objects")
            classes = {each.class_name for each in objects if each.class_name}
            self.table.setColumnHidden(_CLASS, not classes)
            self._class_colours = class_colours(classes)
            self.table.setVisible(bool(objects))
            self.advice.setVisible(binding is not None and not objects)
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
            if row_now is not None and self.table.currentRow() != row_now:
                self.table.setCurrentCell(row_now, _NAME)
        self._show_candidate()

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
        shown = (*texts.values(), *counts, each.is_visible, colour)
        if self._shown[row] == shown:
            return
        items = [self.table.item(row, column) for column in range(len(_COLUMNS))]
        for column, text in texts.items():
            if items[column].text() != text:
                items[column].setText(text)
        if items[_ID].data(Qt.ItemDataRole.UserRole) != each.object_id:
            items[_ID].setData(Qt.ItemDataRole.UserRole, each.object_id)
            items[_ID].setIcon(_swatch(each.object_id))
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
        items[_CLASS].setIcon(_coloured(colour) if colour else QIcon())
        items[_CLASS].setToolTip(each.class_name)
        items[_SCORE].setIcon(self._icon("warning") if num_checks else QIcon())
        items[_SCORE].setToolTip(f"{num_checks} {self._word}s to check (keys 8 and 9 go to them)" if num_checks else "")
        self._shown[row] = shown

    def _in_slices(self, stats: ObjectStats) -> str:
        """What the slices of an object are, in words."""
        found = f"{stats.num_done - stats.num_empty} with a mask, {stats.num_empty} where the object was not found"
        outdated = ""
        if stats.num_stale:
            planes = f"{stats.num_stale} {self._word}s are" if stats.num_stale != 1 else f"1 {self._word} is"
            outdated = f"{planes} outdated since the last correction: G computes them again\n"
        return f"{outdated}{found}; prompts: {stats.num_prompts}"

    def _icon(self, name: str) -> QIcon:
        colour = self.table.palette().color(QPalette.ColorRole.Text)
        key = (name, colour.name())
        if key not in self._icons:
            self._icons[key] = draw_icon(name, colour)
        return self._icons[key]

    def _rows_in_sight(self) -> range:
        """The rows that are shown, of those that are there."""
        first, last = self.table.rowAt(0), self.table.rowAt(self.table.viewport().height() - 1)
        return range(max(first, 0), self.table.rowCount() if last < 0 else last + 1)

    def _add_rows(self, count: int) -> None:
        """Empty rows, as many as are missing."""
        for row in range(self.table.rowCount(), count):
            self.table.insertRow(row)
            self._shown.append(())
            for column in range(len(_COLUMNS)):
                item = QTableWidgetItem()
                flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
                item.setFlags(flags | Qt.ItemFlag.ItemIsEditable if column == _NAME else flags)
                self.table.setItem(row, column, item)

    def _show_candidate(self, number: int | None = None) -> None:
        binding = self._binding
        entry = None
        if binding is not None and binding.current is not None:
            entry = binding.session.store.prompts.get((binding.current, binding.current_plane))
        is_single = entry is not None and entry.prompt.labels.tolist() == [1] and entry.prompt.box is None
        self.candidate_label.setVisible(is_single)
        if entry is not None and is_single:
            chosen = (entry.candidate or 0) if number is None else number
            self.candidate_label.setText(f"Mask {chosen + 1} of 3 (next: K)")

    def _on_row_selected(self) -> None:
        row = self.table.currentRow()
        if self._binding is None or row < 0 or self.table.item(row, _ID) is None:
            return
        self._binding.select(self.table.item(row, _ID).data(Qt.ItemDataRole.UserRole))

    def _object_in(self, row: int) -> int | None:
        item = self.table.item(row, _ID)
        return None if item is None else item.data(Qt.ItemDataRole.UserRole)

    def _on_item_changed(self, item: QTableWidgetItem) -> None:
        if self._binding is None or item.column() != _NAME:
            return
        self._shown[item.row()] = ()  # the session may refuse the change
        object_id = self._object_in(item.row())
        if object_id is not None and item.text().strip():
            self._binding.session.rename(object_id, item.text().strip())
        self._later()

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
            self._try_lock(each.object_id, is_on=not each.locked)


def _swatch(object_id: int) -> QIcon:
    return _coloured(object_colour(object_id))


def _coloured(rgba: Sequence[float] | NDArray[np.float32]) -> QIcon:
    red, green, blue, _ = (int(255 * float(v)) for v in rgba)
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor(red, green, blue))
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)  # otherwise tinted, and not the colour of the object
    return icon
