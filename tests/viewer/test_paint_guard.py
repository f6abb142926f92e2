"""Labels layers are not painted on while a slider is beyond them."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_sam2._viewer.paint_guard import PAINT_MODES, PaintGuard


@pytest.fixture
def watched():
    viewer = ViewerModel()
    layer = viewer.add_labels(np.zeros((4, 20, 20), np.uint8), name="cells", axis_labels=("z", "y", "x"))
    viewer.add_image(np.zeros((9, 30, 40), np.uint8), name="larger")
    told = []
    guard = PaintGuard(viewer, told.append)
    yield viewer, layer, told
    guard.close()


@pytest.mark.parametrize("mode", PAINT_MODES)
def test_a_painting_mode_is_left_beyond_the_layer_and_taken_up_again_on_it(watched, mode):
    viewer, layer, told = watched
    viewer.dims.set_current_step(0, 2)
    layer.mode = mode
    viewer.dims.set_current_step(0, 4)
    assert layer.mode == "pan_zoom"
    viewer.dims.set_current_step(0, 3)
    assert layer.mode == mode
    assert told == []


def test_choosing_to_paint_beyond_the_layer_is_refused_with_its_range(watched):
    viewer, layer, told = watched
    viewer.dims.set_current_step(0, 7)
    layer.mode = "fill"
    assert layer.mode == "pan_zoom"
    assert told == ["cells has z 0 to 3, but 7 is shown; move the slider into this range to paint"]


def test_the_axes_that_count_are_those_not_displayed_now(watched):
    viewer, layer, _ = watched
    viewer.dims.set_current_step(0, 2)
    layer.mode = "paint"
    viewer.dims.set_current_step(1, 25)  # displayed, so it says nothing
    assert layer.mode == "paint"
    viewer.dims.order = (1, 0, 2)
    assert layer.mode == "pan_zoom"
    viewer.dims.order = (0, 1, 2)
    assert layer.mode == "paint"


def test_a_layer_in_front_of_which_the_sliders_lie_is_not_painted_at_its_other_end(watched):
    _, layer, _ = watched
    layer.translate = (3, 0, 0)
    layer.mode = "paint"  # napari would take -3 for the slice before the last two
    assert layer.mode == "pan_zoom"


def test_the_history_of_painting_and_a_mode_chosen_in_between_stay(watched):
    viewer, layer, _ = watched
    viewer.dims.set_current_step(0, 2)
    layer.mode = "paint"
    layer.paint((2, 5, 5), 1)
    viewer.dims.set_current_step(0, 8)
    layer.mode = "pick"
    viewer.dims.set_current_step(0, 2)
    assert layer.mode == "pick"
    layer.undo()
    assert not layer.data.any()


def test_layers_that_come_later_are_watched_and_all_have_their_modes_again_at_the_end(watched):
    viewer, _, _ = watched
    told = []
    guard = PaintGuard(viewer, told.append)
    later = viewer.add_labels(np.zeros((2, 20, 20), np.uint8))
    viewer.dims.set_current_step(0, 1)
    later.mode = "erase"
    viewer.dims.set_current_step(0, 5)
    assert later.mode == "pan_zoom"
    guard.close()
    viewer.layers.remove(later)
    assert later.mode == "erase"
