"""Overlaps of label stacks and one-to-one matches."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2 import FrameError
from napari_sam2.labels.overlaps import PlaneOverlaps, best_matches, label_areas


def two_stacks() -> tuple[np.ndarray, np.ndarray]:
    """Object 5 ends after plane 1; object 9 begins on plane 1 and covers half of it there."""
    first, second = np.zeros((2, 3, 4, 4), int)
    first[0, :, :] = first[1, :, :] = 5
    second[1, :2], second[2] = 9, 9
    return first, second


@pytest.mark.parametrize(
    ("common_planes", "iou", "second_within", "first_within"),
    [pytest.param(False, 8 / 48, 8 / 24, 8 / 32, id="all-planes"), pytest.param(True, 0.5, 1, 0.5, id="common-planes")],
)
def test_overlap_of_a_pair(common_planes, iou, second_within, first_within):
    compared = PlaneOverlaps()
    for a, b in zip(*two_stacks(), strict=True):
        compared.add(a, b)
    pairs = compared.overlaps(common_planes=common_planes)
    assert (pairs.first_ids.tolist(), pairs.second_ids.tolist(), pairs.intersection.tolist()) == ([5], [9], [8])
    assert pairs.iou.tolist() == pytest.approx([iou])
    assert pairs.second_within_first.tolist() == pytest.approx([second_within])
    assert pairs.first_within_second.tolist() == pytest.approx([first_within])
    assert compared.areas() == ({5: 32}, {9: 24})


def test_nothing_in_common_is_no_pair():
    compared = PlaneOverlaps()
    assert len(compared.overlaps()) == 0
    compared.add(np.array([[1, 0]]), np.array([[0, 1]]))
    assert len(compared.overlaps()) == 0
    assert compared.areas() == ({1: 1}, {1: 1})


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        pytest.param(np.zeros((2, 2), int), np.zeros((2, 3), int), "shapes", id="shapes"),
        pytest.param(np.zeros((2, 2)), np.zeros((2, 2)), "integers", id="float"),
        pytest.param(np.full((2, 2), -1), np.zeros((2, 2), int), "-1", id="negative"),
    ],
)
def test_planes_that_cannot_be_compared(first, second, message):
    with pytest.raises(FrameError, match=message):
        PlaneOverlaps().add(first, second)


def test_matches_have_the_highest_sum_and_no_object_twice():
    first, second = np.array([1, 1, 2, 7]), np.array([4, 5, 4, 8])
    scores = np.array([0.6, 0.5, 0.5, 0.2])
    # greedily 1-4 (0.6) alone; 1-5 and 2-4 together are worth more
    assert best_matches(first, second, scores, 0.3) == [(1, 5, 0.5), (2, 4, 0.5)]
    assert best_matches(first, second, scores, 0.55) == [(1, 4, 0.6)]
    assert best_matches(first, second, scores, 0.9) == []


@pytest.mark.parametrize("highest", [3, 2**31 - 1], ids=["counted", "sorted"])
def test_label_areas_leave_out_background(highest):
    assert label_areas(np.array([[0, 1, highest], [1, 0, 0]], np.int32)).tolist() == [[1, 2], [highest, 1]]
