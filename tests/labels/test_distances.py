"""Distances inside objects."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2.labels.distances import distance_to_outline


def test_pixels_beside_an_outline_are_half_a_pixel_away():
    labels = np.zeros((7, 12), int)
    labels[:, 5:] = 1
    assert distance_to_outline(labels)[3].tolist() == [4.5, 3.5, 2.5, 1.5, 0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]


def test_touching_objects_have_an_outline_between_them():
    labels = np.ones((9, 9), int)
    labels[:, 4:] = 2
    distance = distance_to_outline(labels)
    assert distance[:, 3].tolist() == distance[:, 4].tolist() == [0.5] * 9


@pytest.mark.parametrize("shape", [(1, 1), (4, 10)])
def test_an_image_without_outlines_is_as_deep_as_half_of_its_side(shape):
    assert (distance_to_outline(np.ones(shape, int)) == max(shape) / 2).all()
