"""Which part of an image the model sees for a prompt."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2._types import Prompt
from napari_sam2.inference.views.view import View, choose_view, contains_prompt, whole_view
from napari_sam2.inference.views.view_tracking import extent_in_image

HW = (300, 400)


def test_released_models_see_the_whole_image():
    assert choose_view(Prompt([(5, 5)]), HW, None) == whole_view(HW) == View(0, 0, 400, 300)


@pytest.mark.parametrize(
    ("click", "expected"),
    [
        pytest.param((200, 150), View(137, 87, 128, 128, True), id="middle"),
        pytest.param((0, 0), View(0, 0, 128, 128, True), id="corner"),
        pytest.param((399, 299), View(272, 172, 128, 128, True), id="other-corner"),
    ],
)
def test_window_around_a_click_stays_inside_the_image(click, expected):
    view = choose_view(Prompt([click]), HW, 128)
    assert abs(view.x - expected.x) <= 1
    assert abs(view.y - expected.y) <= 1
    assert view[2:] == expected[2:]


def test_window_grows_to_hold_all_clicks_on_the_object():
    assert choose_view(Prompt([(50, 50), (250, 60)], [1, 0]), HW, 128).width == 128
    view = choose_view(Prompt([(50, 50), (250, 60)]), HW, 128)
    assert view.width > 2 * 200 - 10
    assert view.x <= 50


def test_window_around_a_box_shows_it_at_the_size_the_model_knows():
    small = choose_view(Prompt(box=(100, 100, 120, 115)), HW, 128)
    large = choose_view(Prompt(box=(100, 100, 160, 150)), HW, 128)
    assert 60 <= small.width <= 110
    assert large.width == pytest.approx(3 * small.width, abs=4)


def test_window_larger_than_a_small_image_is_the_image_made_square():
    view = choose_view(Prompt([(10, 10)]), (40, 60), 128)
    assert (view.width, view.height) == (60, 60)
    assert view.y == -10


def test_extent_of_a_mask_is_in_image_pixels():
    mask = np.zeros((64, 64), bool)
    mask[16:32, 8:24] = True
    extent = extent_in_image(mask, View(100, 200, 128, 128, True))
    assert (extent.x, extent.y, extent.side) == (131.5, 247.5, 32)
    assert extent_in_image(np.zeros((4, 4), bool), View(0, 0, 4, 4)) is None


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        pytest.param(Prompt([(10, 20), (17, 27)]), True, id="first-and-last-pixel"),
        pytest.param(Prompt([(17.4, 27.4)]), True, id="in-the-last-pixel"),
        pytest.param(Prompt([(18, 25)]), False, id="pixel-beyond-the-right-edge"),
        pytest.param(Prompt([(12, 28)]), False, id="pixel-below-the-lower-edge"),
        pytest.param(Prompt([(9, 25)]), False, id="pixel-before-the-left-edge"),
        pytest.param(Prompt(box=(10, 20, 18, 28)), True, id="box-to-the-edges"),
        pytest.param(Prompt([(18, 25)], box=(10, 20, 18, 28)), False, id="click-beside-a-box"),
        pytest.param(Prompt(box=(10, 20, 19, 28)), False, id="box-beyond-the-edges"),
    ],
)
def test_a_view_contains_the_pixels_of_clicks_and_the_edges_of_boxes(prompt, expected):
    assert contains_prompt(View(10, 20, 8, 8, True), prompt) == expected
