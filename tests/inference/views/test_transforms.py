"""Image pixels to model pixels and back: windows, points, masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam2._types import Prompt
from napari_sam2.inference.views.transforms import image_to_model, masks_to_image, prompts_to_model
from napari_sam2.inference.views.view import View

CPU = torch.device("cpu")


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
