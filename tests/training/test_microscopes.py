"""Images that contrast methods form of the thickness of a specimen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_sam2.training.worlds.microscopes import CONTRAST_METHODS, form_image
from napari_sam2.training.worlds.scenes import draw_scene

_SIDE = 96


def disc_thickness(radius: float) -> np.ndarray:
    y, x = np.indices((_SIDE, _SIDE)) - _SIDE // 2
    return np.sqrt(np.maximum(1 - (y**2 + x**2) / radius**2, 0)).astype(np.float32)


def depth_of(labels: np.ndarray) -> np.ndarray:
    inside = ndimage.distance_transform_edt(labels > 0)
    return np.asarray(inside - ndimage.distance_transform_edt(labels == 0), np.float32)


@pytest.mark.parametrize("method", sorted(CONTRAST_METHODS))
def test_each_method_shows_the_object_and_leaves_the_distant_background_flat(method: str) -> None:
    image = CONTRAST_METHODS[method](np.random.default_rng(0), disc_thickness(10), 10.0)
    y, x = np.indices(image.shape) - _SIDE // 2
    distance = np.hypot(y, x)
    assert image.shape == (_SIDE, _SIDE)
    assert np.isfinite(image).all()
    assert np.ptp(image[distance < 12]) > 5 * np.std(image[distance > 40])


def test_phase_contrast_has_a_halo_of_the_other_sign() -> None:
    found = []
    for seed in range(20):
        image = CONTRAST_METHODS["phase_contrast"](np.random.default_rng(seed), disc_thickness(10), 10.0)
        background = np.median(image[:4])
        found.append((image[_SIDE // 2, _SIDE // 2] - background) * (image[_SIDE // 2, _SIDE // 2 + 12] - background))
    assert np.mean(np.array(found) < 0) > 0.6


def test_interference_contrast_is_bright_on_one_side_and_dark_on_the_other() -> None:
    image = CONTRAST_METHODS["interference_contrast"](np.random.default_rng(2), disc_thickness(10), 10.0)
    spread = image.max() - np.median(image), np.median(image) - image.min()
    assert 0.4 < spread[0] / spread[1] < 2.5


def test_images_are_equal_for_equal_seeds_and_have_the_stated_contrast() -> None:
    scene = draw_scene(np.random.default_rng(4), "packed_rods")
    images = [
        form_image(np.random.default_rng(7), scene.objects, scene.parts, scene.hosts, depth_of)[0] for _ in range(2)
    ]
    np.testing.assert_array_equal(images[0], images[1])
    assert images[0].std() == pytest.approx(0.3, abs=1e-3)


def test_a_scene_without_objects_gives_an_image() -> None:
    empty = np.zeros((_SIDE, _SIDE), np.int32)
    image, half_width = form_image(np.random.default_rng(1), empty, (), None, depth_of)
    assert np.isfinite(image).all()
    assert half_width > 0
