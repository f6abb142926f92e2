"""Image pixels to model pixels and back: windows, points, masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam2._types import Prompt
from napari_sam2.inference.views.transforms import image_to_model, masks_to_image, not_mirrored, prompts_to_model
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


def test_a_mirrored_view_of_an_image_is_the_view_of_the_mirrored_image():
    image = np.random.default_rng(3).integers(0, 255, (40, 40, 3), np.uint8)
    upright = View(4, 8, 20, 20, is_native=True)
    opposite = View(40 - 4 - 20, 8, 20, 20, is_native=True)  # the same part of the mirrored image
    mirrored = upright._replace(is_mirrored=True)
    shown = [image_to_model(np.ascontiguousarray(rgb), view, 64, device=CPU)
             for rgb, view in ((image, mirrored), (image[:, ::-1], opposite))]  # fmt: skip
    torch.testing.assert_close(*shown)
    low = np.random.default_rng(4).normal(size=(16, 16)).astype(np.float32)
    marked = np.zeros((40, 40), bool)
    marked[10:20, 6:12] = True
    for one, other, given in (
        (Prompt([(7, 9)], box=(5, 9, 15, 21)), Prompt([(32, 9)], box=(25, 9, 35, 21)), None),
        (Prompt([(7, 9)]), Prompt([(32, 9)]), low),
        (Prompt(mask=marked), Prompt(mask=np.ascontiguousarray(marked[:, ::-1])), None),
    ):
        first = prompts_to_model([one], [mirrored], 64, device=CPU, mask_inputs=[given])
        turned = None if given is None else np.ascontiguousarray(given[:, ::-1])
        second = prompts_to_model([other], [opposite], 64, device=CPU, mask_inputs=[turned])
        for name in ("points", "labels", "mask"):
            each, same = getattr(first, name), getattr(second, name)
            assert (each is None) == (same is None)
            if each is not None:
                torch.testing.assert_close(each, same)


def test_masks_of_mirrored_views_are_turned_back():
    logits = torch.arange(24.0).reshape(2, 1, 3, 4)
    views = [View(0, 0, 8, 8, is_native=True), View(0, 0, 8, 8, is_native=True, is_mirrored=True)]
    found = not_mirrored(logits, views)
    assert torch.equal(found[0], logits[0])
    assert torch.equal(found[1], logits[1].flip(-1))
