"""The table of measurements: computed in the background, a row selects its object, copied or written as CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QFileDialog,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._qt.background import BackgroundTask, TaskContext
from napari_sam2._qt.connections import Connections
from napari_sam2._qt.focus_ring import FocusRing
from napari_sam2._qt.forms import Form
from napari_sam2._qt.layer_combo import LayerCombo
from napari_sam2._qt.layout import (
    button,
    column,
    keep_keys_on_canvas,
    line,
    name_planes,
    named,
    open_dialog,
    row,
    show_error,
)
from napari_sam2._viewer.layer_frames import is_time_axis, label_calibration, layer_plane_word
from napari_sam2._viewer.layer_places import show_plane
from napari_sam2._viewer.tasks import measure_layer
from napari_sam2.labels.measurements import write_table

if TYPE_CHECKING:
    import pandas as pd
    from napari.components import ViewerModel

    from napari_sam2._viewer.binding import ViewerBinding

__all__ = ["MeasurementsTable"]

_OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"by": {"label": "Rows", "choices": [("per object", "object"), ("per slice", "plane")]}}
)


_OF_STACKS = ("clip", "plane", "frame", "num_planes", "first_frame", "last_frame")
"""Columns that are saved, but not shown for a single image."""


class _Stopped(Exception):  # noqa: N818 it ends the work, and is no error
    """The widget was closed while it measured."""


class MeasurementsTable(QWidget):
    """Measurements of the objects of a session, or of any Labels layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or ViewerModel
        Whose Labels layers can be measured.

    Attributes
    ----------
    measured : Signal
        Emitted with the table, a ``pandas.DataFrame``.
    """

    measured = Signal(object)

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("sam2_measurements")
        self._viewer = viewer
        self._binding: ViewerBinding | None = None
        self._connections = Connections(self)
        self.data: pd.DataFrame | None = None
        self._measured: Any = None  # the layer of the table
        self._unit = "pixels"
        self._task = BackgroundTask(self, "napari-sam2 measure")
        self._task.progressed.connect(self._show_progress)
        self._task.succeeded.connect(self._take)
        self._task.failed.connect(self._show_failure)
        self.labels = LayerCombo(viewer, "Labels", "sam2_measure_labels", "The objects to measure.")
        self.image = LayerCombo(viewer, "Image", "sam2_measure_image", "The image whose intensities are measured.")
        self.form = Form(measure_layer, "sam2_measure", _OPTIONS)
        self.by: Any = self.form.native("by")
        self.by.activated.connect(self.measure)
        for choice in (self.labels, self.image):
            choice.layer_changed.connect(self._on_layer)
        self.measure_button = button("Measure", "sam2_measure", "Measure the masks as they are now.", self.measure)
        self.copy_button = button("Copy", "sam2_measure_copy", "Copy the table, to paste it elsewhere.", self.copy)
        self.save_button = button("Save...", "sam2_measure_csv", "Write the table to a file.", self.ask_to_save)
        self.message = line("sam2_measure_message", "Measured quantities and their units.")
        self.table: Any = QTableWidget()
        self.table.setTabKeyNavigation(False)  # the Tab key leaves the table
        named(self.table, "sam2_measure_table", "Measurements. A row selects its object.")
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSortingEnabled(True)
        rows = self.table.verticalHeader()
        if rows is not None:
            rows.setVisible(False)
        self.table.itemSelectionChanged.connect(self._on_row)
        layout = column(self)
        layout.setContentsMargins(6, 2, 6, 2)
        layout.addLayout(row(QLabel("Labels"), self.labels, QLabel("Image"), self.image))
        layout.addLayout(row(self.form.gui.native, self.measure_button, self.copy_button, self.save_button))
        layout.addWidget(self.message)
        layout.addWidget(self.table, 1)
        keep_keys_on_canvas(self)
        FocusRing(self)
        self._name_planes()

    # ------------------------------------------------------------------ following
    def set_binding(self, binding: ViewerBinding | None) -> None:
        """Measure another session, or none."""
        self._connections.clear()
        self._task.stop()
        self._binding = binding
        self.data = None
        self.table.setRowCount(0)
        if binding is not None:
            self._connections.connect(binding.session.changed, self._on_changed)
            self._connections.connect(binding.current_changed, self._on_current)
            self.labels.choose(binding.labels)
            self.image.choose(binding.images[0])
            self.measure()

    def _on_layer(self, _layer: Any = None) -> None:
        """Other labels are measured when the user asks for it."""
        self._task.stop()
        self.data = None
        self.table.setRowCount(0)
        self._name_planes()
        self.message.setText("press Measure")

    def _name_planes(self) -> None:
        """Say slices or frames, as the axis of the labels is called."""
        self.by.setItemText(self.by.findData("plane"), f"per {self._word}")
        name_planes(self, self._word)

    @property
    def _word(self) -> Literal["frame", "slice"]:
        """What a plane of the labels is called."""
        return "slice" if self.labels.layer is None else layer_plane_word(self.labels.layer)

    @property
    def _is_session(self) -> bool:
        """Whether the labels are those of the session, which have names, classes and predicted IoU."""
        return self._binding is not None and self.labels.layer == self._binding.labels

    def _on_changed(self, _delta: Any = None) -> None:
        if self.data is not None and self._is_session and not self._task.is_running:
            self.message.setText("masks have changed since they were measured; measure again")

    def _on_current(self, object_id: int | None) -> None:
        """The object that was selected elsewhere is selected here."""
        binding, table = self._binding, self.table
        if binding is None or not self._is_session or object_id == self._object_in(table.currentRow()):
            return
        rows = [at for at in range(table.rowCount()) if self._object_in(at) == object_id]
        here = [at for at in rows if self._value(at, "plane") == binding.current_plane]
        if rows:
            with QSignalBlocker(table):  # of several slices a row would go to its own
                at = (here or rows)[0]
                table.selectRow(at)
                table.scrollToItem(table.item(at, 0))

    # ------------------------------------------------------------------ measuring
    def measure(self, _index: int = 0) -> None:
        """Measure all objects in the background."""
        layer = self.labels.layer
        if layer is None or self._task.is_running:
            return
        calibration = label_calibration(layer)
        if calibration.units is not None:
            self._unit = calibration.units[-1]
        else:
            self._unit = "pixels" if calibration.scale is None else "units of the layer's scale"
        if self._is_session:
            self._measure_session()
        else:
            self._measure_layer()

    def _measure_layer(self) -> None:
        """As the function ``measure_layer`` does."""
        labels, image, values = self.labels.layer, self.image.layer, self.form.values()
        self._measured = labels

        def run(context: TaskContext) -> pd.DataFrame:
            def on_progress(_stage: str, number: int, count: int) -> None:
                if context.should_stop():
                    raise _Stopped
                context.report((number, count))

            return measure_layer(labels, image, **values, on_progress=on_progress)

        self.message.setText("measuring...")
        self._task.start(run)

    def _measure_session(self) -> None:
        binding = self._binding
        assert binding is not None
        self._measured = binding.labels
        by: Literal["object", "plane"] = self.form.values()["by"]
        calibration = label_calibration(binding.labels)
        axis = binding.geometry.frame_axis
        is_time = axis is not None and is_time_axis(str(binding.labels.axis_labels[axis]))
        try:
            work = binding.session.measurement(by, scale=calibration.scale, frames_are_times=is_time)
        except NapariSAM2Error as error:
            self._show_failure(error)
            return

        def run(context: TaskContext) -> pd.DataFrame:
            def on_plane(number: int, count: int) -> None:
                if context.should_stop():
                    raise _Stopped
                context.report((number, count))

            return work.run(on_plane)

        self.message.setText("measuring...")
        self._task.start(run)

    def _show_progress(self, progress: tuple[int, int]) -> None:
        self.message.setText(f"{self._word} {progress[0]} of {progress[1]}")

    def _take(self, data: pd.DataFrame) -> None:
        self.data = data
        self.table.setSortingEnabled(False)
        self.table.setColumnCount(len(data.columns))
        self.table.setHorizontalHeaderLabels([str(name) for name in data.columns])
        self.table.setRowCount(len(data))
        for at, name in enumerate(data.columns):
            for number, value in enumerate(data[name].tolist()):
                self.table.setItem(number, at, _item(value))
        is_flat = self._measured is not None and self._measured.ndim == 2
        for at, name in enumerate(data.columns):
            is_same = name == "clip" and not data[name].any()
            self.table.setColumnHidden(at, is_same or (is_flat and name in _OF_STACKS))
        self.table.resizeColumnsToContents()
        self.table.setSortingEnabled(True)
        self.table.clearSelection()
        self.table.setCurrentItem(None)
        if self._binding is not None:
            self._on_current(self._binding.current)
        what = "lengths and areas" if is_flat else "lengths, areas and volumes"
        self.message.setText(f"{what} in {self._unit}; bounding boxes in pixels")
        if self._measured is not None and self.by.currentData() == "object" and data["object"].is_unique:
            # napari colours labels by their features, and other plugins read them there
            self._measured.features = data.rename(columns={"object": "index"})
        self.measured.emit(data)

    def _show_failure(self, error: Exception) -> None:
        if not isinstance(error, _Stopped):
            show_error(self.message, error)

    # ------------------------------------------------------------------ rows
    def _value(self, at: int, name: str) -> int | None:
        if self.data is None or name not in self.data:
            return None
        item = self.table.item(at, self.data.columns.get_loc(name))
        return None if item is None else int(item.data(Qt.ItemDataRole.EditRole))

    def _object_in(self, at: int) -> int | None:
        return self._value(at, "object")

    def _on_row(self) -> None:
        binding, object_id = self._binding, self._object_in(self.table.currentRow())
        if not self._is_session:
            self._show_label(object_id)
            return
        if binding is None or object_id is None or object_id not in binding.session.store.objects:
            return
        binding.select(object_id)
        plane = self._value(self.table.currentRow(), "plane")
        if plane is not None:
            binding.go_to(plane)

    def _show_label(self, object_id: int | None) -> None:
        """Select an object of a layer that is not the session's, on the slice of its row."""
        layer, plane = self._measured, self._value(self.table.currentRow(), "plane")
        if layer is None or object_id is None:
            return
        layer.selected_label = object_id
        if plane is not None and layer.ndim > 2:
            index = np.unravel_index(plane, layer.data.shape[:-2])
            show_plane(self._viewer, layer, [int(place) for place in index])

    # ------------------------------------------------------------------ leaving
    def copy(self) -> None:
        """Copy the table, with tabs between the columns, as spreadsheets read it."""
        clipboard = QApplication.clipboard()
        if clipboard is not None and self.data is not None:
            clipboard.setText(self.data.to_csv(index=False, sep="\t"))
            self.message.setText("copied to the clipboard")

    def ask_to_save(self) -> None:
        """Let the user choose a file."""
        start = str(Path.home() / "measurements.csv")
        dialog = QFileDialog(self, "Save measurements", start, "CSV (*.csv);;Parquet (*.parquet)")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.fileSelected.connect(self.save)
        open_dialog(dialog)

    def save(self, path: str) -> None:
        """Write the table, as Parquet if the name ends in .parquet and else as CSV; an existing file is replaced."""
        data = self.data
        if data is None:
            return
        place = Path(path).expanduser()
        try:
            write_table(data, place)
        except NapariSAM2Error as error:
            self._show_failure(error)
            return
        self.message.setText(f"{place.name} was written to {place.parent}")

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Let go of the session and the viewer."""
        self.set_binding(None)
        self._task.close()
        self.labels.let_go()
        self.image.let_go()
        super().closeEvent(event)


def _item(value: Any) -> QTableWidgetItem:
    """Numbers sort as numbers."""
    item = QTableWidgetItem()
    if isinstance(value, float):
        item.setData(Qt.ItemDataRole.EditRole, float(f"{value:.5g}") if np.isfinite(value) else "")
    else:
        item.setData(Qt.ItemDataRole.EditRole, value)
    return item
