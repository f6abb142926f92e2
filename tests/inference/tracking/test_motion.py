"""Where objects are expected, and that the view and the last mask go there."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_sam2 import open_frames
from napari_sam2._types import Prompt
from napari_sam2.inference.tracking.frame_survey import ShiftSettings
from napari_sam2.inference.tracking.motion import MotionSettings, predict_motion, predict_position
from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
from napari_sam2.inference.views.view import View
from napari_sam2.weights.loading import load_model

SETTINGS = MotionSettings(is_predicted=True)


def test_a_steady_object_is_expected_to_go_on_and_one_at_rest_to_stay():
    frames = range(6)
    steady = predict_position(frames, [(10.0 + 8 * t, 50.0 - 4 * t) for t in frames], 6, 20.0, SETTINGS)
    assert steady[:2] == pytest.approx((58, 26), abs=1)
    rest = predict_position(frames, [(10.0, 50.0)] * 6, 6, 20.0, SETTINGS)
    assert rest[:2] == pytest.approx((10, 50))
    backwards = predict_position([9, 8, 7], [(10.0, 5.0), (14.0, 5.0), (18.0, 5.0)], 6, 20.0, SETTINGS)
    assert 20 < backwards.x < 23


def test_nothing_is_expected_from_one_frame_and_spread_grows_with_missing_ones():
    first = predict_position([0], [(10.0, 50.0)], 1, 20.0, SETTINGS)
    later = predict_position([0], [(10.0, 50.0)], 4, 20.0, SETTINGS)
    assert first[:2] == later[:2] == (10.0, 50.0)
    assert later.spread > 2 * first.spread


def moving_masks(step: int) -> tuple[list[np.ndarray], list[View]]:
    """A square of 16 pixels at the same place of views that move."""
    mask = np.zeros((32, 32), bool)
    mask[12:20, 12:20] = True
    return [mask] * 4, [View(40 + step * t, 30, 64, 64, True) for t in range(4)]


@pytest.mark.parametrize(("step", "is_carried"), [(2, False), (8, True)])
def test_only_movements_that_are_long_for_the_object_count(step, is_carried):
    masks, views = moving_masks(step)
    motion = predict_motion(range(4), masks, views, 4, SETTINGS)
    assert motion.side == 16
    assert motion.last_area == 256
    offset = motion.offset(SETTINGS)
    assert offset == pytest.approx((step, 0), abs=1) if is_carried else offset == (0, 0)
    assert motion.offset(MotionSettings(is_predicted=False)) == (0, 0)


def test_a_cell_that_moves_by_more_than_half_its_width_is_followed():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:72, :160]
    centres = [20 + 1.5 * t + t**2 for t in range(9)]  # faster and faster, at last by 17 of its 16 pixels
    labels = np.stack([(y - 36) ** 2 + (x - cx) ** 2 < 64 for cx in centres])
    image = np.stack([ndimage.gaussian_filter(30 + 90.0 * plane, 1) + rng.normal(0, 5, y.shape) for plane in labels])
    scores = {}
    for is_predicted in (False, True):
        segmenter = SAM2VideoSegmenter(
            load_model("sam2_micro"),
            motion=MotionSettings(is_predicted=is_predicted),
            shifts=ShiftSettings(is_measured=False),
        )
        segmenter.set_video(open_frames(image.clip(0, 255).astype(np.float32), axes="TYX", contrast=(0.0, 255.0)))
        segmenter.add_prompt(0, Prompt(mask=labels[0]))
        found = segmenter.track_objects() == 1
        scores[is_predicted] = [(a & b).sum() / (a | b).sum() for a, b in zip(found, labels, strict=True)]
    assert min(scores[True]) > 0.8
    assert min(scores[False]) < 0.1
