"""Where the mouse rests, the session looks before it is clicked; afterwards the viewer is let go."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from qtpy.QtCore import QObject

from napari_sam2._qt.looking_ahead import LookingAhead


@pytest.fixture
def looked(binding, monkeypatch):
    """The places that the session was to look at."""
    places = []
    monkeypatch.setattr(binding.session, "look_ahead", lambda plane, point: places.append((plane, point)))
    return places


def _move_mouse(binding, *position: float, pressed: tuple[int, ...] = ()) -> None:
    binding.viewer.cursor.position = position
    for callback in binding.viewer.mouse_move_callbacks:
        callback(binding.viewer, SimpleNamespace(buttons=pressed))


def test_it_looks_where_the_mouse_rests_once_per_rest(binding, qtbot, looked):
    owner = QObject()
    ahead = LookingAhead(binding.viewer, lambda: binding, owner)
    for x in (10, 20, 30):
        _move_mouse(binding, 0, 12, x)
    qtbot.waitUntil(lambda: bool(looked))
    qtbot.wait(150)
    assert looked == [(binding.current_plane, (12.0, 30.0))]
    _move_mouse(binding, 0, 5, 5, pressed=(1,))  # drawing is no rest
    qtbot.wait(150)
    assert len(looked) == 1
    ahead.stop()


def test_it_looks_at_the_middle_of_the_window_on_a_new_frame_while_the_mouse_is_elsewhere(binding, qtbot, looked):
    owner = QObject()
    ahead = LookingAhead(binding.viewer, lambda: binding, owner)
    binding.viewer.cursor.position = (0, -900, 4)
    binding.viewer.scene.camera.center = (0, 20, 31)
    binding.go_to(3)
    qtbot.waitUntil(lambda: bool(looked))
    assert looked == [(3, (20.0, 31.0))]
    ahead.stop()


def test_stopped_it_hears_nothing(binding, qtbot, looked):
    owner = QObject()
    callbacks, slots = len(binding.viewer.mouse_move_callbacks), len(binding.viewer.dims.events.current_step.callbacks)
    ahead = LookingAhead(binding.viewer, lambda: binding, owner)
    ahead.begin()
    ahead.stop()
    assert len(binding.viewer.mouse_move_callbacks) == callbacks
    assert len(binding.viewer.dims.events.current_step.callbacks) == slots
    qtbot.wait(150)
    assert not looked


def test_without_an_image_nothing_happens(binding, qtbot, looked):
    owner = QObject()
    ahead = LookingAhead(binding.viewer, lambda: None, owner)
    _move_mouse(binding, 0, 12, 10)
    qtbot.wait(150)
    assert not looked
    ahead.stop()
