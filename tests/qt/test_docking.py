"""A widget ends with its dock, however that is closed."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import numpy as np
import psutil
import pytest
from napari.components import LayerList
from napari.settings import get_settings
from napari.utils._proxies import PublicOnlyProxy
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QLabel, QLineEdit, QVBoxLayout, QWidget

from factories import make_movie
from napari_sam2._errors import FrameError
from napari_sam2._qt.keys import SHORTCUTS
from napari_sam2._qt.main_widget import SAM2Widget
from napari_sam2._qt.propagate_section import THROUGH_TIME
from napari_sam2._viewer import binding_base
from napari_sam2._viewer.binding import ViewerBinding
from napari_sam2._viewer.image_source import seen_through
from napari_sam2.frames.display import displays_of


@pytest.fixture
def alone(make_napari_viewer, qtbot):
    """A viewer with an image, and the widget on it, in no dock."""
    viewer = make_napari_viewer(show=False)
    viewer.add_image(make_movie(), name="cells")
    widget = SAM2Widget(viewer)
    qtbot.addWidget(widget)
    qtbot.waitUntil(lambda: widget.binding is not None)
    yield viewer, widget
    widget.shut_down()


def test_the_dock_takes_all_the_height_whatever_docks_were_opened_before(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=False)
    for name in ("one", "two"):
        other = QWidget()
        QVBoxLayout(other).addWidget(QLabel(name))
        viewer.window.add_dock_widget(other, name=name, area="right")
    widget = SAM2Widget(viewer)
    viewer.window.add_dock_widget(widget, name="SAM 2", area="right")
    widget.resize(290, 700)
    widget.layout().activate()
    assert widget.pages.height() > 600
    widget.shut_down()


def test_messages_stay_in_the_tab_that_they_are_about(alone):
    _, widget = alone
    widget.undo()
    assert widget.status.text == "nothing to undo"
    widget.show_tab("Train")
    assert widget.status.text == ""


def test_the_first_click_is_advised_once(alone):
    _, widget = alone
    shown = [label for label in widget.findChildren(QLabel) if label.isVisibleTo(widget) and "lick on" in label.text()]
    assert [label.objectName() for label in shown] == ["sam2_objects_advice"]
    widget.binding.session.add_mask(np.eye(48, 64) > 0, frame=0)
    widget.objects.refresh()
    assert not shown[0].isVisibleTo(widget)


def test_advice_to_open_an_image_is_of_the_first_tab(alone, qtbot):
    viewer, widget = alone
    viewer.layers.clear()
    qtbot.waitUntil(lambda: widget.binding is None)
    assert "Open an image" in widget.status.text
    widget.show_tab("Many files")
    assert widget.status.text == ""
    widget.show_tab("Click")
    assert "Open an image" in widget.status.text


def test_what_is_said_of_the_3d_display_goes_with_it(alone):
    viewer, widget = alone
    viewer.dims.ndisplay = 3
    widget.use_box()
    assert "go back to the 2D display" in widget.status.text
    viewer.dims.ndisplay = 2
    assert widget.status.text == ""


def test_closing_the_dock_ends_the_widget(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=False)
    bound = {str(key) for key in viewer.keymap}
    viewer.add_image(make_movie(), name="cells")
    widget = SAM2Widget(viewer)
    dock = viewer.window.add_dock_widget(widget, name="SAM 2")
    qtbot.waitUntil(lambda: widget.binding is not None)
    session = widget.binding.session
    assert len({str(key) for key in viewer.keymap} - bound) == len(SHORTCUTS)

    dock.destroyOnClose()

    assert widget.binding is None
    assert {str(key) for key in viewer.keymap} == bound
    assert session.autosave_path is None
    qtbot.waitUntil(lambda: not [t for t in threading.enumerate() if t.name.startswith("napari-sam2")], timeout=60_000)
    widget.deleteLater()


def test_closing_the_viewer_while_it_tracks_ends_threads_and_keeps_what_was_said(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.add_image(make_movie(60), name="cells")
    widget = SAM2Widget(viewer)
    viewer.window.add_dock_widget(widget, name="SAM 2")
    qtbot.waitUntil(lambda: widget.binding is not None)
    binding = widget.binding
    binding.points.add([[5, 20, 25]])
    qtbot.waitUntil(lambda: (1, 5) in binding.session.store.masks, timeout=60_000)
    place = binding.session.autosave_path
    widget.propagation.propagate("both")
    told = len(notification_manager.records)

    viewer.close()

    qtbot.waitUntil(lambda: widget.binding is None)
    qtbot.waitUntil(lambda: not [t for t in threading.enumerate() if t.name.startswith("napari-sam2")], timeout=60_000)
    assert place is not None
    assert place.exists()
    place.unlink()
    assert len(notification_manager.records) == told


def test_the_window_does_not_wait_for_the_frame_that_is_computed(alone, qtbot, monkeypatch):
    _, widget = alone
    begun, may_end = threading.Event(), threading.Event()

    def track(*_):
        begun.set()
        may_end.wait(60)
        yield from ()

    monkeypatch.setattr("napari_sam2.session.engines.local_engine.LocalEngine.track", track)
    binding = widget.binding
    binding.points.add([[2, 20, 20]])
    qtbot.waitUntil(lambda: not binding.session.is_answering, timeout=60_000)
    widget.propagation.propagate("both")
    qtbot.waitUntil(begun.is_set, timeout=60_000)
    engine = weakref.ref(binding.session._engine_keeper._engine)

    began = time.monotonic()
    widget.shut_down()
    assert time.monotonic() - began < 10  # the time that a script waits
    working = {t.name for t in threading.enumerate() if t.name.startswith("napari-sam2")}
    assert working == {"napari-sam2"}  # the file is written, and free
    may_end.set()
    qtbot.waitUntil(lambda: not [t for t in threading.enumerate() if t.name.startswith("napari-sam2")], timeout=60_000)
    qtbot.waitUntil(lambda: engine() is None)


def test_the_end_of_a_run_has_no_events_handled_in_the_middle(alone, qtbot):
    _, widget = alone
    binding = widget.binding
    binding.points.add([[2, 20, 20]])
    qtbot.waitUntil(lambda: not binding.session.is_answering, timeout=60_000)
    widget.propagation.propagate("both")
    binding.session.handle.pause()
    widget.propagation._open_bar()
    bar, handled = widget.propagation._bar, []
    QTimer.singleShot(0, lambda: handled.append(True))
    binding.session.cancel()
    assert handled == []
    assert bar.disable
    qtbot.waitUntil(lambda: handled == [True])


def test_a_switch_to_another_image_says_that_it_stops_the_run(alone, qtbot):
    viewer, widget = alone
    first = widget.binding
    first.session.add_mask(np.eye(48, 64) > 0, frame=0)
    first.session.propagate(block=False)
    first.session.pause()
    assert first.session.handle.is_running
    other = viewer.add_image(make_movie(), name="other")
    widget.sessions.choose(other)
    assert widget.status.text == "the propagation of cells was stopped; finished slices are kept"
    widget.sessions.choose(first.images[0])
    assert widget.status.text == ""


def test_esc_stops_the_search_of_the_tab_that_is_shown(alone, qtbot):
    _, widget = alone
    automatic = widget.show_tab("Everything")
    automatic._start(_until_stopped)
    widget.cancel()
    qtbot.waitUntil(lambda: not automatic.is_running)
    assert automatic.state.text() == "cancelled"


def _until_stopped(context) -> None:
    while not context.should_stop():
        time.sleep(0.01)


def test_points_are_drawn_first_and_the_buttons_say_so(alone):
    viewer, widget = alone
    tools = widget.objects.tools
    assert [name for name, tool in tools.items() if tool.isChecked()] == ["point"]
    assert viewer.layers.selection.active == widget.binding.points
    widget.objects.next_tool()
    assert tools["box"].isChecked()
    assert widget.binding.shapes.mode == "add_rectangle"
    viewer.layers.selection.active = viewer.layers["cells"]
    assert not any(tool.isChecked() for tool in tools.values())
    viewer.layers.selection.active = widget.binding.points
    assert tools["point"].isChecked()
    widget.objects.pan_button.click()
    assert widget.binding.points.mode == "pan_zoom"
    assert [tool.isChecked() for tool in (*tools.values(), widget.objects.pan_button)] == [False] * 5 + [True]
    viewer.layers.remove(widget.binding.shapes)
    tools["box"].click()
    assert widget.binding.shapes in viewer.layers
    assert tools["box"].isChecked()


def test_a_new_session_on_the_image_hides_the_layers_of_the_one_before_and_says_so(alone, tmp_path):
    viewer, widget = alone
    widget.binding.session.add_mask(np.eye(48, 64) > 0, frame=0)
    before = widget.binding.layers
    widget.sessions.restart()  # as after "Mix visible channels"
    assert all(layer in viewer.layers and not layer.visible for layer in before)
    assert "the object made before is in the hidden layer cells objects" in widget.status.text
    session = widget.binding.session
    session.add_mask(np.eye(48, 64) > 0, frame=1)
    session.save(tmp_path / "mine.sam2")
    second = widget.binding.layers
    widget.sessions.open_session(str(tmp_path / "mine.sam2"))
    assert all(layer in viewer.layers and not layer.visible for layer in second)
    assert widget.sessions.kept == ()  # it would be the one to come back to
    assert "1 object opened from mine.sam2; the object made before is in the hidden layer" in widget.status.text


def open_two_channels(viewer):
    """Replace all layers by two channels of a single image."""
    viewer.layers.clear()
    single = make_movie(1)[0]
    for name in ("green", "red"):
        viewer.add_image(single, name=name, blending="additive")


def test_a_new_session_on_a_single_image_does_not_bring_the_one_before_back(alone, qtbot):
    viewer, widget = alone
    open_two_channels(viewer)
    qtbot.waitUntil(lambda: widget.binding is not None)
    widget.binding.session.add_mask(np.eye(48, 64) > 0, frame=0)
    before = widget.binding
    widget.advanced.mix_channels.setChecked(True)
    qtbot.wait(50)  # what comes with the next turns of the event loop
    assert widget.binding is not before
    assert [image.name for image in widget.binding.images] == ["red", "green"]
    assert len(widget.binding.session.frames.channels) == 2
    assert not widget.binding.session.objects
    assert not widget.sessions.offer.isVisibleTo(widget.sessions)
    assert widget.status.text.endswith("the object made before is in the hidden layer red objects")


def test_undo_on_labels_that_were_set_aside_is_not_that_of_napari(alone, qtbot):
    viewer, widget = alone
    first = widget.binding
    first.session.add_mask(np.eye(48, 64) > 0, frame=0)
    first.labels.selected_label = 1
    first.labels.data_setitem((np.array([0]), np.array([5]), np.array([30])), 1)
    assert first.labels.data[0, 5, 30] == 1
    viewer.add_image(make_movie(), name="other")
    widget.sessions.choose(viewer.layers["other"])
    viewer.layers.selection.active = first.labels
    qtbot.keyClick(viewer.window._qt_viewer, "z", Qt.KeyboardModifier.ControlModifier)
    assert np.array_equal(first.session.store.composed(0), first.labels.data[0])
    assert widget.status.text == "nothing to undo"
    viewer.layers.remove("cells")
    assert "Control-Z" not in {str(key).replace("Ctrl+", "Control-") for key in first.labels.keymap}


def test_text_fields_of_all_tabs_have_the_font_size_of_napari(alone):
    _, widget = alone
    settings = get_settings().appearance
    before = settings.font_size
    widget.show_tab("Train")
    try:
        settings.font_size = before + 5
        widget.show_tab("Many files")
        fields = [each for each in widget.findChildren(QLineEdit) if each.objectName().startswith("sam2_")]
        assert {each.font().pointSize() for each in fields} == {before + 5}
        assert {"sam2_files_inputs", "sam2_tune_output"} <= {each.objectName() for each in fields}
    finally:
        settings.font_size = before


def test_other_tabs_begin_with_the_image_that_prompts_go_to(alone, qtbot):
    viewer, widget = alone
    viewer.add_image(make_movie(), name="other")
    viewer.layers.selection.active = widget.binding.points
    everything, train = widget.show_tab("Everything"), widget.show_tab("Train")
    assert [task.image.layer.name for task in (everything, train)] == ["cells", "cells"]
    widget.sessions.choose(viewer.layers["other"])
    assert [task.image.layer.name for task in (everything, train)] == ["other", "other"]


def test_a_session_of_mixed_channels_is_restored_with_them_and_its_file_is_not_named(alone, qtbot):
    viewer, widget = alone
    open_two_channels(viewer)
    qtbot.waitUntil(lambda: widget.binding is not None)
    widget.advanced.mix_channels.setChecked(True)
    session = widget.binding.session
    session.add_mask(np.eye(48, 64) > 0, frame=0)
    assert session.flush_autosave()
    widget.sessions._restore(str(session.autosave_path))
    assert len(widget.binding.session.frames.channels) == 2
    assert widget.status.text.startswith("1 object restored")


def save_mixed(widget, path):
    """Save a session of the mixed channels red and green, and start one that sees a channel."""
    widget.advanced.mix_channels.setChecked(True)
    session = widget.binding.session
    session.add_mask(np.eye(48, 64) > 0, frame=0)
    session.save(path)
    shown = displays_of(session.frames)
    widget.advanced.mix_channels.setChecked(False)
    assert len(widget.binding.images) == 1
    return shown


@pytest.mark.parametrize("selected", ["green", "red"])
def test_a_saved_session_comes_back_with_its_channels_and_contrast_whatever_is_chosen_now(
    alone, qtbot, tmp_path, selected, recwarn
):
    viewer, widget = alone
    viewer.layers.clear()
    for name in ("green", "red"):
        image = make_movie(1, seed=len(name))[0]
        viewer.add_image(image, name=name, colormap=name, blending="additive", contrast_limits=(0, 90))
    qtbot.waitUntil(lambda: widget.binding is not None)
    saved = save_mixed(widget, tmp_path / "mixed.sam2")
    viewer.layers["green"].contrast_limits = (0, 30)
    viewer.layers["green"].visible = False
    widget.sessions.choose(viewer.layers[selected])
    widget.sessions.open_session(str(tmp_path / "mixed.sam2"))
    assert [image.name for image in widget.binding.images] == ["red", "green"]
    assert displays_of(widget.binding.session.frames) == saved
    assert widget.advanced.mixes_channels
    assert not [each for each in recwarn if "differs" in str(each.message)]


def test_a_saved_session_of_one_channel_sees_only_that_one_while_channels_are_mixed(alone, qtbot, tmp_path):
    viewer, widget = alone
    viewer.layers.clear()
    for name in ("green", "red"):
        viewer.add_image(make_movie(1, seed=len(name))[0], name=name, blending="additive")
    qtbot.waitUntil(lambda: widget.binding is not None)
    widget.sessions.choose(viewer.layers["green"])
    widget.binding.session.save(tmp_path / "green.sam2")
    widget.sessions.choose(viewer.layers["red"])
    widget.advanced.mix_channels.setChecked(True)
    widget.sessions.open_session(str(tmp_path / "green.sam2"))
    assert [image.name for image in widget.binding.images] == ["green"]
    assert not widget.advanced.mixes_channels


def test_a_session_of_mixed_channels_asks_for_those_that_are_missing(alone, qtbot, tmp_path):
    viewer, widget = alone
    open_two_channels(viewer)
    qtbot.waitUntil(lambda: widget.binding is not None)
    save_mixed(widget, tmp_path / "mixed.sam2")
    viewer.layers.remove("green")
    widget.sessions.open_session(str(tmp_path / "mixed.sam2"))
    assert widget.status.text == (
        "mixed.sam2 was made on 2 images of one shape, shown together; open the other beside red too, then the session"
    )


def test_a_session_along_another_axis_comes_back_along_it(alone, qtbot, tmp_path):
    viewer, widget = alone
    viewer.layers.clear()
    viewer.add_image(np.stack([make_movie(4), make_movie(4, seed=1), make_movie(4, seed=2)]), name="volumes")
    qtbot.waitUntil(lambda: widget.binding is not None)
    assert widget.binding.geometry.frame_axis == 1
    widget.sessions.choose_axis(0)
    session = widget.binding.session
    session.add_mask(np.eye(48, 64) > 0, frame=1)
    session.save(tmp_path / "times.sam2")
    widget.sessions.choose_axis(1)
    widget.sessions.open_session(str(tmp_path / "times.sam2"))
    assert widget.status.text.startswith("1 object opened from times.sam2")
    assert widget.binding.geometry.frame_axis == 0


def test_an_image_has_one_session_also_after_a_saved_one_was_opened_on_it_from_another_image(alone, tmp_path):
    viewer, widget = alone
    widget.binding.session.add_mask(np.eye(48, 64) > 0, frame=1)
    widget.binding.session.save(tmp_path / "mine.sam2")
    viewer.add_image(make_movie(), name="other")
    widget.sessions.choose(viewer.layers["other"])
    widget.sessions.open_session(str(tmp_path / "mine.sam2"), image=viewer.layers["cells"])
    assert [each.images[0].name for each in widget.sessions.kept] == []
    assert widget.binding.images[0].name == "cells"
    assert "the object made before is in the hidden layer cells objects" in widget.status.text


def test_keys_of_stacks_say_that_a_single_image_has_none_to_go_through(alone, qtbot):
    viewer, widget = alone
    viewer.layers.clear()
    viewer.add_image(make_movie(1)[0], name="single")
    qtbot.waitUntil(lambda: widget.binding is not None)
    for call in ("propagate_both", "propagate_forward", "propagate_backward", "divide_here", "cut_here"):
        widget.status.show_text("")
        getattr(widget, call)()
        assert widget.status.text == f"there is nothing to {call.split('_')[0]}: single is a single image"


def test_the_dock_that_is_opened_again_goes_on_with_the_image_whose_layers_are_selected(alone, qtbot):
    viewer, widget = alone
    viewer.add_image(make_movie(), name="other")
    viewer.layers.selection.active = widget.binding.points
    widget.shut_down()
    again = SAM2Widget(viewer)
    qtbot.addWidget(again)
    qtbot.waitUntil(lambda: again.binding is not None)
    assert again.binding.images[0].name == "cells"
    again.shut_down()


def test_layers_that_go_together_are_told_of_together(alone, qtbot):
    viewer, widget = alone
    told = len(notification_manager.records)
    for layer in widget.binding.layers:
        viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: len(notification_manager.records) > told)
    (notification,) = notification_manager.records[told:]
    assert [line.split(" was")[0] for line in notification.message.splitlines()] == [
        "the labels layer",
        "cells shapes",
        "cells points",
    ]
    assert not widget.sessions.show_layers_button.isHidden()
    widget.sessions.show_layers_button.click()
    assert widget.status.text == "the layers are shown again"


def test_an_object_is_renamed_from_any_tab(alone, qtbot):
    _, widget = alone
    widget.binding.new_object()
    widget.objects.refresh()
    widget.show()
    for _ in range(2):  # the second press finds the editor open
        widget.show_tab("Everything")
        widget.rename_object()
        assert widget.tabs.currentIndex() == 0
        assert widget.objects.table.findChild(QLineEdit) is not None


def test_samples_are_offered_again_when_all_images_are_removed_together(alone):
    viewer, widget = alone
    viewer.add_image(make_movie(), name="others")
    assert widget.samples.isHidden()
    viewer.layers.clear()
    assert widget.binding is None
    assert not widget.samples.isHidden()


def test_series_of_volumes_can_be_propagated_through_both_axes(alone, qtbot):
    viewer, widget = alone
    image = np.zeros((3, 4, 40, 60), np.uint8)
    layer = viewer.add_image(image, name="embryo", axis_labels=("t", "z", "y", "x"))
    widget.sessions.choose(layer)
    qtbot.waitUntil(lambda: widget.binding is not None and widget.binding.images[0] is layer)
    index = widget.axis_choice.findText("z and t, all volumes")
    widget.axis_choice.setCurrentIndex(index)
    widget.axis_choice.activated.emit(index)
    assert widget.propagation.axes == THROUGH_TIME
    assert widget.axis_choice.currentIndex() == index
    assert "z and t" in widget.facts.text()
    widget.axis_choice.activated.emit(1)
    assert not widget.propagation.axes


def test_image_and_axis_can_both_be_read_in_a_narrow_dock(alone, qtbot):
    _, widget = alone
    widget.settings_button.click()
    widget.resize(300, 900)
    widget.show()
    qtbot.waitExposed(widget)
    assert min(widget.image_choice.width(), widget.axis_choice.width()) >= 85
    assert widget.image_choice.currentText() == "cells"
    for section in (widget.image_choice.parentWidget(), *widget.sections):
        assert section.minimumSizeHint().width() <= 300, section.objectName()


def refuse_points(monkeypatch) -> None:
    """Make napari fail on the last of a session's three layers, as without OpenGL it does on the first."""
    append = LayerList.insert

    def insert(layers, index, layer):
        append(layers, index, layer)
        if type(layer).__name__ == "Points":
            raise TypeError("this window cannot draw points")

    monkeypatch.setattr(LayerList, "insert", insert)


