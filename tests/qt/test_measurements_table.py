"""The table of measurements follows a session, selects objects, and leaves as text."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from napari.components import ViewerModel
from qt_tools import add_disc
from qtpy.QtWidgets import QApplication

from napari_sam2._qt.measurements_table import MeasurementsTable


@pytest.fixture
def table(binding, qtbot):
    made = MeasurementsTable(binding.viewer)
    qtbot.addWidget(made)
    for frame in range(3):
        add_disc(binding, frame, object_id=None if frame == 0 else 1)
    add_disc(binding, frame=4, radius=4)
    with qtbot.waitSignal(made.measured, timeout=30_000):
        made.set_binding(binding)
    yield made
    made.close()


def test_objects_have_rows_and_the_labels_layer_their_features(table, binding):
    assert table.data["object"].tolist() == [1, 2]
    assert table.data["num_pixels"].tolist() == [(binding.session.labels == i).sum() for i in (1, 2)]
    assert binding.labels.features["index"].tolist() == [1, 2]
    assert "pixels" in table.message.text()


def test_row_selects_its_object_and_the_other_way_round(table, binding):
    binding.select(2)
    assert table._object_in(table.table.currentRow()) == 2
    table.table.selectRow(0)
    assert binding.current == 1


def test_per_slice_a_row_goes_to_its_slice(table, binding, qtbot):
    with qtbot.waitSignal(table.measured, timeout=30_000):
        table.by.setCurrentIndex(1)
        table.measure()
    assert len(table.data) == 4
    table.table.selectRow(3)
    assert (binding.current, binding.current_plane) == (2, 4)
    binding.go_to(1)
    binding.select(1)  # in the table of objects: its row of this slice, and no other slice
    assert binding.current_plane == 1
    assert [table._value(table.table.currentRow(), name) for name in ("object", "plane")] == [1, 1]


def test_of_a_layer_with_a_scale_and_no_unit_nothing_is_said_to_be_in_pixels(binding, qtbot):
    made = MeasurementsTable(binding.viewer)
    qtbot.addWidget(made)
    binding.labels.scale = (2, 0.5, 0.5)
    add_disc(binding)
    binding.select(1)
    with qtbot.waitSignal(made.measured, timeout=30_000):
        made.set_binding(binding)
    assert made.message.text() == "lengths, areas and volumes in units of the layer's scale; bounding boxes in pixels"
    assert made._object_in(made.table.currentRow()) == 1
    made.close()


def test_copied_and_written_tables_are_the_same(table, tmp_path):
    table.copy()
    assert QApplication.clipboard().text() == table.data.to_csv(index=False, sep="\t")
    table.save(str(tmp_path / "m.csv"))
    written = pd.read_csv(tmp_path / "m.csv")
    np.testing.assert_allclose(written["volume"], table.data["volume"])
    table.save(str(tmp_path / "no" / "m.csv"))
    assert "no" in table.message.text()


def test_changed_masks_are_said_to_be_newer(table, binding):
    add_disc(binding, frame=5, radius=3)
    assert "measure again" in table.message.text()
    table.set_binding(None)
    assert table.table.rowCount() == 0


def test_labels_of_another_layer_are_measured_and_a_row_goes_to_its_slice(table, binding, qtbot):
    drawn = np.zeros(binding.geometry.shape, np.int32)
    drawn[2, 3:8, 4:9] = 5
    drawn[4, 3:8, 4:9] = 6
    layer = binding.viewer.add_labels(drawn, name="mine")
    table.labels.choose(layer)
    assert table.data is None
    table.by.setCurrentIndex(1)
    with qtbot.waitSignal(table.measured, timeout=30_000):
        table.measure_button.click()
    assert table.data["object"].tolist() == [5, 6]
    assert table.data["num_pixels"].tolist() == [25, 25]
    table.table.selectRow(1)
    assert layer.selected_label == 6
    assert binding.current_plane == 4
    assert binding.current != 6


def test_of_a_single_image_no_columns_about_slices_are_shown(qtbot):
    viewer = ViewerModel()
    viewer.add_labels(np.eye(9, dtype=np.int32), name="found")
    table = MeasurementsTable(viewer)
    qtbot.addWidget(table)
    with qtbot.waitSignal(table.measured, timeout=30_000):
        table.measure()
    names = list(table.data.columns)
    shown = [name for at, name in enumerate(names) if not table.table.isColumnHidden(at)]
    assert {"clip", "num_planes", "first_frame", "last_frame"} == set(names) - set(shown)
    assert "volumes" not in table.message.text()
    table.close()
