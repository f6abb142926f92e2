"""The choice of a layer follows the viewer."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel
from qtpy.QtWidgets import QComboBox

from napari_sam2._qt.layer_combo import LayerCombo


def test_choice_follows_layers_that_come_go_and_are_renamed(qtbot):
    viewer = ViewerModel()
    combo = LayerCombo(viewer, "Image", "sam2_test", "An image.")
    qtbot.addWidget(combo)
    heard = []
    combo.layer_changed.connect(heard.append)
    assert combo.layer is None
    first = viewer.add_image(np.zeros((4, 4)), name="first")
    viewer.add_labels(np.zeros((4, 4), int))
    second = viewer.add_image(np.zeros((4, 4)), name="second")
    assert (combo.layer, combo.count()) == (first, 2)
    combo.choose(second)
    second.name = "other"
    box = combo.findChild(QComboBox)
    assert (combo.layer, box.currentText()) == (second, "other")
    viewer.layers.remove(second)
    assert combo.layer == first
    assert heard == [first, second, first]
    combo.let_go()
    viewer.layers.clear()
    assert combo.count() == 1


def test_the_choice_begins_with_the_selected_layer_or_else_the_last(qtbot):
    viewer = ViewerModel()
    first, last = (viewer.add_image(np.zeros((4, 4)), name=name) for name in ("first", "last"))
    for active, chosen in ((first, first), (viewer.add_points(None), last)):
        viewer.layers.selection.active = active
        combo = LayerCombo(viewer, "Image", "sam2_test", "An image.")
        qtbot.addWidget(combo)
        assert combo.layer is chosen


def test_no_layer_can_be_chosen_beside_layers(qtbot):
    viewer = ViewerModel()
    combo = LayerCombo(viewer, "Shapes", "sam2_test", "A region.", none_text="whole image")
    qtbot.addWidget(combo)
    region = viewer.add_shapes([[[1, 1], [9, 9]]], name="region")
    box = combo.findChild(QComboBox)
    assert [box.itemText(n) for n in range(box.count())] == ["whole image", "region"]
    assert combo.layer is None
    for at, layer in ((1, region), (0, None)):
        box.setCurrentIndex(at)
        assert combo.layer is layer