def test_a_start_that_fails_leaves_no_layers_and_is_not_retried(make_napari_viewer, qtbot, monkeypatch):
    viewer = make_napari_viewer(show=False)
    image = viewer.add_image(make_movie(), name="cells")
    with monkeypatch.context() as patch, qtbot.captureExceptions() as raised:
        refuse_points(patch)
        widget = SAM2Widget(viewer)
        qtbot.addWidget(widget)
        qtbot.waitUntil(lambda: len(raised) > 0)
        qtbot.wait(200)
    assert [kind for kind, _, _ in raised] == [TypeError]
    raised.clear()  # the tracebacks hold the viewer
    assert list(viewer.layers) == [image]
    assert widget.binding is None
    assert not [t for t in threading.enumerate() if t.name.startswith("napari-sam2")]
    other = viewer.add_image(make_movie(), name="others")
    qtbot.waitUntil(lambda: widget.binding is not None)
    assert widget.binding.images == [other]
    widget.shut_down()


def test_a_refused_image_is_reported_once_and_may_be_chosen_again(make_napari_viewer, qtbot, monkeypatch):
    viewer = make_napari_viewer(show=False)

    def refuse(*_args, **_options):
        raise FrameError("its channels differ")

    image = viewer.add_image(make_movie(), name="cells")
    told = len(notification_manager.records)
    with monkeypatch.context() as patch:
        patch.setattr(binding_base, "open_layers", refuse)
        widget = SAM2Widget(viewer)
        qtbot.addWidget(widget)
        qtbot.waitUntil(lambda: len(notification_manager.records) > told)
        viewer.add_points(ndim=3)
        image.name = "nuclei"
        qtbot.wait(400)
    assert [each.message for each in notification_manager.records[told:]] == ["its channels differ"]
    widget.image_choice.activated.emit(0)
    assert widget.binding is not None
    widget.shut_down()


