"""Labels that napari has opened as an image are told from images, and become a Labels layer in the right place."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image

from factories import make_movie
from napari_sam2 import FrameError
from napari_sam2._viewer.label_images import as_labels, looks_like_labels


def drawn(dtype=np.uint16) -> np.ndarray:
    labels = np.zeros((4, 48, 64), dtype)
    labels[1:3, 5:20, 5:20] = 3
    labels[2, 25:40, 8:30] = 7
    return labels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_labels_are_known_by_areas_of_one_value(dtype):
    image = Image(drawn(dtype), name="masks")
    assert looks_like_labels(image)
    labels = as_labels(image, [image])
    np.testing.assert_array_equal(labels.data, drawn(dtype))
    assert np.issubdtype(labels.data.dtype, np.integer)
    assert labels.name == "masks"


@pytest.mark.parametrize(
    "data",
    [
        make_movie(),
        make_movie().astype(np.uint16) * 200,
        np.where(make_movie() > 90, make_movie(), 0),  # cells that were cut out
        np.zeros((48, 64), np.uint16),
        np.full((48, 64), 700, np.uint16),
        drawn(np.float32) + 0.5,
        np.repeat(drawn(np.uint8)[1][..., None], 3, -1),
    ],
    ids=["movie", "16 bits", "background removed", "nothing", "one value", "fractions", "colours"],
)
def test_images_are_not_taken_for_labels(data):
    assert not looks_like_labels(Image(data, rgb=data.shape[-1] == 3))


def test_labels_lie_on_the_image_of_their_shape_unless_they_have_a_scale():
    cells = Image(make_movie(4), name="cells", scale=(2, 0.5, 0.5), translate=(0, 3, 4), units=("um",) * 3)
    other = Image(make_movie(3), scale=(9, 9, 9))
    plain, scaled = Image(drawn(), name="masks"), Image(drawn(), name="masks", scale=(1, 3, 3))
    assert as_labels(plain, [other, cells, plain]).scale.tolist() == [2, 0.5, 0.5]
    assert as_labels(plain, [other, cells, plain]).translate.tolist() == [0, 3, 4]
    assert as_labels(scaled, [other, cells, scaled]).scale.tolist() == [1, 3, 3]
    assert as_labels(plain, [plain]).scale.tolist() == [1, 1, 1]


def test_values_that_are_no_labels_are_refused():
    data = drawn(np.float32)
    data[3, 4, 5] = 0.5
    with pytest.raises(FrameError, match="masks"):
        as_labels(Image(data, name="masks"), [])


def test_a_binary_mask_is_split_into_its_components():
    data = (drawn(bool) * 255).astype(np.uint8)
    with pytest.warns(UserWarning, match="split into 2 connected components"):
        labels = as_labels(Image(data, name="mask"), [])
    assert set(np.unique(labels.data)) == {0, 1, 2}
