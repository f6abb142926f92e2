"""Tools to prompt with, and the table of objects."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtGui import QAction
from qtpy.QtWidgets import (
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QMenu,
    QToolButton,
    QWidget,
)
from superqt import QElidingLabel

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._qt import layout as parts
from napari_sam2._qt.alike_offer import AlikeOffer
from napari_sam2._qt.gradual_start import GradualStart, say_started
from napari_sam2._qt.icons import IconButton, colour_icon, swatch
from napari_sam2._qt.object_table import ObjectTable
from napari_sam2._viewer.labels_layer import class_colours
from napari_sam2.session.results.divisions import propose_divisions

if TYPE_CHECKING:
    from napari_sam2._viewer.binding import ViewerBinding
    from napari_sam2._viewer.binding_tools import Tool

__all__ = ["ObjectsSection"]

_MOST_ENTRIES = 30  # of a menu of objects
_AT_ONCE_PIXELS = 2**16  # of a plane whose labels are read in place; 300 objects on four times as many take 160 ms
_AT_ONCE_LABELS = 200
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
_ADVICE = "Click on an object in the image: it is segmented and listed here. W starts the next object."
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
        self._starting = GradualStart(self, self.notice.emit)
        self._chosen: Tool | None = _TOOLS[0][0]  # the tool to go on with; None is the arrow
        layout = parts.column(self)
        layout.addLayout(self._make_tools())
        layout.addLayout(self._make_title_row())
        self.table = ObjectTable()
        self.table.notice.connect(self.notice)
        self.table.refreshed.connect(self._on_refreshed)
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
            action = menu.addAction(swatch(each.object_id), f"{each.object_id}  {each.name}")
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
            action = menu.addAction(colour_icon(colours[name]), name)
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

    # ------------------------------------------------------------------ binding
    def set_binding(self, binding: ViewerBinding | None) -> None:
        """Follow another binding, or none."""
        if self._binding is not None:
            self._binding.current_changed.disconnect(self._on_current)
            self._binding.tool_changed.disconnect(self._show_tool)
        self._starting.stop()
        self._binding = binding
        self.setEnabled(binding is not None)
        self.alike.set_binding(binding)
        self.table.set_binding(binding)
        if binding is not None:
            binding.current_changed.connect(self._on_current)
            binding.tool_changed.connect(self._show_tool)
        self._name_planes()
        self.by_class.setChecked(binding is not None and binding.is_coloured_by_class)
        self.outline_button.setChecked(binding is not None and binding.shows_outlines)
        self.tools["paint"].setVisible(binding is None or binding.can_paint)
        self._show_tool()
        self._on_current()
        self.refresh()

    def _name_planes(self) -> None:
        """Say slices or frames, as the axis is called."""
        parts.name_planes(self, self._word)
        self._actions["Lock all slices"].setText(f"Lock all {self._word}s")

    @property
    def _word(self) -> Literal["frame", "slice"]:
        """What a plane is called."""
        return "slice" if self._binding is None else self._binding.plane_word

    def _on_current(self, _object_id: int | None = None) -> None:
        is_positive = self._binding is None or self._binding.is_positive
        self.polarity.setText("object" if is_positive else "backgr.")
        self.polarity.set_icon_name("object" if is_positive else "background")
        self.table.refresh_later()

    def follow_step(self) -> None:
        """The viewer shows another frame."""
        self.table.refresh_later()

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
        """Continue with the tool that was chosen last, on the image that prompts go to now."""
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

    def start_from_layer(self, layer: Any, *, only_selected: bool = False) -> bool:
        """Start objects from another layer, of labels those on the slice that is shown; whether they are started."""
        binding = self._binding
        if binding is None:
            return False
        label = int(layer.selected_label) if only_selected else None
        try:
            if hasattr(layer, "selected_label"):
                labels = binding.layer_labels(layer, label)
                is_large = math.prod(binding.geometry.hw) > _AT_ONCE_PIXELS
                if is_large or len(np.unique(labels.seeds.read()[labels.plane])) > _AT_ONCE_LABELS:
                    self._starting.start(binding, labels)
                    return True
            ids = binding.start_from(layer, label=label)
        except NapariSAM2Error as error:
            self.notice.emit(self._in_words(error))
            return False
        say_started(binding, ids, layer.name)
        return True

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
        self.table.show_checks(counts)

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
            self.table.try_lock(self._current, is_on=True)

    def rename_object(self) -> None:
        """Edit the current object's name in the table."""
        self.table.edit_current_name()

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

    def refresh(self) -> None:
        """Update the table; where it is long, the rows in sight at once and the others after other events."""
        self.table.refresh()

    def _on_refreshed(self) -> None:
        count = 0 if self._binding is None else len(self._binding.session.objects)
        self.title.setText(f"Objects  {count}" if count else "Objects")
        self.advice.setVisible(self._binding is not None and not count)
        self._show_candidate()

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
