"""Each pixel belongs to one of the objects that are tracked together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_sam2 import SAM2VideoSegmenter, load_model, open_frames
from napari_sam2.inference.tracking.sharing import (
    Claimant,
    SharingSettings,
    do_share,
    is_contested,
    lost_pixels,
    meeting_pairs,
)

SETTINGS = SharingSettings()


@pytest.fixture(scope="module")
def micro():
    return load_model("sam2_micro")


def bar(start: int, stop: int) -> np.ndarray:
    """(1, 20) bool, one row of pixels."""
    mask = np.zeros((1, 20), bool)
    mask[0, start:stop] = True
    return mask


def claim(mask, last, distance=4, expected=None) -> Claimant:
    return Claimant(mask, last, last if expected is None else expected, distance)


def test_only_boxes_that_overlap_are_compared():
    boxes = np.array([[0, 0, 4, 4], [5, 0, 9, 4], [3, 3, 6, 6]], float)
    assert meeting_pairs(boxes) == [(0, 2), (1, 2)]
    assert meeting_pairs(np.zeros((0, 4))) == []


def test_pixels_go_to_the_object_that_is_expected_there():
    one, other = claim(bar(0, 12), bar(0, 6)), claim(bar(3, 12), bar(6, 12))
    assert np.array_equal(lost_pixels(one, other), bar(6, 12))
    assert np.array_equal(lost_pixels(other, one), bar(3, 6))


def test_the_object_whose_prompt_is_nearer_keeps_all_its_pixels():
    near, far = claim(bar(0, 12), bar(0, 12), 2), claim(bar(0, 12), bar(12, 20), 3)
    assert do_share(near, far, SETTINGS)
    assert not lost_pixels(near, far).any()
    assert np.array_equal(lost_pixels(far, near), bar(0, 12))
    assert not is_contested(far, near, SETTINGS)


def test_objects_that_overlapped_before_keep_their_pixels():
    cell, nucleus = claim(bar(0, 12), bar(0, 12)), claim(bar(4, 8), bar(4, 8))
    assert not do_share(cell, nucleus, SETTINGS)
    assert not do_share(nucleus, cell, SETTINGS)


def test_a_tracked_object_gives_way_to_one_that_is_prompted_on_the_frame_unless_one_holds_the_other():
    prompted = Claimant(bar(0, 10), None, None, 0)
    assert do_share(claim(bar(0, 12), bar(0, 12)), prompted, SETTINGS)
    assert np.array_equal(lost_pixels(claim(bar(0, 12), bar(0, 12)), prompted), bar(0, 10))
    assert not do_share(claim(bar(2, 6), bar(2, 6)), prompted, SETTINGS)  # a nucleus in a cell
    assert not do_share(claim(bar(0, 20), bar(0, 20)), prompted, SETTINGS)  # a cell around a nucleus
    assert not do_share(prompted, claim(bar(0, 12), bar(0, 12)), SETTINGS)


def test_objects_are_contested_where_they_claim_much_of_each_other():
    one = claim(bar(0, 10), bar(0, 10))
    assert is_contested(one, claim(bar(5, 15), bar(10, 20)), SETTINGS)
    assert not is_contested(one, claim(bar(9, 19), bar(10, 20)), SETTINGS)


def crossing(num_frames: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Two cells of different size that move towards each other; the first one passes in front of the second."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:96, :160]
    image, labels = np.zeros((num_frames, 96, 160), np.float32), np.zeros((num_frames, 96, 160), int)
    for t in range(num_frames):
        plane = np.full(y.shape, 30.0)
        for i, (cy, cx, radius, grey) in enumerate(((50, 130 - 5 * t, 10, 120), (46, 30 + 5 * t, 13, 140)), 1):
            inside = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
            labels[t][inside], plane[inside] = 3 - i, grey
        image[t] = ndimage.gaussian_filter(plane, 1) + rng.normal(0, 4, y.shape)
    return image.clip(0, 255), labels


@pytest.mark.parametrize("are_shared", [True, False])
def test_cells_that_cross_keep_their_identities(micro, are_shared):
    image, labels = crossing()
    segmenter = SAM2VideoSegmenter(micro, sharing=SharingSettings(are_shared=are_shared))
    segmenter.set_video(open_frames(image, axes="TYX", contrast=(0.0, 255.0)))
    for i in (1, 2):
        y, x = np.argwhere(labels[0] == i).mean(0)
        segmenter.add_clicks(0, [(x, y)], [1], object_id=i)
    found = segmenter.track_objects()
    overlap = min(
        ((f == i) & (t == i)).sum() / ((f == i) | (t == i)).sum()
        for f, t in zip(found[-3:], labels[-3:], strict=True)
        for i in (1, 2)
    )
    assert overlap > 0.9 if are_shared else overlap < 0.7  # without it, one cell takes both
