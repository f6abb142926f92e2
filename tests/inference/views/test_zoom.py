"""Models trained on whole images look through windows: places are exact wherever the window lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from factories import make_model, make_movie
from napari_sam2 import Prompt, SAM2ImagePredictor, SAM2VideoSegmenter
from napari_sam2.network.sam2 import SAM2
from napari_sam2.weights.loading import load_model

PERIOD = 120  # a multiple of the grid on which windows of clicks lie


@pytest.fixture(scope="module")
def model() -> SAM2:
    made = make_model(follows_last_mask=False, keeps_mask=False, draws_prompts=False)
    made.config = replace(made.config, native_window=16)
    return made


def test_a_box_gives_the_same_mask_wherever_its_window_lies(model):
    tile = np.random.default_rng(0).integers(0, 255, (PERIOD, PERIOD)).astype(np.uint8)
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(np.tile(tile, (3, 4)))
    box, masks = np.array([112, 115, 123, 127], float), []
    for y, x in ((0, 0), (PERIOD, 0), (0, 2 * PERIOD), (PERIOD, PERIOD)):
        mask = predictor.predict(Prompt(box=box + np.array((x, y, x, y)))).masks[0]
        masks.append(np.roll(mask, (-y, -x), (0, 1))[:240, :240])
    assert masks[0].any()
    assert all(np.array_equal(mask, masks[0]) for mask in masks[1:])


def test_windows_of_a_tracked_object_are_native_and_lie_in_the_image(model):
    movie = np.zeros((4, 256, 384), np.uint8)
    movie[:, 96:144, 160:224] = make_movie(4, hw=(48, 64))
    segmenter = SAM2VideoSegmenter(model)
    segmenter.set_video(movie)
    segmenter.add_prompt(0, Prompt(box=(168, 108, 183, 124)))
    assert segmenter.track_objects().shape == movie.shape
    (known,) = segmenter._objects.values()
    first = known.bank.prompted[0].view
    assert first.is_native
    assert 60 < first.width < 110
    for memory in known.bank.tracked.values():
        assert memory.view.is_native
        assert memory.view.x + memory.view.width <= 384


def test_the_bundled_model_has_its_windows_with_or_without_zoom():
    assert load_model(zoom="auto").config == load_model().config
