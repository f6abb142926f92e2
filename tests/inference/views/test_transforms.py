"""Image pixels to model pixels and back: windows, points, masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam2._types import Prompt
from napari_sam2.inference.views.following import MaskExtent, extent_in_image, follow
from napari_sam2.inference.views.transforms import (
    View,
    choose_view,
    image_to_model,
    masks_to_image,
    prompts_to_model,
    resample_logits,
    view_for_extent,
    whole_view,
)

CPU = torch.device("cpu")
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


@pytest.mark.parametrize("view", [View(10, 20, 64, 64, True), View(-8, -8, 80, 80, True), View(0, 0, 48, 40)])
def test_masks_come_back_to_their_place(view):
    hw = (40, 48) if not view.is_native else (100, 100)
    low = torch.full((1, 1, 16, 16), -5.0)
    low[..., 4:8, 4:12] = 5.0
    full = masks_to_image(low, view, hw)[0, 0]
    ys, xs = np.nonzero(full.numpy() > 0)
    assert xs.mean() == pytest.approx(view.x + view.width * 0.5 - 0.5, abs=1.5)
    assert ys.mean() == pytest.approx(view.y + view.height * 0.375 - 0.5, abs=1.5)


def test_pixel_centres_keep_their_place_in_a_native_window():
    image = np.zeros((100, 100, 3), np.uint8)
    image[40, 30] = 255
    view = View(20, 20, 32, 32, True)
    pixels = image_to_model(image, view, 128, device=CPU)[0, 0]
    y, x = np.unravel_index(int(pixels.argmax()), pixels.shape)
    points = prompts_to_model([Prompt([(30, 40)])], [view], 128, device=CPU).points[0, 0]
    assert abs(float(points[0]) - x) <= 1
    assert abs(float(points[1]) - y) <= 1


def test_what_lies_outside_the_image_is_black():
    image = np.full((20, 20, 3), 255, np.uint8)
    pixels = image_to_model(image, View(-10, 0, 40, 40, True), 64, device=CPU)
    black = image_to_model(np.zeros((4, 4, 3), np.uint8), View(0, 0, 4, 4), 64, device=CPU)
    assert torch.allclose(pixels[0, :, :, :12], black[0, :, :, :12])
    assert torch.allclose(pixels[0, :, 40:], black[0, :, 40:])


def test_box_corners_come_first_with_their_labels():
    prompt = prompts_to_model([Prompt([(5, 6)], box=(1, 2, 9, 10))], [View(0, 0, 10, 10)], 100, device=CPU)
    assert prompt.labels.tolist() == [[2, 3, 1]]
    assert np.allclose(prompt.points[0], [[10, 20], [90, 100], [50, 60]], rtol=1e-6)


def test_follow_stays_while_the_object_is_well_inside():
    view = View(100, 100, 128, 128, True)
    assert follow(MaskExtent(165, 160, 40), view, HW) == view
    assert follow(None, view, HW) == view


def test_follow_recentres_on_an_object_that_moves_away():
    view = View(100, 100, 128, 128, True)
    moved = follow(MaskExtent(210, 164, 40), view, HW)
    assert moved.width == 128
    assert moved.x + 64 == pytest.approx(210, abs=1)


def test_follow_zooms_on_an_object_that_grows_or_shrinks():
    view = View(100, 100, 128, 128, True)
    assert follow(MaskExtent(164, 164, 90), view, HW).width > 200
    assert follow(MaskExtent(164, 164, 5), view, HW).width < 64


def test_logits_seen_from_another_view_stay_in_place():
    source, target = View(100, 100, 128, 128, True), View(130, 120, 64, 64, True)
    logits = torch.full((1, 1, 64, 64), -5.0)
    logits[..., 20:30, 24:40] = 5.0
    full = [masks_to_image(low, view, HW)[0, 0] > 0 for low, view in (
        (logits, source), (resample_logits(logits, source, target), target))]  # fmt: skip
    assert (full[0] & full[1]).sum() / (full[0] | full[1]).sum() > 0.9
    away = resample_logits(logits, source, View(0, 0, 64, 64, True))
    assert (away < 0).all()


def test_extent_of_a_mask_is_in_image_pixels():
    mask = np.zeros((64, 64), bool)
    mask[16:32, 8:24] = True
    extent = extent_in_image(mask, View(100, 200, 128, 128, True))
    assert (extent.x, extent.y, extent.side) == (131.5, 247.5, 32)
    assert extent_in_image(np.zeros((4, 4), bool), View(0, 0, 4, 4)) is None


def test_view_is_never_larger_than_the_longer_side():
    assert view_for_extent((10, 10), 10_000, HW).width == 400
    assert view_for_extent((10, 10), 1, HW).width == 32
