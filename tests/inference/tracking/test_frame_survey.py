"""Which frames count as blank, and which shifts between frames count as movements of the stage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_sam2.inference.tracking.frame_survey import FrameSurvey, Shift, ShiftSettings, is_blank


def as_rgb(plane) -> np.ndarray:
    return np.repeat(np.asarray(plane, np.uint8)[..., None], 3, -1)


def make_scene(seed: int, hw: tuple[int, int] = (128, 160)) -> np.ndarray:
    """(H, W) uint8: smooth texture and noise."""
    rng = np.random.default_rng(seed)
    texture = ndimage.gaussian_filter(rng.normal(0, 1, hw), 4)
    return (120 + 500 * texture + rng.normal(0, 8, hw)).clip(0, 255).astype(np.uint8)


class Stack:
    """Frames that count how often they are read."""

    key = "stack"

    def __init__(self, planes) -> None:
        self.planes = [as_rgb(plane) for plane in planes]
        self.shape = (len(planes), *self.planes[0].shape[:2])
        self.num_reads = 0

    def __len__(self) -> int:
        return len(self.planes)

    def __getitem__(self, frame: int) -> np.ndarray:
        self.num_reads += 1
        return self.planes[frame]


@pytest.mark.parametrize("value", [0, 37, 255])
def test_constant_frames_are_blank_with_and_without_hot_pixels(value):
    plane = np.full((64, 80), value)
    assert is_blank(as_rgb(plane))
    plane[[3, 20, 50], [7, 60, 11]] = 128
    assert is_blank(as_rgb(plane))


def test_a_small_object_on_a_constant_background_is_not_blank():
    plane = np.zeros((600, 700))
    plane[300:303, 400:402] = 20
    assert not is_blank(as_rgb(plane))


def test_noise_is_not_blank():
    assert not is_blank(as_rgb(np.random.default_rng(0).integers(0, 9, (40, 40))))


@pytest.mark.parametrize("hw", [(128, 160), (900, 700)])
@pytest.mark.parametrize("shift", [(45, -12), (-60, 0), (8, 40)])
def test_a_shift_of_the_whole_frame_is_measured(hw, shift):
    x, y = shift
    scene = make_scene(1, (hw[0] + 120, hw[1] + 120))
    planes = [scene[60 : 60 + hw[0], 60 : 60 + hw[1]], scene[60 - y :, 60 - x :][: hw[0], : hw[1]]]
    found = FrameSurvey(Stack(planes)).shift(0, 1)
    reduction = -(-max(hw) // ShiftSettings().max_side)
    assert np.allclose(found, shift, atol=reduction)


def test_frames_that_have_nothing_in_common_are_not_shifted():
    rng = np.random.default_rng(2)
    planes = [make_scene(3), make_scene(4), rng.integers(0, 60, (128, 160)), rng.integers(0, 60, (128, 160))]
    survey = FrameSurvey(Stack(planes))
    assert [survey.shift(0, t) for t in (1, 2, 3)] == [Shift(0, 0)] * 3
    assert survey.shift(2, 3) == Shift(0, 0)


def test_small_movements_and_changes_of_brightness_are_not_shifts():
    scene = make_scene(5)
    survey = FrameSurvey(Stack([scene, np.roll(scene, 1, 1), scene * 0.4, 255 - scene]))
    assert [survey.shift(0, t) for t in (1, 2, 3)] == [Shift(0, 0)] * 3


def test_shifts_are_not_measured_where_that_is_turned_off_nor_to_blank_frames():
    scene = make_scene(6)
    stack = Stack([scene, np.roll(scene, 40, 1), np.zeros_like(scene)])
    assert FrameSurvey(stack, ShiftSettings(is_measured=False)).shift(0, 1) == Shift(0, 0)
    assert FrameSurvey(stack).shift(0, 2) == Shift(0, 0)


def test_frames_are_read_once():
    scene = make_scene(7)
    stack = Stack([scene, np.roll(scene, 40, 1)])
    survey = FrameSurvey(stack)
    for _ in range(3):
        assert survey.is_usable(0)
        assert survey.shift(0, 1) == Shift(40, 0)
    assert stack.num_reads == 2