def test_closing_a_viewer_that_was_never_shown_frees_threads_widgets_and_files(
    make_napari_viewer, qtbot, monkeypatch, tmp_path
):
    monkeypatch.setenv("NAPARI_SAM2_SESSIONS", str(tmp_path))
    widgets = []
    for _ in range(2):
        viewer = make_napari_viewer(show=False)
        viewer.add_image(make_movie(), name="cells")
        widget = SAM2Widget(viewer)
        viewer.window.add_dock_widget(widget, name="SAM 2")
        qtbot.waitUntil(lambda widget=widget: widget.binding is not None)
        session = weakref.ref(widget.binding.session)
        widgets.append(weakref.ref(widget))
        viewer.close()
        assert widget.binding is None
        del widget, viewer
    qtbot.waitUntil(lambda: not [t for t in threading.enumerate() if t.name.startswith("napari-sam2")])

    def are_gone() -> bool:
        gc.collect()
        return [each() for each in (session, *widgets)] == [None] * 3

    qtbot.waitUntil(are_gone, timeout=20_000)
    held = [each.path for each in psutil.Process().open_files() if each.path.startswith(str(tmp_path))]
    assert held == []
    assert list(tmp_path.rglob("*.sam2*")) == []  # nothing was clicked: nothing is kept


def test_channels_that_the_model_does_not_see_are_named(alone, qtbot):
    viewer, widget = alone
    viewer.layers.clear()
    # as napari splits a channel axis: the lowest image has nothing below it that it could be added to
    for name, blending in (("green", "translucent_no_depth"), ("red", "additive")):
        viewer.add_image(make_movie(), name=name, blending=blending, colormap=name)
    qtbot.waitUntil(lambda: widget.binding is not None)
    assert "the model sees red only, not green; use Mix visible channels" in widget.status.text
    through_proxy = PublicOnlyProxy(viewer).layers  # as napari gives it to plugins
    (seen,) = seen_through(through_proxy["red"], list(through_proxy))
    assert seen.name == "green"


