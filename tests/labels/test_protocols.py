"""Labels seen under other indices than those they are kept under."""

from __future__ import annotations

import numpy as np

from napari_sam2.labels.components import find_pieces
from napari_sam2.labels.protocols import stack_as_volumes, time_point


def test_a_stack_is_seen_as_volumes_over_time():
    stack = np.arange(6 * 4 * 5, dtype=np.int32).reshape(6, 4, 5)
    volumes = stack_as_volumes(stack, stack.shape, 3)
    assert volumes.shape == (2, 3, 4, 5)
    assert np.array_equal(volumes[1, 2], stack[5])
    volumes[1, 0] = np.zeros((4, 5), np.int32)
    assert not stack[3].any()
    assert stack[2].any()


def test_one_time_point_is_seen_as_a_stack():
    labels = np.arange(2 * 3 * 4 * 5, dtype=np.int32).reshape(2, 3, 4, 5)
    second = time_point(labels, 1)
    assert second.shape == (3, 4, 5)
    assert np.array_equal(second[2], labels[1, 2])
    second[0] = np.zeros((4, 5), np.int32)
    assert not labels[1, 0].any()


def test_pieces_touch_at_corners_or_not():
    mask = np.eye(3, dtype=bool)
    mask[0, 2] = True
    assert find_pieces(mask).areas.tolist() == [0, 4]
    assert find_pieces(mask, connectivity=4).areas.tolist() == [0, 1, 1, 1, 1]
    assert find_pieces(np.zeros((3, 3), bool)).areas.tolist() == [0]
