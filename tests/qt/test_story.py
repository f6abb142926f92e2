"""A biologist's first session in a real viewer, with the mouse: click, track, correct, undo, close, find again."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import numpy as np
import pytest
from qt_tools import place_on_canvas
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


def click_on_canvas(viewer, qtbot, widget, row, column, modifier=Qt.KeyboardModifier.NoModifier):
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
    qtbot.mouseClick(native, Qt.MouseButton.LeftButton, modifier, pos=at)


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
    assert again.sessions.offer.isVisibleTo(again)
    assert "21 objects" in again.sessions.offer.text.text()
    again.sessions.offer.restore_button.click()
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
    assert "Open an image" in widget.status.text
    viewer.add_image(make_movie(), name="late")
    qtbot.waitUntil(lambda: widget.binding is not None, timeout=WAIT)
    assert widget.binding.images[0].name == "late"
    widget.shut_down()


def test_keys_are_bound_while_the_widget_is_open_and_released_after(open_widget):
    viewer, widget = open_widget()
    bound = dict(viewer.keymap)
    widget.shut_down()
    assert len(bound) - len(viewer.keymap) == len(SHORTCUTS)
    for layer in widget.sessions.kept or viewer.layers:
        assert "SAM 2" not in str([getattr(f, "__doc__", "") for f in layer.keymap.values()])


def test_shortcuts_clash_with_no_key_of_napari():
    from napari.utils.key_bindings import coerce_keybinding
    from napari.utils.shortcuts import default_shortcuts

    # on purpose: the session's undo takes the place of the layer's, and Esc is a layer's only while something is drawn
    undo = {"Control-Z", "Control-Shift-Z", "Escape"}
    taken = {coerce_keybinding(key) for keys in default_shortcuts.values() for key in keys}
    assert not [s.key for s in SHORTCUTS if s.key not in undo and coerce_keybinding(s.key) in taken]


def test_every_control_has_a_tooltip(open_widget):
    from qtpy.QtWidgets import QAbstractButton, QComboBox, QSpinBox, QTabBar, QTableWidget

    _, widget = open_widget()
    controls = [w for kind in (QAbstractButton, QComboBox, QSpinBox) for w in widget.findChildren(kind)]
    bare = [
        (type(w).__name__, w.objectName(), getattr(w, "text", str)())
        for w in controls
        if not w.toolTip() and not isinstance(w.parentWidget(), (QTableWidget, QTabBar)) and "qt_" not in w.objectName()
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
    assert "finished and kept" in widget.propagation.state.text()
    qtbot.wait(200)
    np.testing.assert_array_equal(session.labels, kept)
    widget.propagate_forward()
    answered(qtbot, widget)
    np.testing.assert_array_equal(session.labels[: done + 1], kept[: done + 1])
    assert session.store.planes_of(1) == list(range(24))


def test_a_change_that_ends_a_propagation_says_how_far_it_came(open_widget, qtbot):
    _, widget = open_widget(make_movie(24))
    session = widget.binding.session
    widget.binding.points.add([[0, 20, 15]])
    answered(qtbot, widget)
    for change in (lambda: widget.binding.points.add([[0, 22, 15]]), widget.delete_object):
        widget.propagate_forward()
        qtbot.waitUntil(lambda: session.handle is not None and session.handle.num_done >= 2, timeout=WAIT)
        change()
        answered(qtbot, widget)
        qtbot.wait(50)
        assert "finished and kept" in widget.propagation.state.text()
    widget.undo()
    assert not widget.propagation.state.text()


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


def test_labels_of_another_layer_start_objects_by_menu(open_widget):
    viewer, widget = open_widget()
    section = widget.objects

    def entries() -> dict[str, object]:
        section.menu.aboutToShow.emit()
        return {action.text(): action for action in section.from_menu.actions()}

    widget.binding.go_to(0)
    assert not entries()
    assert not section.from_menu.isEnabled()
    drawn = np.zeros((8, 48, 64), np.uint8)
    drawn[0, 10:20, 10:20], drawn[0, 30:40, 40:50] = 3, 5
    layer = viewer.add_labels(drawn, name="cellpose")
    layer.name = "from cellpose"
    layer.selected_label = 5
    entries()["from cellpose: label 5 only"].trigger()
    assert [o.object_id for o in widget.binding.session.objects] == [5]
    entries()["from cellpose: all labels on this slice"].trigger()
    np.testing.assert_array_equal(widget.binding.session.labels[0], drawn[0])
    viewer.layers["cells"].name = "renamed"
    assert widget.image_choice.currentText() == "renamed"
    gone, layer = weakref.ref(layer), viewer.layers.remove(layer)
    gc.collect()
    assert gone() is None  # though the menu has not been opened since
    assert not entries()


def test_every_key_stands_on_a_button_or_in_a_menu(open_widget):
    from qtpy.QtGui import QAction
    from qtpy.QtWidgets import QAbstractButton

    _, widget = open_widget()
    controls = [c for kind in (QAbstractButton, QAction) for c in widget.findChildren(kind)]
    texts = [text for control in controls for text in (control.text(), control.toolTip())]
    for shortcut in SHORTCUTS:
        key = shortcut.key.replace("Control", "Ctrl").replace("Delete", "Del").replace("Escape", "Esc")
        ends = (f": {key}", f"  {key}", f"\t{key}", f"\t{key.replace('Shift-', 'Shift+')}")
        assert any(text.endswith(ends) for text in texts), key


def test_no_key_is_one_of_the_window_s_menus(make_napari_viewer):
    from napari._app_model import get_app_model

    make_napari_viewer(show=False)  # fills the menus
    taken = {str(each.keybinding) for each in get_app_model().keybindings}
    assert "Ctrl+0" in taken  # "Fit to View"
    undo = {"Control-Z", "Control-Shift-Z"}  # on purpose: the session's undo takes the place of the layer's
    ours = {s.key.replace("Control", "Ctrl").replace("-", "+") for s in SHORTCUTS if s.key not in undo}
    assert ours & taken == set()


def test_escape_stops_a_run_whatever_layer_is_active(open_widget, qtbot):
    _, widget = open_widget(make_movie(24))
    session = widget.binding.session
    widget.binding.points.add([[0, 20, 15]])
    answered(qtbot, widget)
    shapes = widget.binding.shapes
    before = dict(shapes.keymap)
    widget.propagate_forward()
    qtbot.waitUntil(lambda: session.handle is not None and session.handle.num_done >= 1, timeout=WAIT)
    widget.objects.use_tool("lasso")
    (escape,) = [key for key in shapes.keymap if str(key) == "Escape"]
    shapes.keymap[escape](shapes)
    assert not session.handle.is_running
    assert session.handle.num_done < session.handle.num_steps
    assert dict(shapes.keymap) == before


def test_removed_image_ends_its_session_and_the_next_image_is_taken(open_widget, qtbot):
    viewer, widget = open_widget(make_movie(24))
    session = widget.binding.session
    widget.binding.points.add([[0, 20, 15]])
    answered(qtbot, widget)
    widget.propagate_forward()
    viewer.layers.clear()
    assert widget.binding is None
    assert not session.handle.is_running
    assert "saved" in widget.status.text
    viewer.add_image(make_movie(8), name="others")
    qtbot.waitUntil(lambda: widget.binding is not None, timeout=WAIT)
    assert widget.binding.images[0].name == "others"
    widget.objects.tools["box"].click()
    assert widget.binding.shapes.mode == "add_rectangle"
    widget.binding.points.add([[0, 20, 15]])
    answered(qtbot, widget)
    assert len(widget.binding.session.objects) == 1
    widget.shut_down()  # does not wait for the frame that is being computed
    qtbot.waitUntil(lambda: "napari-sam2" not in [thread.name for thread in threading.enumerate()], timeout=WAIT)


def test_another_image_is_offered_when_it_is_selected(open_widget, qtbot):
    viewer, widget = open_widget()
    first = widget.binding
    other = viewer.add_image(make_movie(8), name="others", translate=(20, 0, 0))
    viewer.dims.set_point(0, 2)
    assert not widget.sessions.switch_button.isHidden()
    assert "others" in widget.sessions.switch_button.text()
    viewer.layers.selection.active = first.images[0]
    assert widget.sessions.switch_button.isHidden()
    viewer.layers.selection.active = other
    widget.sessions.switch_button.click()
    assert widget.binding.images == [other]
    assert widget.sessions.switch_button.isHidden()
    assert viewer.dims.point[0] == 20


def test_an_image_cropped_in_place_takes_no_prompts_and_a_new_session_is_offered(open_widget, qtbot):
    viewer, widget = open_widget()
    first = widget.binding
    first.points.add([[0, 20, 15]])
    answered(qtbot, widget)
    image = viewer.layers["cells"]
    image.data = image.data[:, 10:40, 5:50]
    assert not widget.sessions.restart_button.isHidden()
    first.points.add([[0, 12, 12]])
    assert len(first.points.data) == 1
    assert "start a new session" in widget.status.text
    widget.sessions.restart_button.click()
    assert widget.binding is not first
    assert widget.binding.geometry.shape == image.data.shape
    assert widget.sessions.restart_button.isHidden()
    widget.binding.points.add([[0, 10, 10]])
    answered(qtbot, widget)
    assert len(widget.binding.session.objects) == 1


def test_restoring_goes_on_with_the_last_object_and_is_offered_once(open_widget, qtbot):
    viewer, widget = open_widget()
    for plane, row, column in ((1, 20, 15), (5, 30, 45)):
        widget.new_object()
        widget.binding.points.add([[plane, row, column]])
        answered(qtbot, widget)
    widget.binding.session.flush_autosave()
    widget.shut_down()
    for layer in widget.binding.layers if widget.binding else list(viewer.layers)[1:]:
        viewer.layers.remove(layer)
    _, again = open_widget(viewer=viewer)
    again.sessions.offer.restore_button.click()
    assert again.sessions.offer.isHidden()
    assert again.binding.current == 2
    assert again.binding.current_plane == 5
    assert len(viewer.layers) == 4
    again.binding.points.add([[5, 31, 46]])
    answered(qtbot, again)
    assert [len(again.binding.session.prompt(i, p).points) for i, p in ((1, 1), (2, 5))] == [1, 2]


def test_click_with_the_arrow_selects_the_object_under_it(open_widget, qtbot):
    viewer, widget = open_widget()
    binding = widget.binding
    binding.go_to(0)
    mask = np.zeros((48, 64), bool)
    for columns in (slice(5, 20), slice(40, 60)):
        drawn = mask.copy()
        drawn[10:30, columns] = True
        binding.session.add_mask(drawn, frame=0)
    binding.select(2)
    widget.objects.pan_button.click()
    click_on_canvas(viewer, qtbot, widget, 20, 12)
    assert binding.current == 1
    click_on_canvas(viewer, qtbot, widget, 20, 50)
    assert binding.current == 2
    assert len(binding.points.data) == 0


def drag_on_canvas(viewer, qtbot, binding, *places):
    """Draw with the left button along pixels of the plane shown."""
    native = viewer.window._qt_viewer.canvas.native
    spots = [place_on_canvas(viewer, binding, *place) for place in places]
    qtbot.mouseMove(native, spots[0])
    qtbot.mousePress(native, Qt.MouseButton.LeftButton, pos=spots[0])
    for spot in spots[1:]:
        qtbot.mouseMove(native, spot)
        qtbot.wait(5)
    qtbot.mouseRelease(native, Qt.MouseButton.LeftButton, pos=spots[-1])


def test_a_line_drawn_with_the_mouse_splits_the_object_and_leaves_nothing_half_drawn(open_widget, qtbot):
    viewer, widget = open_widget()
    binding = widget.binding
    mask = np.zeros(binding.geometry.hw, bool)
    mask[14:26, 10:30] = True
    binding.session.add_mask(mask, frame=binding.current_plane)
    binding.select(1)
    widget.objects.split_object()
    drag_on_canvas(viewer, qtbot, binding, (9, 20), (13, 20), (20, 20), (27, 20), (31, 20))
    assert len(binding.session.objects) == 2
    assert len(binding.shapes.data) == 0
    assert binding.tool == "point"

    # a line beside the image is taken away, and the next one is a prompt again
    widget.objects.use_tool("scribble")
    drag_on_canvas(viewer, qtbot, binding, (-12, 2), (-9, 10), (-6, 20), (-3, 30))
    assert len(binding.shapes.data) == 0
    widget.new_object()
    drag_on_canvas(viewer, qtbot, binding, (40, 40), (40, 46), (40, 52), (40, 58))
    answered(qtbot, widget)
    assert len(binding.shapes.data) == 1
    binding.session.remove_object(binding.current)
    assert len(binding.shapes.data) == 0
    assert len(binding.session.objects) == 2


def test_a_click_cuts_the_object_where_it_is_narrowest_and_a_failed_cut_is_tried_again(open_widget, qtbot):
    viewer, widget = open_widget()
    binding = widget.binding
    mask = np.zeros(binding.geometry.hw, bool)
    mask[10:26, 5:20] = mask[10:26, 26:40] = mask[16:19, 20:26] = True  # two cells that touch
    binding.session.add_mask(mask, frame=binding.current_plane)
    binding.select(1)
    widget.objects.split_object()
    drag_on_canvas(viewer, qtbot, binding, (30, 5), (32, 12), (33, 20), (34, 30))  # beside it
    assert "does not cut" in widget.status.text
    assert binding.is_splitting
    click_on_canvas(viewer, qtbot, widget, 17, 23)
    qtbot.waitUntil(lambda: len(binding.session.objects) == 2, timeout=WAIT)
    labels = binding.session.labels[binding.current_plane]
    assert set(np.unique(labels[10:26, 5:20])) == {1}
    assert set(np.unique(labels[10:26, 26:40])) == {2}
    assert binding.tool == "point"
    assert len(binding.shapes.data) == 0


def test_a_line_that_napari_drops_ends_the_splitting_and_leaves_the_other_prompts(open_widget, qtbot):
    viewer, widget = open_widget()
    binding = widget.binding
    binding.shapes.add_paths([[[0, 20, 18], [0, 20, 24]]])
    answered(qtbot, widget)
    widget.objects.split_object()
    click_on_canvas(viewer, qtbot, widget, 44, 60)  # beside the object: begins a line
    assert binding.prompts.strokes.is_drawing
    qtbot.keyClick(viewer.window._qt_viewer.canvas.native, Qt.Key.Key_Escape)
    assert not binding.is_splitting
    assert binding.tool == "point"
    assert "nothing was split" in widget.status.text
    assert len(binding.shapes.data) == len(binding.shapes.features) == 1


def test_ctrl_click_selects_the_object_under_it_whatever_the_tool(open_widget, qtbot):
    viewer, widget = open_widget()
    binding = widget.binding
    for row, column in ((20, 21), (40, 50)):
        widget.new_object()
        mask = np.zeros(binding.geometry.hw, bool)
        mask[row - 4 : row + 5, column - 4 : column + 5] = True
        binding.session.add_mask(mask, frame=binding.current_plane, object_id=binding.current)
    for tool in ("point", "lasso", "paint"):
        widget.objects.use_tool(tool)
        for row, column, expected in ((20, 21, 1), (40, 50, 2)):
            click_on_canvas(viewer, qtbot, widget, row, column, Qt.KeyboardModifier.ControlModifier)
            qtbot.waitUntil(lambda expected=expected: binding.current == expected, timeout=WAIT)
    assert len(binding.points.data) == len(binding.shapes.data) == 0
    assert binding.tool == "paint"


def test_closing_and_opening_the_dock_gives_back_the_same_layers(open_widget, qtbot):
    viewer, widget = open_widget()
    mask = np.zeros((48, 64), bool)
    mask[10:30, 5:20] = True
    widget.binding.session.add_mask(mask, frame=0)
    widget.binding.session.flush_autosave()
    names = sorted(layer.name for layer in viewer.layers)
    widget.shut_down()
    _, again = open_widget(viewer=viewer)
    qtbot.waitUntil(lambda: again.binding is not None and len(again.binding.session.objects) == 1, timeout=WAIT)
    answered(qtbot, again)
    assert sorted(layer.name for layer in viewer.layers) == names
    assert again.sessions.offer.isHidden()
    np.testing.assert_array_equal(again.binding.labels.data[0] == 1, mask)


def test_the_brush_is_put_down_beyond_the_slices_and_taken_up_again_on_them(open_widget, qtbot):
    viewer, widget = open_widget(axis_labels=("z", "y", "x"))
    binding = widget.binding
    viewer.add_image(np.zeros((20, 48, 64), np.uint8), name="longer")
    widget.objects.use_tool("paint")
    viewer.dims.set_current_step(0, 15)
    assert binding.tool is None
    assert not widget.objects.tools["paint"].isChecked()
    click_on_canvas(viewer, qtbot, widget, 20, 21)  # napari's brush raises an error here
    widget.objects.tools["paint"].click()
    assert "z 0 to 7" in widget.status.text
    viewer.dims.set_current_step(0, 3)
    assert binding.tool == "paint"
    assert widget.objects.tools["paint"].isChecked()


def test_what_everything_found_is_corrected_by_clicks(open_widget, qtbot):
    viewer, widget = open_widget(make_movie()[0])
    task = widget.show_tab("Everything")
    assert not task.correct_button.isVisibleTo(task)
    task.min_iou.setValue(0)
    task.min_stability.setValue(0)
    task.start_button.click()
    qtbot.waitUntil(lambda: not task.is_running, timeout=WAIT)
    found = viewer.layers["cells everything"]
    assert task.correct_button.isVisibleTo(task)
    task.correct_button.click()
    qtbot.waitUntil(lambda: not widget.objects.is_starting, timeout=WAIT)
    answered(qtbot, widget)
    assert widget.tabs.currentIndex() == 0
    assert not task.correct_button.isVisibleTo(task)  # they are not started twice
    assert not found.visible
    np.testing.assert_array_equal(widget.binding.session.labels, found.data)
    click_on_canvas(viewer, qtbot, widget, 20, 15)  # a prompt, as the tool is active
    answered(qtbot, widget)
    assert len(widget.binding.points.data) == 1
