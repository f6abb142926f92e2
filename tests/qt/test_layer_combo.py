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
