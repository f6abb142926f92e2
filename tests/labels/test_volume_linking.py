"""Linking labelled volumes through time."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2 import PromptError
from napari_sam2.labels.volume_linking import link_volumes


def drifting(num_times: int = 4) -> np.ndarray:
    """(T, Z, Y, X) labels: 1 drifts, 2 leaves after time 1, 3 comes at time 2, 4 is missing at time 1."""
    labels = np.zeros((num_times, 6, 30, 40), np.int32)
    for t in range(num_times):
        labels[t, 1:5, 3:13, 2 + 2 * t : 12 + 2 * t] = 1
        if t <= 1:
            labels[t, 0:4, 18:27, 2:10] = 2
        else:
            labels[t, 2:6, 18:27, 14:22] = 3
        if t != 1:
            labels[t, 1:5, 3:11, 28:36] = 4
    return labels


def test_link_without_gap_gives_a_new_number():
    labels = drifting()
    for t in range(4):
        labels[t][labels[t] > 0] += 10 * t  # each time point has numbers of its own
    kept, cut = labels.copy(), labels.copy()
    assert len(link_volumes(kept, max_gap=1).tracks) == 4
    assert len(link_volumes(cut, max_gap=0).tracks) == 5
    np.testing.assert_array_equal(kept > 0, labels > 0)


def test_two_objects_that_want_the_same_are_decided_by_the_highest_sum():
    labels = np.zeros((2, 1, 4, 20), np.int32)
    labels[0, 0, :, :10], labels[0, 0, :, 10:] = 1, 2
    labels[1, 0, :, 4:14], labels[1, 0, :, 14:] = 8, 9  # everything moves by four to the right
    report = link_volumes(labels, min_iou=0.1)
    assert [t.times for t in report.tracks] == [(0, 1), (0, 1)]
    assert (labels[1, 0, :, 4:14] == 1).all()


def test_labels_of_three_dimensions_cannot_be_linked():
    with pytest.raises(PromptError, match="T, Z, Y, X"):
        link_volumes(np.zeros((3, 20, 20), np.int32))
