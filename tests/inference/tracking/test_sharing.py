"""Each pixel belongs to one of the objects that are tracked together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_sam2 import SAM2VideoSegmenter, load_model, open_frames
from napari_sam2.inference.tracking.claims import meeting_pairs
from napari_sam2.inference.tracking.sharing import Claimant, Placed, Shares, SharingSettings, share_pixels
from napari_sam2.inference.views.view import View

VIEW = View(0, 0, 20, 20, True)


@pytest.fixture(scope="module")
def micro():
    return load_model("sam2_micro")


def bar(start: int, stop: int) -> np.ndarray:
    """(20, 20) bool, the columns of a range."""
    mask = np.zeros((20, 20), bool)
    mask[:, start:stop] = True
    return mask


def tracked(mask: np.ndarray, last: np.ndarray, distance: int = 4) -> Claimant:
    return Claimant(Placed(mask, VIEW), distance, Placed(last, VIEW), Placed(last, VIEW))


def prompted(mask: np.ndarray) -> Claimant:
    return Claimant(Placed(mask, VIEW), 0)


def share(*claimants: Claimant) -> Shares:
    return share_pixels(claimants, SharingSettings())


def test_a_mask_is_seen_in_another_view():
    part = View(10, 0, 10, 20, True)
    seen = Placed(bar(0, 10), part).seen_in(VIEW)  # the left half of that view: columns 10 to 14 of the image
    assert np.array_equal(seen, bar(10, 15))
    assert np.array_equal(Placed(bar(10, 15), VIEW).seen_in(part), bar(0, 10))
    assert not Placed(bar(0, 5), VIEW).seen_in(part).any()


def test_only_boxes_that_overlap_are_compared():
    boxes = np.array([[0, 0, 4, 4], [5, 0, 9, 4], [3, 3, 6, 6]], float)
    assert meeting_pairs(boxes) == [(0, 2), (1, 2)]
    assert meeting_pairs(np.zeros((0, 4))) == []


def test_pixels_go_to_the_object_that_is_expected_there():
    shares = share(tracked(bar(0, 12), bar(0, 6)), tracked(bar(3, 12), bar(6, 12)))
    assert np.array_equal(shares.lost[0], bar(6, 12))
    assert np.array_equal(shares.lost[1], bar(3, 6))


def test_the_object_whose_prompt_is_nearer_keeps_all_its_pixels():
    shares = share(tracked(bar(0, 12), bar(0, 12), 2), tracked(bar(0, 12), bar(12, 20), 3))
    assert not shares.lost[0].any()
    assert np.array_equal(shares.lost[1], bar(0, 12))
    assert not shares.contested


def test_objects_that_overlapped_before_keep_their_pixels():
    assert share(tracked(bar(0, 12), bar(0, 12)), tracked(bar(4, 8), bar(4, 8))) == Shares({}, set())


def test_a_tracked_object_gives_way_to_one_that_is_prompted_on_the_frame():
    shares = share(tracked(bar(0, 12), bar(0, 12)), prompted(bar(0, 10)))
    assert list(shares.lost) == [0]
    assert np.array_equal(shares.lost[0], bar(0, 10))


@pytest.mark.parametrize("mask", [bar(2, 6), bar(0, 20)], ids=["a nucleus in a cell", "a cell around a nucleus"])
def test_a_tracked_object_keeps_its_pixels_where_it_holds_a_prompted_one_or_lies_in_it(mask):
    assert share(tracked(mask, mask), prompted(bar(0, 10))) == Shares({}, set())


def test_objects_are_contested_where_they_claim_much_of_each_other():
    assert share(tracked(bar(0, 10), bar(0, 10)), tracked(bar(5, 15), bar(10, 20))).contested == {0, 1}
    assert not share(tracked(bar(0, 10), bar(0, 10)), tracked(bar(9, 19), bar(10, 20))).contested


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
    segmenter = SAM2VideoSegmenter(micro, sharing=SharingSettings(are_shared=are_shared, largest_growth=np.inf))
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


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("largest_growth", [SharingSettings().largest_growth, np.inf])
def test_a_lone_cell_that_crosses_another_one_keeps_its_identity(micro, largest_growth, reverse):
    image, labels = crossing()
    segmenter = SAM2VideoSegmenter(micro, sharing=SharingSettings(largest_growth=largest_growth))
    segmenter.set_video(open_frames(image, axes="TYX", contrast=(0.0, 255.0)))
    start = len(labels) - 1 if reverse else 0
    y, x = np.argwhere(labels[start] == 1).mean(0)
    segmenter.add_clicks(start, [(x, y)], [1], object_id=1)
    found = segmenter.track_objects()
    end = slice(0, 3) if reverse else slice(-3, None)
    overlaps = [
        ((f == 1) & (t == 1)).sum() / ((f == 1) | (t == 1)).sum() for f, t in zip(found[end], labels[end], strict=True)
    ]
    assert min(overlaps) > 0.9 if np.isfinite(largest_growth) else max(overlaps) < 0.7
