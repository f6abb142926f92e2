"""Undo, session files, exports, and the session as text."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QApplication, QFileDialog, QMenu, QWidget

from napari_sam2._errors import NapariSAM2Error, OutputError
from napari_sam2._qt.background import BackgroundTask, TaskContext
from napari_sam2._qt.connections import Connections
from napari_sam2._qt.icons import IconButton
from napari_sam2._qt.layout import button, column, line, open_dialog, row, show_error
from napari_sam2._viewer.layer_frames import in_plane_words, label_calibration
from napari_sam2._viewer.writers import TURNED, is_turned
from napari_sam2.session.results.export import (
    export_labels,
    export_objects_csv,
    export_scores_csv,
    tracks_graph,
    tracks_table,
)

if TYPE_CHECKING:
    from napari_sam2._viewer.binding import ViewerBinding
    from napari_sam2.session.state.store import StoreDelta

__all__ = ["EXPORTS", "Export", "SaveSection"]

_INTERVAL_MS = 200
_PLACED = (".tif", ".ome.tif", ".ome.zarr")  # files that hold distances and a position
_TRACKS = "Centroids of each object, joined over time, with its daughters."
_SESSION_FILTER = "SAM 2 session (*.sam2)"


@dataclass(frozen=True)
class Export:
    """A file that a session can be written to: its entry in the menu, and what its name ends in."""

    name: str
    text: str
    suffix: str
    is_labels: bool
    tip: str


EXPORTS = (
    Export("tiff", "Labels as TIFF...", ".tif", True, "Object numbers as pixel values."),
    Export("ome_tiff", "Labels as OME-TIFF...", ".ome.tif", True, "With pixel size and unit."),
    Export("ome_zarr", "Labels as OME-Zarr...", ".ome.zarr", True, "For large stacks; with pixel size."),
    Export("rois", "Outlines as ImageJ ROIs...", ".zip", True, "An ROI for each object and slice."),
    Export("geojson", "Outlines as GeoJSON...", ".geojson", True, "For QuPath: a detection for each object and slice."),
    Export("coco", "Masks as COCO...", ".json", True, "A compressed mask for each object and slice."),
    Export("scores", "Scores as CSV...", ".csv", False, "IoU, object score and area of each object and frame."),
    Export("objects", "Objects as CSV...", ".csv", False, "One row per object."),
)


class SaveSection(QWidget):
    """Undo and redo, save and open, export and copy.

    Attributes
    ----------
    session_opened : Signal
        Emitted with the path of a session that the user wants opened.
    measurements_asked : Signal
        Emitted when the table of measurements is to be shown.
    lineage_asked : Signal
        Emitted when the lineage is to be shown.
    """

    session_opened = Signal(str)
    measurements_asked = Signal()
    lineage_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("sam2_save_section")
        self._binding: ViewerBinding | None = None
        self._connections = Connections(self)
        self._saved_as: Path | None = None
        self._note = ""  # about the file that is being written
        self._task = BackgroundTask(self, "napari-sam2 export")
        self._task.succeeded.connect(self._show_written)
        self._task.failed.connect(self._show_failure)
        self._task.ended.connect(self._show_state)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.timeout.connect(self._show_state)
        self.undo_button = IconButton("undo", "sam2_undo", "Undo. Key: Ctrl-Z")
        self.undo_button.clicked.connect(self.undo)
        self.redo_button = IconButton("redo", "sam2_redo", "Redo. Key: Ctrl-Shift-Z")
        self.redo_button.clicked.connect(self.redo)
        self.save_button = IconButton(
            "save", "sam2_save_session", "Save the session: prompts, objects and masks in one file"
        )
        self.save_button.clicked.connect(lambda _checked=False: self.ask_to_save())
        self.open_button = IconButton("open", "sam2_open_session", "Open a saved session")
        self.open_button.clicked.connect(lambda _checked=False: self.ask_to_open())
        self.measure_button = IconButton(
            "measure", "sam2_show_measurements", "Measure the objects: sizes, shapes, positions and intensities"
        )
        self.measure_button.clicked.connect(lambda _checked=False: self.measurements_asked.emit())
        self.lineage_button = IconButton(
            "lineage", "sam2_show_lineage", "Lineage: tracks over time, with parents and daughters"
        )
        self.lineage_button.clicked.connect(lambda _checked=False: self.lineage_asked.emit())
        self.export_button = button(
            "Export", "sam2_export", "Write labels and tables, or copy the session as a script.", lambda: None
        )
        self.message = line("sam2_save_message", "Files written, and errors.")
        self.menu = self._make_menu()
        self.export_button.setMenu(self.menu)
        layout = column(self)
        buttons = row(
            self.undo_button,
            self.redo_button,
            self.measure_button,
            self.lineage_button,
            self.save_button,
            self.open_button,
            self.export_button,
        )
        buttons.setSpacing(2)
        buttons.setStretch(buttons.count() - 1, 1)
        layout.addLayout(buttons)
        layout.addWidget(self.message)
        self.message.hide()
        self._show_state()

    def _make_menu(self) -> QMenu:
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        self.actions_by_name: dict[str, Any] = {}
        for export in EXPORTS:
            self._add_action(menu, export.name, export.text, export.tip, partial(self.ask_to_export, export))
        menu.addSeparator()
        self._add_action(menu, "tracks", "Add a Tracks layer", _TRACKS, self.add_tracks)
        menu.addSeparator()
        self._add_action(
            menu,
            "python",
            "Copy as Python",
            "A script that gives the same labels without a window.",
            self.copy_as_python,
        )
        self._add_action(
            menu,
            "command_line",
            "Copy as command line",
            "A shell command that replays the saved session.",
            self.copy_as_command_line,
        )
        return menu

    def _add_action(self, menu: QMenu, name: str, text: str, tip: str, call: Callable[[], Any]) -> None:
        action = menu.addAction(text)
        assert action is not None
        action.setObjectName(f"sam2_export_{name}")
        action.setToolTip(tip)
        action.triggered.connect(lambda _checked=False: call())
        self.actions_by_name[name] = action

    # ------------------------------------------------------------------ following
    def set_binding(self, binding: ViewerBinding | None) -> None:
        """Follow a session, or none."""
        self._connections.clear()
        self._timer.stop()
        self._binding = binding
        self._saved_as = None
        self.message.hide()
        if binding is not None:
            self._connections.connect(binding.session.changed, self._on_session_changed)
            for export in EXPORTS:
                self.actions_by_name[export.name].setToolTip(in_plane_words(export.tip, binding.plane_word))
        self._show_state()

    def _on_session_changed(self, _delta: StoreDelta) -> None:
        if not self._task.is_running:
            self.message.hide()  # it is about what was done before
        if not self._timer.isActive():
            self._timer.start()

    def _show_state(self) -> None:
        """Buttons can be pressed only when they can do something."""
        session = None if self._binding is None else self._binding.session
        writes = self._task.is_running
        undo = None if session is None else session.history.top
        redo = None if session is None else session.history.next_redo
        self.undo_button.setEnabled(undo is not None)
        self.undo_button.set_tip(f"Undo {undo.title}. Key: Ctrl-Z" if undo is not None else "Undo. Key: Ctrl-Z")
        self.redo_button.setEnabled(redo is not None)
        self.redo_button.set_tip(
            f"Redo {redo.title}. Key: Ctrl-Shift-Z" if redo is not None else "Redo. Key: Ctrl-Shift-Z"
        )
        has_objects = session is not None and bool(session.store.objects)
        has_masks = session is not None and bool(session.store.masks)
        self.save_button.setEnabled(has_objects and not writes)
        self.measure_button.setEnabled(has_masks)
        self.lineage_button.setVisible(session is not None and session.geometry.num_frames > 1)
        self.lineage_button.setEnabled(has_masks)
        self.export_button.setEnabled(has_objects)
        for name, action in self.actions_by_name.items():
            needs_masks = name not in ("objects", "python", "command_line")
            action.setEnabled((has_masks if needs_masks else has_objects) and not writes)
        tracks = self.actions_by_name["tracks"]
        goes_on = session is None or session.geometry.frame_axis == 0
        tracks.setEnabled(tracks.isEnabled() and goes_on)
        tracks.setToolTip(_TRACKS if goes_on else "Tracks need frames along the first axis.")

    # ------------------------------------------------------------------ undo
    def undo(self) -> None:
        """Undo the latest change."""
        if self._binding is not None:
            self._binding.session.undo()
            self._show_state()

    def redo(self) -> None:
        """Redo what was undone."""
        if self._binding is not None:
            self._binding.session.redo()
            self._show_state()

    # ------------------------------------------------------------------ session files
    def ask_to_save(self) -> None:
        """Let the user choose where the session goes."""
        self._ask_where("Save session", ".sam2", _SESSION_FILTER, self.save)

    def save(self, path: str) -> None:
        """Write the session to a file, in the background."""
        if self._binding is None:
            return
        session, place = self._binding.session, _with_suffix(path, ".sam2")
        self._saved_as = place
        self._write(lambda: session.save(place))

    def ask_to_open(self) -> None:
        """Let the user choose a session."""
        dialog = QFileDialog(self, "Open session", str(self._folder()), _SESSION_FILTER + ";;All files (*)")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.fileSelected.connect(self.open)
        open_dialog(dialog)

    def open(self, path: str) -> None:
        """Ask for a session to be opened."""
        self.message.hide()
        self.session_opened.emit(str(path))

    # ------------------------------------------------------------------ exports
    def ask_to_export(self, export: Export) -> None:
        """Let the user choose where an export goes."""
        filters = f"{export.text.split(' as ')[1].rstrip('.')} (*{export.suffix})"
        self._ask_where(export.text.rstrip("."), export.suffix, filters, lambda path: self.export(export.name, path))

    def export(self, name: str, path: str) -> None:
        """Write one of ``EXPORTS``; an existing file is replaced."""
        if self._binding is None:
            return
        export = next(each for each in EXPORTS if each.name == name)
        session, place = self._binding.session, _with_suffix(path, export.suffix)
        if export.is_labels:
            layer = self._binding.labels
            size, full_hw = label_calibration(layer), self._binding.full_hw
            is_placed = export.suffix in _PLACED and is_turned(layer.scale, layer.rotate, layer.shear, layer.affine)
            self._note = f"; {TURNED}" if is_placed else ""
            self._write(
                lambda: export_labels(
                    session,
                    place,
                    scale=size.scale,
                    units=size.units,
                    translation=size.translation,
                    axes=size.axes,
                    full_hw=full_hw,
                    overwrite=True,
                )
            )
            return
        write = export_scores_csv if name == "scores" else export_objects_csv
        # tables are read where they are changed: on this thread
        self._try(lambda: self._show_written(write(session, place, overwrite=True)))

    def add_tracks(self) -> None:
        """Add the centroids of each object to the viewer as a Tracks layer."""
        if self._binding is None:
            return
        binding = self._binding
        table = tracks_table(binding.session)
        if not len(table):
            self._show_failure(OutputError("there are no masks yet; propagate first"))
            return
        layer, selected = binding.labels, binding.viewer.layers.selection.active
        made = binding.viewer.add_tracks(
            table,
            graph=tracks_graph(binding.session),
            name=f"{binding.images[0].name} tracks",
            scale=layer.scale,
            translate=layer.translate,
            rotate=layer.rotate,
            shear=layer.shear,
            affine=layer.affine,
            units=layer.units,
            axis_labels=layer.axis_labels,
        )
        binding.viewer.layers.selection.active = selected  # the tool stays in hand
        count = len(set(table[:, 0]))
        self._say(f"{count} track{'s' * (count != 1)} in the layer {made.name}")

    def copy_as_python(self) -> None:
        """Copy a Python script that gives the same labels."""
        if self._binding is not None:
            session = self._binding.session
            self._try(lambda: self._copy(session.to_python(), "a Python script"))

    def copy_as_command_line(self) -> None:
        """Copy a shell command that gives the same labels from the saved session."""
        if self._binding is None:
            return
        session = self._binding.session
        path = self._saved_as or Path("session.sam2")
        self._try(lambda: self._copy(session.to_command_line(path), "a shell command"))
        if self._saved_as is None:
            self.message.setText(f"{self.message.text()}; it reads {path}: save the session under this name")

    def _copy(self, text: str, what: str) -> None:
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(text)
            self._say(f"{what} was copied to the clipboard")

    # ------------------------------------------------------------------ writing
    def _ask_where(self, title: str, suffix: str, filters: str, then: Callable[[str], None]) -> None:
        name = "session" if self._binding is None else self._binding.images[0].name
        dialog = QFileDialog(self, title, str(self._folder() / f"{name}{suffix}"), filters)
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setFileMode(QFileDialog.FileMode.AnyFile)
        dialog.fileSelected.connect(then)
        open_dialog(dialog)

    def _folder(self) -> Path:
        if self._saved_as is not None:
            return self._saved_as.parent
        source = None if self._binding is None else self._binding.session.stack_path
        folder = Path.home() if source is None else Path(source).parent
        return folder if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) else Path.home()

    def _write(self, call: Callable[[], Path]) -> None:
        def work(_context: TaskContext) -> Path:
            return call()

        if not self._task.start(work):
            self._say("another file is being written; try again in a moment")
            return
        self._say("writing...")
        self._show_state()

    def _try(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except NapariSAM2Error as error:
            self._show_failure(error)

    def _say(self, text: str) -> None:
        self.message.setText(text)
        self.message.show()

    def _show_written(self, path: Path) -> None:
        self._say(f"{path.name} was written to {path.parent}{self._note}")
        self._note = ""

    def _show_failure(self, error: Exception) -> None:
        show_error(self.message, error)

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Let go of the session; a file that is being written is finished."""
        self.set_binding(None)
        self._task.close()
        super().closeEvent(event)


def _with_suffix(path: str, suffix: str) -> Path:
    """The path, ending in the suffix; ``cells.tif`` becomes ``cells.ome.tif`` where that was chosen."""
    place = Path(path).expanduser()
    if place.name.lower().endswith(suffix):
        return place
    last = f".{suffix.rpartition('.')[2]}"
    name = place.name[: -len(last)] if place.name.lower().endswith(last) else place.name
    return place.with_name(name + suffix)
