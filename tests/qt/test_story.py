"""A biologist's first session in a real viewer, with the mouse: click, track, correct, undo, close, find again."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt, QTimer

from factories import make_model, make_movie
from napari_sam2 import Prompt
from napari_sam2._qt.keys import SHORTCUTS
from napari_sam2._qt.main_widget import SAM2Widget
from napari_sam2.session.worker.compute_thread import Job

WAIT = 60_000  # ms: shared machines are slow


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny network as a file, so that the widget loads it as it loads any checkpoint."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(make_model(1, native_window=128, image_size=256).state_dict(), path, metadata={"model": "sam2_micro"})
    return path


@pytest.fixture
def open_widget(make_napari_viewer, qtbot, weights):
    made = []

    def open_(image=None, viewer=None, **layer):
        if viewer is None:
            viewer = make_napari_viewer(show=False)
            viewer.add_image(make_movie() if image is None else image, name="cells", **layer)
        widget = SAM2Widget(viewer)
        widget.model.choose(str(weights))
        viewer.window.add_dock_widget(widget, name="SAM 2")
        qtbot.waitUntil(lambda: widget.binding is not None, timeout=WAIT)
        made.append(widget)
        return viewer, widget

    yield open_
    for widget in made:
        widget.shut_down()


def answered(qtbot, widget):
    session = widget.binding.session
    qtbot.waitUntil(lambda: not session.is_busy, timeout=WAIT)


def click_on_canvas(viewer, qtbot, widget, row, column):
    """Press the left button where a pixel of the image is drawn."""
    canvas = viewer.window._qt_viewer.canvas
    native = canvas.native
    binding = widget.binding
    at_plane = binding.geometry.index(binding.current_plane)
    world = binding.labels.data_to_world((*at_plane, row, column))[-2:]
    # the mapping from window to world is linear: three probes tell it
    view = canvas.view
    origin, right, down = (
        np.array(canvas._map_canvas2world(spot, view)[-2:], float) for spot in ((0, 0), (100, 0), (0, 100))
    )
    spot = np.linalg.solve(np.stack((right - origin, down - origin), axis=1), np.array(world) - origin) * 100
    at = QPoint(*(round(float(v)) for v in spot))
    qtbot.mouseMove(native, at)
    qtbot.mouseClick(native, Qt.MouseButton.LeftButton, pos=at)


def test_the_whole_story(open_widget, qtbot, tmp_path):
    viewer, widget = open_widget()
    binding = widget.binding
    session = binding.session
    binding.go_to(3)
    assert viewer.layers.selection.active == binding.points
    assert binding.points.mode == "add"

    # a click, and the mask is there
    click_on_canvas(viewer, qtbot, widget, 20, 21)
    qtbot.waitUntil(lambda: len(binding.points.data) == 1, timeout=WAIT)
    answered(qtbot, widget)
    np.testing.assert_allclose(binding.points.data[0], (3, 20, 21), atol=1)
    assert (session.labels[3] == 1).any()

    # tracked while the user looks around
    widget.propagate_both()
    binding.go_to(6)
    answered(qtbot, widget)
    assert session.handle.num_done == session.handle.num_steps == 7
    tracked = session.labels.copy()

    # corrected three slices later: only what depends on it is tracked again
    binding.go_to(6)
    widget.toggle_positive()
    click_on_canvas(viewer, qtbot, widget, 2, 2)
    qtbot.waitUntil(lambda: session.prompt(1, 6) is not None, timeout=WAIT)
    answered(qtbot, widget)
    assert session.prompt(1, 6).labels.tolist() == [0]
    widget.propagate_both()
    answered(qtbot, widget)
    np.testing.assert_array_equal(session.labels[:3], tracked[:3])
    assert session.handle.num_steps == 3  # planes 4, 5 and 7

    # undone, byte for byte: the propagation and the correction
    widget.undo()
    widget.undo()
    answered(qtbot, widget)
    np.testing.assert_array_equal(session.labels, tracked)
    assert len(binding.points.data) == 1

    # twenty more objects
    binding.go_to(0)
    rng = np.random.default_rng(0)
    for row, column in zip(rng.integers(2, 46, 20), rng.integers(2, 62, 20), strict=True):
        widget.new_object()
        binding.set_positive(True)
        binding.points.add([[0, row, column]])
    answered(qtbot, widget)
    assert len(session.objects) == 21
    widget.objects.refresh()
    assert widget.objects.table.rowCount() == 21
    before = session.labels.copy()

    # closed, and found again the next day
    session.flush_autosave()
    widget.shut_down()
    for layer in binding.layers:
        viewer.layers.remove(layer)
    _, again = open_widget(viewer=viewer)
    assert again.offer.isVisibleTo(again)
    assert "21 objects" in again.offer.text.text()
    again.offer.restore_button.click()
    answered(qtbot, again)
    np.testing.assert_array_equal(again.binding.session.labels, before)
    assert len(again.binding.points.data) == 21


def test_opening_the_widget_makes_the_active_image_ready(open_widget, qtbot):
    viewer, widget = open_widget(make_movie()[0], scale=(0.5, 0.5))
    assert widget.image_choice.currentText() == "cells"
    click_on_canvas(viewer, qtbot, widget, 20, 15)
    qtbot.waitUntil(lambda: len(widget.binding.points.data) == 1, timeout=WAIT)
    answered(qtbot, widget)
    np.testing.assert_allclose(widget.binding.points.data[0], (20, 15), atol=1)


def test_no_image_is_said_in_words_and_an_image_added_later_is_taken(make_napari_viewer, qtbot, weights):
    viewer = make_napari_viewer()
    widget = SAM2Widget(viewer)
    widget.model.choose(str(weights))
    viewer.window.add_dock_widget(widget)
    assert "Open an image" in widget.message.text()
    viewer.add_image(make_movie(), name="late")
    qtbot.waitUntil(lambda: widget.binding is not None, timeout=WAIT)
    assert widget.binding.images[0].name == "late"
    widget.shut_down()


def test_keys_are_bound_while_the_widget_is_open_and_released_after(open_widget):
    viewer, widget = open_widget()
    bound = dict(viewer.keymap)
    widget.shut_down()
    assert len(bound) - len(viewer.keymap) == len(SHORTCUTS)
    for layer in widget._kept or viewer.layers:
        assert "SAM 2" not in str([getattr(f, "__doc__", "") for f in layer.keymap.values()])


def test_shortcuts_clash_with_no_key_of_napari():
    from napari.utils.key_bindings import coerce_keybinding
    from napari.utils.shortcuts import default_shortcuts

    undo = {"Control-Z", "Control-Shift-Z"}  # on purpose: the session's undo takes the place of the layer's
    taken = {coerce_keybinding(key) for keys in default_shortcuts.values() for key in keys}
    assert not [s.key for s in SHORTCUTS if s.key not in undo and coerce_keybinding(s.key) in taken]


def test_every_control_has_a_tooltip(open_widget):
    from qtpy.QtWidgets import QAbstractButton, QComboBox, QSpinBox

    _, widget = open_widget()
    controls = [w for kind in (QAbstractButton, QComboBox, QSpinBox) for w in widget.findChildren(kind)]
    bare = [
        (type(w).__name__, w.objectName(), getattr(w, "text", str)())
        for w in controls
        if not w.toolTip() and w.parentWidget() is not widget.objects.table and "qt_" not in w.objectName()
    ]
    assert len(controls) > 25
    assert bare == []


def test_a_propagation_wanted_while_a_click_waits_starts_by_itself(open_widget, qtbot):
    _, widget = open_widget()
    session = widget.binding.session
    for number in range(2):
        release = threading.Event()
        session._compute.submit(Job(release.wait, lambda _: None))
        widget.binding.points.add([[3, 20, 21 + number]])
        assert session.is_answering
        widget.propagate_both()
        assert "last click" in widget.propagation.state.text()
        before = session.handle
        release.set()
        qtbot.waitUntil(lambda before=before: session.handle is not before, timeout=WAIT)
        answered(qtbot, widget)
        assert session.handle.error is None
        assert session.handle.num_done == session.handle.num_steps == 7


def test_cancel_keeps_finished_frames_and_going_on_completes_them(open_widget, qtbot):
    _, widget = open_widget(make_movie(24))
    session = widget.binding.session
    widget.binding.points.add([[0, 20, 15]])
    answered(qtbot, widget)
    widget.propagate_forward()
    qtbot.waitUntil(lambda: session.handle is not None and session.handle.num_done >= 2, timeout=WAIT)
    widget.cancel()
    done = session.handle.num_done
    kept = session.labels.copy()
    assert not session.handle.is_running
    assert "finished and stay" in widget.propagation.state.text()
    qtbot.wait(200)
    np.testing.assert_array_equal(session.labels, kept)
    widget.propagate_forward()
    answered(qtbot, widget)
    np.testing.assert_array_equal(session.labels[: done + 1], kept[: done + 1])
    assert session.store.planes_of(1) == list(range(24))


def test_handle_can_be_waited_for_on_the_thread_of_the_window(open_widget, qtbot):
    _, widget = open_widget(make_movie(6))
    session = widget.binding.session
    session.add_points([[0, 20, 15]])
    handle = session.propagate(block=False)
    assert handle.wait(60)
    assert session.store.planes_of(1) == list(range(6))


def test_window_is_held_up_for_less_than_100_ms_while_twenty_objects_are_tracked(open_widget, qtbot):
    _, widget = open_widget(make_movie(6))
    session = widget.binding.session
    for row, column in np.random.default_rng(0).integers(2, 46, (20, 2)):
        session.set_prompt(0, Prompt(points=[[column, row]], labels=[1]), block=False)
    answered(qtbot, widget)
    busy, last = [], time.thread_time()

    def tick():
        nonlocal last
        now = time.thread_time()  # of this thread only: what other programs of the machine do says nothing about ours
        busy.append(now - last)
        last = now

    timer = QTimer()
    timer.timeout.connect(tick)
    timer.start(5)
    widget.propagate_both()
    answered(qtbot, widget)
    timer.stop()
    assert session.handle.num_done == 5
    assert len(session.objects) == 20
    assert max(busy[1:]) < 0.1


def test_labels_of_another_layer_start_objects_by_button(open_widget, qtbot):
    viewer, widget = open_widget()
    section = widget.objects
    widget.binding.go_to(0)
    assert section.from_row.isHidden()
    drawn = np.zeros((8, 48, 64), np.uint8)
    drawn[0, 10:20, 10:20], drawn[0, 30:40, 40:50] = 3, 5
    layer = viewer.add_labels(drawn, name="cellpose")
    assert not section.from_row.isHidden()
    layer.name = "from cellpose"
    assert section.layer_choice.currentText() == "from cellpose"
    layer.selected_label = 5
    section.this_label_button.click()
    assert [o.object_id for o in widget.binding.session.objects] == [5]
    section.all_button.click()
    np.testing.assert_array_equal(widget.binding.session.labels[0], drawn[0])
    viewer.layers["cells"].name = "renamed"
    assert widget.image_choice.currentText() == "renamed"
    viewer.layers.remove(layer)
    assert section.from_row.isHidden()


def test_every_key_stands_on_a_button(open_widget):
    from qtpy.QtWidgets import QPushButton

    _, widget = open_widget()
    texts = [button.text() for button in widget.findChildren(QPushButton)]
    for shortcut in SHORTCUTS:
        key = shortcut.key.replace("Control", "Ctrl").replace("Delete", "Del")
        keys = (key, key.replace("Shift-", "\N{UPWARDS WHITE ARROW}"))
        assert any(text.endswith(keys) for text in texts), key


def test_the_image_may_go_and_the_viewer_may_close_while_tracking(open_widget, qtbot):
    viewer, widget = open_widget(make_movie(24))
    session = widget.binding.session
    widget.binding.points.add([[0, 20, 15]])
    answered(qtbot, widget)
    widget.propagate_forward()
    viewer.layers["cells"].name = "renamed"
    viewer.layers.remove("renamed")
    answered(qtbot, widget)
    assert session.handle.num_done == 23
    widget.shut_down()
    assert "napari-sam2" not in [thread.name for thread in threading.enumerate()]
