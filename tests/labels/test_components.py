"""Stray pixels of a mask are dropped; real components stay."""

from __future__ import annotations

import numpy as np

from napari_sam2.labels.components import without_specks


def test_specks_go_and_components_stay():
    mask = np.zeros((60, 80), bool)
    mask[10:30, 10:30] = True  # 400 pixels
    mask[40:50, 60:70] = True  # 100: a component of its own
    mask[5, 70:74] = True  # 4: a speck
    cleaned = without_specks(mask, 0.05)
    assert mask[5, 70]
    assert not cleaned[5].any()
    assert cleaned.sum() == 500
    assert without_specks(mask, 0) is mask


def test_components_that_touch_at_a_corner_are_one():
    mask = np.zeros((10, 10), bool)
    mask[2:6, 2:6] = True
    mask[6, 6] = True
    assert without_specks(mask, 0.05) is mask
    assert not without_specks(np.zeros((4, 4), bool), 0.05).any()