def test_nothing_is_scrolled_in_the_dock_of_a_small_window(alone, qtbot):
    from qtpy.QtWidgets import QScrollArea

    viewer, widget = alone
    viewer.layers["cells"].name = "a long name of an image from a microscope"
    mask = np.zeros((48, 64), bool)
    for number in range(12):
        mask[:] = False
        mask[4 * number : 4 * number + 3] = True
        widget.binding.session.add_mask(mask, frame=0)
    widget.objects.refresh()
    widget.resize(280, 586)  # what a window of 1066 x 651 pixels leaves
    widget.show()
    qtbot.waitExposed(widget)
    scrolled = {}
    for tab in ("Click", "Everything", "Train"):
        widget.show_tab(tab)
        qtbot.wait(50)
        (area,) = [area for area in widget.findChildren(QScrollArea) if area.isVisible()]
        scrolled[tab] = (area.horizontalScrollBar().maximum(), area.verticalScrollBar().maximum())
    assert widget.width() == 280
    assert scrolled == dict.fromkeys(scrolled, (0, 0))


def tool_of(widget):
    """The buttons that are highlighted; "pan" is the arrow."""
    objects = widget.objects
    return [name for name, each in (*objects.tools.items(), ("pan", objects.pan_button)) if each.isChecked()]


