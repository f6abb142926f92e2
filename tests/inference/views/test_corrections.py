"""A further click changes the mask around it, is never contradicted, and leaves the rest of the mask alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam2 import Prompt, SAM2ImagePredictor, open_frames
from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
from napari_sam2.inference.views.corrections import CorrectionSettings, honour_clicks, keep_far_from_clicks
from napari_sam2.inference.views.view import View

VIEW = View(100, 40, 128, 128, is_native=True)  # two image pixels per pixel of the mask


def disc(y, x, radius, size=64):
    yy, xx = np.ogrid[:size, :size]
    return torch.from_numpy(np.where(np.hypot(yy - y, xx - x) <= radius, 6.0, -6.0)).float()[None, None]


def click(*places):
    """A prompt from (x, y, label) in pixels of the mask."""
    points = [(VIEW.x + 2 * x + 0.5, VIEW.y + 2 * y + 0.5) for x, y, _ in places]
    return Prompt(points=points, labels=[label for _, _, label in places])


@pytest.mark.parametrize(("x", "y", "label"), [(45, 32, 1), (32, 32, 0), (38.4, 27.3, 0), (0, 0, 1), (63, 63, 1)])
def test_a_contradicted_click_is_honoured(x, y, label):
    before = disc(32, 32, 10)
    prompt = click((32, 30, 1), (x, y, label)) if (x, y) != (32, 32) else click((x, y, label))
    after = honour_clicks(before, VIEW, prompt)
    assert bool(after[0, 0, round(y), round(x)] > 0) is (label == 1)
    assert after is not before
    changed = ((after > 0) != (before > 0))[0, 0].numpy()
    rows, columns = np.nonzero(changed)
    limit = CorrectionSettings().max_radius
    assert np.hypot(rows - y, columns - x).max() <= limit


def test_masks_that_contradict_no_click_are_returned_as_they_are():
    before = disc(32, 32, 10)
    prompt = click((32, 32, 1), (50, 50, 0), (500, 32, 1))  # the last one lies outside the view
    assert honour_clicks(before, VIEW, prompt) is before


def test_a_click_changes_the_mask_as_far_as_its_outline():
    before = disc(32, 32, 10)
    after = honour_clicks(before, VIEW, click((32, 41, 0)))  # about two pixels inside the outline
    changed = (after > 0) != (before > 0)
    assert 1 <= int(changed.sum()) <= 13
    far = honour_clicks(before, VIEW, click((60, 60, 1)))
    assert int(((far > 0) != (before > 0)).sum()) <= np.pi * (CorrectionSettings().max_radius + 0.5) ** 2


def test_clicks_of_both_kinds_side_by_side_are_all_honoured():
    before = disc(32, 32, 10)
    prompt = click((32, 33, 1), (32, 31, 0), (34, 32, 0), (45, 32, 1), (44, 34, 0))
    after = honour_clicks(before, VIEW, prompt)[0, 0] > 0
    assert [bool(after[y, x]) for x, y in ((32, 33), (32, 31), (34, 32), (45, 32), (44, 34))] == [1, 0, 0, 1, 0]


def test_each_candidate_is_judged_by_itself():
    both = torch.cat((disc(32, 32, 10), disc(32, 44, 10)), 1)
    after = honour_clicks(both, VIEW, click((44, 32, 1)))
    assert torch.equal(after[:, 1], both[:, 1])
    assert after[0, 0, 32, 44] > 0


def test_what_is_far_from_the_correcting_click_stays():
    before, after = disc(32, 32, 20), disc(32, 32, 17)
    mixed = keep_far_from_clicks(after, before, VIEW, click((32, 32, 1), (50, 32, 0)))
    assert mixed[0, 0, 32, 14] > 0  # opposite: kept, although the new mask has lost it
    assert mixed[0, 0, 32, 50] < 0  # at the click: new
    assert torch.equal(mixed[0, 0, 28:36, 48:52], after[0, 0, 28:36, 48:52])


def test_a_mask_of_another_object_is_taken_as_it_is():
    before, after = disc(32, 12, 8), disc(32, 44, 8)
    assert torch.equal(keep_far_from_clicks(after, before, VIEW, click((44, 32, 1))), after)


def test_an_empty_earlier_mask_changes_nothing():
    before, after = torch.full((1, 1, 64, 64), -5.0), disc(32, 44, 8)
    assert keep_far_from_clicks(after, before, VIEW, click((44, 32, 1))) is after


@pytest.fixture(scope="module")
def clump():
    rng = np.random.default_rng(5)
    yy, xx = np.mgrid[:120, :120]
    image = np.full((120, 120), 20.0)
    for y, x in ((50, 50), (50, 66), (66, 58)):
        image[np.hypot(yy - y, xx - x) < 9] = 120
    return (image + rng.normal(0, 5, image.shape)).clip(0, 255).astype(np.uint8)


def clicks_of(seed, number):
    rng = np.random.default_rng(seed)
    points = rng.integers(30, 90, (number, 2)).astype(np.float32)
    return points, rng.integers(0, 2, number)


@pytest.mark.parametrize("seed", range(3))
def test_no_click_of_a_series_is_contradicted_in_an_image(clump, seed):
    predictor = SAM2ImagePredictor()
    predictor.set_image(clump)
    points, labels = clicks_of(seed, 5)
    labels[0] = 1
    logits = None
    for count in range(1, len(points) + 1):
        masks, scores, low = predictor.predict(
            point_coords=points[:count], point_labels=labels[:count], mask_input=logits, multimask_output=count == 1
        )
        best = int(scores.argmax())
        logits = low[best][None]
        x, y = points[count - 1].astype(int)
        assert masks[best][y, x] == labels[count - 1]


def test_no_click_of_a_series_is_contradicted_in_a_stack(clump):
    segmenter = SAM2VideoSegmenter()
    segmenter.set_video(open_frames(np.stack([clump] * 3), axes="ZYX"))
    points, labels = clicks_of(7, 5)
    labels[0] = 1
    for count in range(len(points)):
        segmenter.add_clicks(1, points[count : count + 1], labels[count : count + 1], object_id=1)
        found = segmenter.track_objects()
        x, y = points[count].astype(int)
        assert (found[1, y, x] == 1) == bool(labels[count])
