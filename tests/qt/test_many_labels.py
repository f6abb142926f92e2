"""Hundreds of objects started from a Labels layer: the window answers meanwhile."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel
from qtpy.QtCore import QTimer

from factories import make_model
from napari_sam2._qt.objects_section import ObjectsSection
from napari_sam2._viewer.binding import ViewerBinding

WAIT = 55_000  # ms: shared machines are slow
PER_SIDE, SIDE = 30, 1500


def make_discs() -> np.ndarray:
    """(1500, 1500) labels 1 to 900."""
    size = SIDE // PER_SIDE
    numbers = np.arange(1, PER_SIDE**2 + 1).reshape(PER_SIDE, PER_SIDE)
    yy, xx = np.mgrid[:SIDE, :SIDE] % size - size / 2
    return (numbers.repeat(size, 0).repeat(size, 1) * (yy**2 + xx**2 < (size / 2.6) ** 2)).astype(np.int32)


def test_900_objects_from_a_layer_never_hold_the_window_up(qtbot):
    drawn = make_discs()
    viewer = ViewerModel()
    image = viewer.add_image(np.stack([(drawn > 0) * np.uint8(200)] * 2), name="cells")
    layer = viewer.add_labels(drawn, name="cellpose")
    viewer.dims.set_point(0, 0)
    binding = ViewerBinding(viewer, [image], model=make_model())
    section = ObjectsSection(lambda: "sam2_micro")
    qtbot.addWidget(section)
    section.set_binding(binding)
    qtbot.wait(200)
    answered = 0

    def tick() -> None:
        nonlocal answered
        answered += 1

    timer = QTimer()
    timer.timeout.connect(tick)
    timer.start(0)
    section.start_from_layer(layer)
    qtbot.waitUntil(lambda: not section.is_starting, timeout=WAIT)
    assert answered > 5  # the window did other things between the parts of the work
    qtbot.waitUntil(lambda: section.table.rowCount() == 900, timeout=WAIT)
    timer.stop()
    np.testing.assert_array_equal(binding.session.labels[0], drawn)
    assert binding.current == 1
    binding.session.undo()
    assert not binding.session.objects
    binding.close()
    binding.session.close()


def test_many_labels_on_a_small_image_are_started_a_few_at_a_time_too(qtbot):
    drawn = np.zeros((64, 64), np.int32)
    drawn[::4, ::4] = np.arange(1, 257).reshape(16, 16)
    viewer = ViewerModel()
    image = viewer.add_image((drawn > 0) * np.uint8(200), name="cells")
    many, few = viewer.add_labels(drawn, name="many"), viewer.add_labels(drawn * (drawn < 9), name="few")
    binding = ViewerBinding(viewer, [image], model=make_model())
    section = ObjectsSection(lambda: "sam2_micro")
    qtbot.addWidget(section)
    section.set_binding(binding)
    section.start_from_layer(few)
    assert not section.is_starting
    binding.session.undo()
    section.start_from_layer(many)
    assert section.is_starting
    qtbot.waitUntil(lambda: not section.is_starting, timeout=WAIT)
    np.testing.assert_array_equal(binding.session.labels, drawn)
    binding.close()
    binding.session.close()