@pytest.mark.parametrize("tool", ["lasso", "pan"])
def test_the_tool_stays_whatever_image_prompts_go_to(alone, qtbot, tool):
    viewer, widget = alone
    first = widget.binding
    button = widget.objects.pan_button if tool == "pan" else widget.objects.tools[tool]
    button.click()
    other = viewer.add_image(make_movie(), name="other")
    assert tool_of(widget) == []
    widget.sessions.switch_button.click()
    assert (widget.binding.images[0], tool_of(widget)) == (other, [tool])
    viewer.layers.selection.active = first.images[0]
    widget.sessions.switch_button.click()
    assert (widget.binding, tool_of(widget)) == (first, [tool])
    assert viewer.layers.selection.active in first.layers
    widget.sessions.restart()
    assert tool_of(widget) == [tool]
    viewer.layers.remove(widget.binding.images[0])
    qtbot.waitUntil(lambda: widget.binding is not None and widget.binding.images[0] == other)
    assert tool_of(widget) == [tool]


@pytest.mark.parametrize("tool", ["box", "pan"])
def test_the_tool_comes_back_from_other_displays_and_tabs(alone, tool):
    viewer, widget = alone
    (widget.objects.pan_button if tool == "pan" else widget.objects.tools[tool]).click()
    viewer.dims.ndisplay = 3
    viewer.dims.ndisplay = 2
    assert tool_of(widget) == [tool]
    widget.show_tab("Everything")
    viewer.add_labels(np.zeros(widget.binding.geometry.shape, int))  # as a search does
    assert tool_of(widget) == []
    widget.show_tab("Click")
    assert tool_of(widget) == [tool]
    for layer in widget.binding.layers:
        viewer.layers.remove(layer)
    widget.sessions.show_layers_button.click()
    assert tool_of(widget) == [tool]


