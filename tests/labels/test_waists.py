"""The narrowest line through a pixel of a mask."""

from __future__ import annotations

import numpy as np

from napari_sam2.labels.waists import narrowest_chord


def test_the_chord_through_a_waist_crosses_it():
    mask = np.zeros((40, 60), bool)
    mask[10:30, 5:25] = mask[10:30, 32:55] = mask[18:21, 25:32] = True
    (x0, y0), (x1, y1) = narrowest_chord(mask, (28.2, 19.0))
    assert 3 <= np.hypot(x1 - x0, y1 - y0) <= 5
    for x, y in ((x0, y0), (x1, y1)):
        assert not mask[round(y), round(x)]


def test_at_the_edge_of_the_image_the_chord_ends_there():
    mask = np.ones((8, 30), bool)
    ends = narrowest_chord(mask, (15, 3))
    assert sorted(ends[:, 1].round(2).tolist()) == [-0.5, 7.5]


def test_outside_the_mask_there_is_no_line():
    np.testing.assert_array_equal(narrowest_chord(np.zeros((8, 8), bool), (3, 4)), [(3, 4), (3, 4)])
