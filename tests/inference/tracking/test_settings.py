"""Settings that are given to the segmenter and the predictor change what is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from factories import make_model, make_movie
from napari_sam2._types import Prompt
from napari_sam2.frames import open_frames
from napari_sam2.inference.prompts.image_predictor import SAM2ImagePredictor
from napari_sam2.inference.tracking.claims import ClaimSettings
from napari_sam2.inference.tracking.component_filter import ComponentFilterSettings
from napari_sam2.inference.tracking.recovery import RecoverySettings
from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
from napari_sam2.inference.views.click_search import ClickSearchSettings
from napari_sam2.inference.views.view_tracking import ViewTrackingSettings
from napari_sam2.weights.loading import load_model

NUM_FRAMES = 8


@pytest.fixture(scope="module")
def micro():
    return load_model("sam2_micro")


def discs(*cells: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """A movie of discs on noise, and their labels; each has y, x, its radius, and the pixels in x per frame."""
    rng, (y, x) = np.random.default_rng(5), np.mgrid[:96, :192]
    labels = np.zeros((NUM_FRAMES, 96, 192), int)
    for t in range(NUM_FRAMES):
        for i, (cy, cx, radius, step) in enumerate(cells, 1):
            labels[t][(y - cy) ** 2 + (x - cx - step * t) ** 2 < radius**2] = i
    image = 30 + 90.0 * (labels > 0) + rng.normal(0, 6, labels.shape)
    return image.clip(0, 255).astype(np.float32), labels


def segment(model, image, labels, **settings) -> SAM2VideoSegmenter:
    """All labels of the first frame are prompts."""
    segmenter = SAM2VideoSegmenter(model, **settings)
    segmenter.set_video(open_frames(image, axes="TYX", contrast=(0.0, 255.0)))
    for i in np.unique(labels[0])[1:].tolist():
        segmenter.add_prompt(0, Prompt(mask=labels[0] == i), object_id=i)
    return segmenter


def test_click_search_changes_the_mask_of_a_click(micro):
    (image, _), found = discs((40, 40, 12, 0)), []
    for settings in (ClickSearchSettings(), ClickSearchSettings(scales=(0.5,), num_initial=1)):
        segmenter = SAM2VideoSegmenter(micro, click_search=settings)
        segmenter.set_video(image)
        in_movie = segmenter.add_prompt(0, Prompt([(40, 40)])).iou_scores
        predictor = SAM2ImagePredictor(micro, click_search=settings)
        predictor.set_image(image[0])
        found.append((in_movie, predictor.predict(Prompt([(40, 40)])).logits))
    for first, second in zip(*found, strict=True):
        assert not np.array_equal(first, second)


def test_a_narrower_view_changes_the_mask_of_a_box_on_an_image(micro):
    image, _ = discs((40, 40, 12, 0))
    logits = []
    for scale in (0.5, None):
        predictor = SAM2ImagePredictor(micro, click_search=replace(ClickSearchSettings(), narrower_scale=scale))
        predictor.set_image(image[0])
        logits.append(predictor.predict(Prompt(box=(26, 26, 54, 54))).logits)
    assert not np.array_equal(*logits)


@pytest.mark.parametrize("largest_offset", [0.15, np.inf])
def test_view_tracking_says_when_the_view_follows_an_object(micro, largest_offset):
    image, labels = discs((48, 40, 9, 2))
    segmenter = segment(micro, image, labels, view_tracking=ViewTrackingSettings(max_offset=largest_offset))
    for _ in segmenter.track_frames():
        pass
    first, last = (segmenter._objects[1].bank.at(frame).view for frame in (0, NUM_FRAMES - 1))
    assert (last.x > first.x) == np.isfinite(largest_offset)


def test_the_component_filter_says_which_specks_are_dropped():
    areas = []
    for smallest in (0.0, 0.9):
        settings = ComponentFilterSettings(min_component=smallest)
        segmenter = SAM2VideoSegmenter(make_model(native_window=24), component_filter=settings)
        segmenter.set_video(make_movie())
        areas.append(int(segmenter.add_clicks(0, [(15, 20)]).sum()))
    assert areas[0] > areas[1]


@pytest.mark.parametrize("max_missing", [RecoverySettings().max_missing, 0])
def test_recovery_says_for_how_many_frames_a_missing_object_is_looked_for(micro, max_missing):
    image, labels = discs((48, 40, 9, 0))
    image[2:5] = np.random.default_rng(0).normal(30, 6, image[2:5].shape)
    recovery = RecoverySettings(max_missing=max_missing, max_missing_for_prompt=0)
    found = segment(micro, image, labels, recovery=recovery).track_objects()
    assert found[-1].any() == (max_missing > 0)


def test_claims_that_are_settled_change_what_is_found_of_objects_that_cross(micro):
    image, labels = discs((46, 40, 12, 5), (52, 80, 10, 0))
    found = [
        segment(micro, image, labels, claims=ClaimSettings(are_settled=are_settled)).track_objects()
        for are_settled in (False, True)
    ]
    assert not np.array_equal(*found)