def test_the_tool_is_left_alone_while_another_image_is_offered(alone):
    viewer, widget = alone
    other = viewer.add_image(make_movie(), name="other")
    widget.show_tab("Everything")
    widget.show_tab("Click")
    assert viewer.layers.selection.active == other
    assert not widget.sessions.switch_button.isHidden()


def test_the_tool_stays_when_a_session_is_restored(alone, tmp_path):
    _, widget = alone
    widget.binding.session.add_mask(np.eye(48, 64) > 0, frame=1)
    widget.binding.session.save(tmp_path / "mine.sam2")
    widget.use_scribble()
    widget.sessions.open_session(str(tmp_path / "mine.sam2"))
    assert tool_of(widget) == ["scribble"]


def test_a_brush_that_does_not_paint_on_large_images_gives_way_to_points(alone, monkeypatch):
    viewer, widget = alone
    widget.use_brush()
    other = viewer.add_image(make_movie(), name="large")
    monkeypatch.setattr(ViewerBinding, "can_paint", False)
    widget.sessions.choose(other)
    assert tool_of(widget) == ["point"]


@pytest.mark.parametrize(("blending", "is_raised"), [("translucent_no_depth", True), ("additive", False)])
def test_the_image_that_is_switched_to_is_seen(alone, blending, is_raised):
    viewer, widget = alone
    first = widget.binding
    other = viewer.add_image(make_movie(), name="other", blending=blending)
    widget.sessions.choose(other)
    second = widget.binding
    first.images[0].visible = False
    widget.sessions.choose(first.images[0])
    assert first.images[0].visible
    groups = [[*second.images, *second.layers], [*first.images, *first.layers]]
    if is_raised:
        assert list(viewer.layers) == groups[0] + groups[1]
        widget.sessions.choose(other)
        assert list(viewer.layers) == groups[1] + groups[0]
    else:
        assert list(viewer.layers) == groups[1] + groups[0]


