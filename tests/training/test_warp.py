"""Crops show the pixels they claim to show."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_sam2.training.warp import (
    CropView,
    mean_pool,
    outside,
    sample_labels,
    sample_linear,
    smooth_field,
    spline_field,
    view_grid,
)


def make_ramp(h: int = 50, w: int = 70) -> np.ndarray:
    y, x = np.mgrid[:h, :w].astype(np.float32)
    return 2 * y + 3 * x


def test_identity_view_returns_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 255, (33, 33)).astype(np.uint8)
    ys, xs = view_grid(CropView((16.0, 16.0), 1.0), 33)
    assert np.allclose(sample_linear(image, ys, xs), image)
    assert (sample_labels(image, ys, xs) == image).all()


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(CropView((25.0, 35.0), 2.0), id="zoom"),
        pytest.param(CropView((25.0, 35.0), 2.5, angle=0.7), id="turn"),
        pytest.param(CropView((25.0, 35.0), 2.0, angle=math.pi / 2, flip=True), id="quarter-flip"),
        pytest.param(CropView((25.3, 34.6), 3.0, angle=-0.4, stretch=1.3), id="stretch"),
    ],
)
def test_linear_sampling_is_exact_on_a_ramp(view: CropView) -> None:
    ys, xs = view_grid(view, 40)
    assert np.allclose(sample_linear(make_ramp(), ys, xs), 2 * ys + 3 * xs, atol=1e-3)


def test_colour_channels_are_sampled_alike() -> None:
    image = np.stack([make_ramp(), 255 - make_ramp(), make_ramp() / 2], -1)
    ys, xs = view_grid(CropView((25.0, 35.0), 1.7, angle=0.3), 20)
    together = sample_linear(image, ys, xs)
    for channel in range(3):
        assert np.allclose(together[..., channel], sample_linear(image[..., channel], ys, xs), atol=1e-4)


def test_quarter_turn_and_flip_are_those_of_numpy() -> None:
    image = np.arange(25, dtype=np.uint8).reshape(5, 5)
    ys, xs = view_grid(CropView((2.0, 2.0), 1.0, angle=math.pi / 2), 5)
    turned = sample_labels(image, ys, xs)
    assert any((turned == np.rot90(image, k)).all() for k in (1, 3))
    ys, xs = view_grid(CropView((2.0, 2.0), 1.0, flip=True), 5)
    assert (sample_labels(image, ys, xs) == image[:, ::-1]).all()


def test_reach_holds_every_pixel_of_the_crop() -> None:
    view = CropView((25.0, 35.0), 1.5, angle=0.5, stretch=0.8)
    ys, xs = view_grid(view, 30)
    reach_y, reach_x = view.reach(30)
    assert np.abs(ys - 25).max() <= reach_y <= np.abs(ys - 25).max() + 1
    assert np.abs(xs - 35).max() <= reach_x <= np.abs(xs - 35).max() + 1


@pytest.mark.parametrize("smooth", [False, True])
def test_labels_are_zero_outside_the_image(smooth: bool) -> None:
    labels = np.full((10, 12), 7, np.uint16)
    ys, xs = view_grid(CropView((5.0, 6.0), 1.0), 40)
    found = sample_labels(labels, ys, xs, smooth=smooth)
    assert (found == 7).sum() == pytest.approx(120, abs=25)
    assert ((found == 0) == outside(ys, xs, (10, 12))).all()


def test_smooth_labels_invent_no_label() -> None:
    labels = np.array([[1, 9, 1], [9, 5, 9], [1, 9, 1]], np.int32)
    ys, xs = view_grid(CropView((1.0, 1.0), 8.0), 24)
    assert set(np.unique(sample_labels(labels, ys, xs, smooth=True))) <= {0, 1, 5, 9}


def test_smooth_labels_follow_a_diagonal_better_than_nearest() -> None:
    y, x = np.mgrid[:20, :20]
    labels = (x > y).astype(np.uint8)
    ys, xs = view_grid(CropView((9.5, 9.5), 6.0), 96)
    # the border of the coarse labels lies half a pixel right of the diagonal
    truth = xs - ys > 0.5
    errors = [(sample_labels(labels, ys, xs, smooth=s) != truth).sum() for s in (True, False)]
    assert errors[0] < 0.4 * errors[1]


def test_mean_pool_keeps_the_mean_and_removes_stripes() -> None:
    stripes = np.tile(np.array([0, 200], np.uint8), (40, 20))
    pooled = mean_pool(stripes, 2.0)
    assert pooled.mean() == pytest.approx(100, abs=1)
    assert pooled[5:-5, 5:-5].std() < 1


def test_mean_pool_of_width_one_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 255, (9, 9, 3)).astype(np.uint8)
    assert (mean_pool(image, 1.0) == image).all()


@pytest.mark.parametrize("cells", [1, 4, 40])
def test_smooth_field_has_unit_scale(cells: int) -> None:
    rng = np.random.default_rng(0)
    fields = np.stack([smooth_field(rng, (64, 96), cells) for _ in range(40)])
    assert fields.shape == (40, 64, 96)
    assert fields.dtype == np.float32
    assert fields.std() == pytest.approx(1.0, abs=0.2)
    assert abs(fields.mean()) < 0.35


def test_spline_of_equal_knots_is_flat() -> None:
    field = spline_field(np.ones((8, 9), np.float32), (50, 60))
    assert np.allclose(field, field[0, 0])
