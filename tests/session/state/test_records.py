"""Masks of a session: what is left of one says how good it is."""

from __future__ import annotations

import numpy as np

from napari_sam2.session.state.records import ObjectMask


def _mask(rows: slice) -> np.ndarray:
    image = np.zeros((20, 20), bool)
    image[rows] = True
    return image


def test_the_rest_of_a_mask_that_others_cover_has_a_low_iou():
    whole = ObjectMask.pack(_mask(slice(0, 10)), "prompted", iou=0.9)
    assert whole.without(_mask(slice(12, 20))) is whole
    assert whole.without(_mask(slice(0, 3))).iou == 0.9
    rest = whole.without(_mask(slice(0, 9)))
    assert rest.area == 20
    assert np.isclose(rest.iou, 0.09)
    painted = ObjectMask.pack(_mask(slice(0, 10)), "painted")
    assert np.isnan(painted.without(_mask(slice(0, 9))).iou)