def make_drawn_labels():
    labels = np.zeros((8, 48, 64), np.uint16)
    labels[:, 14:27, 10:24] = 3
    return labels


def test_labels_that_napari_opened_as_an_image_are_offered_as_labels(alone):
    viewer, widget = alone
    assert widget.sessions.labels_button.isHidden()
    viewer.add_image(make_drawn_labels(), name="masks")
    assert widget.sessions.labels_button.text() == "masks holds labels: use as labels"
    widget.sessions.labels_button.click()
    assert type(viewer.layers["masks"]).__name__ == "Labels"
    assert "masks is a Labels layer now; objects can be started from it" in widget.status.text
    assert widget.sessions.labels_button.isHidden()
    assert widget.sessions.switch_button.isHidden()
    assert widget.binding.other_layers() == [viewer.layers["masks"]]


def test_labels_opened_first_leave_no_layers_of_a_session(alone, qtbot):
    viewer, widget = alone
    viewer.layers.clear()
    viewer.add_image(make_drawn_labels(), name="masks")
    qtbot.waitUntil(lambda: widget.binding is not None)
    assert not widget.sessions.labels_button.isHidden()
    viewer.add_image(make_movie(), name="cells")
    widget.sessions.switch_button.click()
    viewer.layers.selection.active = viewer.layers["masks"]
    widget.sessions.labels_button.click()
    names = ["cells", "cells objects", "cells points", "cells shapes", "masks"]
    assert sorted(layer.name for layer in viewer.layers) == names
    assert widget.binding.images[0].name == "cells"


def test_of_an_image_and_its_labels_the_image_is_taken(alone, qtbot):
    viewer, widget = alone
    viewer.layers.clear()
    viewer.add_image(make_movie(), name="cells")
    viewer.add_image(make_drawn_labels(), name="masks")
    qtbot.waitUntil(lambda: widget.binding is not None)
    assert widget.binding.images[0].name == "cells"
