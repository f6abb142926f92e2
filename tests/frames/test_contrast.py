"""Automatic contrast: one rule for every way of opening a stack, and faults of a camera that do not count."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_sam2.frames import image_to_rgb, open_frames
from napari_sam2.frames.contrast import ContrastRule, sample_pixels
from napari_sam2.frames.display import displays_of, open_stack, show_planes, with_displays
from napari_sam2.frames.regions import ArrayRegions
from places import SHARED

FIB25 = SHARED / "data" / "dev" / "fib25_dev.npz"


def discs(num: int = 12, dtype: str = "uint16") -> np.ndarray:
    """(num, 96, 112) blurred discs of 1,300 on a background of 200, with noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :112]
    plane = np.full((96, 112), 200.0)
    plane[(y - 40) ** 2 + (x - 50) ** 2 < 200] = 1300
    plane = gaussian_filter(plane, 1)
    return np.stack([plane + rng.normal(0, 40, plane.shape) for _ in range(num)]).clip(0).astype(dtype)


def limits_of(stack: np.ndarray) -> np.ndarray:
    return np.array(open_frames(stack, axes="TYX").contrast_limits[0])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 40, 50), (5, 40, 50), (21, 33, 50)], ids=str)
def test_every_way_of_opening_a_stack_shows_the_same_frames(shape, dtype):
    stack = np.random.default_rng(0).gamma(2, 20, shape).clip(0, 255).astype(dtype)
    frames, (planes, _) = open_frames(stack, axes="ZYX"), open_stack(stack, None, None)
    for t in range(len(stack)):
        np.testing.assert_array_equal(frames[t], planes[t])
    whole = slice(0, shape[1]), slice(0, shape[2])
    np.testing.assert_array_equal(ArrayRegions(stack[0]).read(*whole), image_to_rgb(stack[0]))
    np.testing.assert_array_equal(image_to_rgb(stack[0]), open_frames(stack[0], axes="YX")[0])


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_colours_of_more_than_eight_bits_too(dtype):
    stack = np.random.default_rng(0).gamma(2, 900, (9, 30, 40, 4)).astype(dtype)
    frames, (planes, _) = open_frames(stack, axes="ZYXC"), open_stack(stack, None, is_rgb=True)
    np.testing.assert_array_equal(frames[4], planes[4])
    np.testing.assert_array_equal(ArrayRegions(stack[0]).read(slice(0, 30), slice(0, 40)), image_to_rgb(stack[0]))


@pytest.mark.skipif(not FIB25.is_file(), reason="the shared data are not here")
def test_electron_microscopy_is_shown_the_same_by_frames_and_by_planes():
    stack = np.load(FIB25)["image"][:20, :128, :128]
    frames, (planes, _) = open_frames(stack, axes="ZYX"), open_stack(stack, None, None)
    assert all(np.array_equal(frames[t], planes[t]) for t in range(20))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda frame: 65535, id="white"),
        pytest.param(lambda frame: np.minimum(frame * 4.0, 65535), id="four-times-as-bright"),
        pytest.param(lambda frame: frame + 5000, id="lamp"),
        pytest.param(lambda frame: 60000 + frame // 10, id="nearly-white"),
        pytest.param(lambda frame: np.where(np.arange(112) < 50, 65535, frame), id="half-white"),
        pytest.param(lambda frame: 0, id="dead"),
        pytest.param(lambda frame: frame // 100, id="nearly-dead"),
    ],
)
@pytest.mark.parametrize("num", [3, 12, 40])
@pytest.mark.parametrize("first", [True, False], ids=["first", "middle"])
def test_one_damaged_frame_does_not_change_the_contrast(num, damage, first):
    stack = discs(num)
    expected = limits_of(stack)
    sampled = np.linspace(0, num - 1, min(num, 8)).round().astype(int)
    stack[sampled[0 if first else 1]] = damage(stack[0])
    assert np.abs(limits_of(stack) - expected).max() < 40


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda frame: frame * 1.7, id="1.7-times-as-bright"),
        pytest.param(lambda frame: frame * 6.0, id="six-times-as-bright"),
        pytest.param(lambda frame: frame + 5000.0, id="lamp"),
    ],
)
def test_a_frame_that_is_brighter_as_a_whole_shows_its_objects_like_the_others_however_it_is_opened(damage):
    stack = discs().astype(np.float32)
    stack[4] = damage(stack[4])
    frames, (planes, _) = open_frames(stack, axes="TYX"), open_stack(stack, None, None)
    usual, odd = frames[3].astype(int), frames[4].astype(int)
    assert abs((odd > 128).mean() - (usual > 128).mean()) < 0.002  # the disc has its size
    again = open_frames(stack, axes="TYX", contrast=frames.contrast)
    copied = with_displays(planes, displays_of(planes))
    for t in range(len(stack)):
        for other in (planes, again, copied, show_planes(stack)):
            np.testing.assert_array_equal(frames[t], other[t])
    rows, columns = slice(20, 50), slice(10, 90)
    for parts in (frames, planes, show_planes(stack), again):
        np.testing.assert_array_equal(parts.region(4, rows, columns), frames[4][rows, columns])


@pytest.mark.parametrize("is_given", [True, False])
def test_a_frame_that_is_brighter_as_a_whole_has_its_own_limits_if_the_usual_brightness_is_given(is_given):
    stack = discs().astype(np.float32)
    stack[4] *= 6
    automatic = open_frames(stack, axes="TYX")
    (shown,) = displays_of(show_planes(stack))
    planes = show_planes(stack, limits=[shown.limits], usual=[shown.usual] if is_given else None)
    np.testing.assert_array_equal(planes[3], automatic[3])
    assert np.array_equal(planes[4], automatic[4]) == is_given


def test_only_frames_that_are_brighter_as_a_whole_have_limits_of_their_own():
    stack = discs(12, "float32")
    stack[4, 20:30, 60:80] = 9000  # a bright object
    stack[5] = 60000  # white
    stack[6] *= 1.2
    stack[7] *= 0.3
    frames = open_frames(stack, axes="TYX")
    given = open_frames(stack * np.float32(1), axes="TYX", contrast=frames.contrast_limits)
    for t in range(len(stack)):
        np.testing.assert_array_equal(frames[t], given[t])
    stack[5], stack[8] = stack[6], 4 * stack[8]  # one such frame of twelve
    odd = open_frames(stack, axes="TYX")
    assert not np.array_equal(odd[8], open_frames(stack, axes="TYX", contrast=odd.contrast_limits)[8])


@pytest.mark.parametrize("share", [0.0005, 0.002, 0.004])
@pytest.mark.parametrize("num", [1, 12])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_hot_pixels_do_not_change_the_contrast(share, num, dtype):
    stack = discs(num, dtype)
    expected = limits_of(stack)
    hot = np.random.default_rng(1).choice(stack[0].size, round(share * stack[0].size), replace=False)
    stack.reshape(num, -1)[:, hot] = 65535
    assert np.abs(limits_of(stack) - expected).max() < 40


@pytest.mark.parametrize("top", [60, 160, 200])
def test_hot_pixels_at_the_top_of_a_type_do_not_change_the_contrast(top):
    rng = np.random.default_rng(0)
    scene = gaussian_filter(rng.normal(size=(256, 256)), 3)
    plane = np.rint((scene - scene.min()) / np.ptp(scene) * top).astype(np.uint8)
    with_hot = plane.copy()
    with_hot[rng.random(plane.shape) < 0.002] = 255
    np.testing.assert_allclose(limits_of(with_hot[None]), limits_of(plane[None]), atol=0.03 * top)


def test_spots_as_small_as_light_allows_and_single_photons_are_no_hot_pixels():
    rng = np.random.default_rng(0)
    spots = np.zeros((256, 256))
    spots[rng.integers(0, 256, 90), rng.integers(0, 256, 90)] = 1
    spots = 9000 * gaussian_filter(spots, 1) + rng.normal(100, 10, spots.shape)
    photons = rng.poisson(0.1, spots.shape)
    for image in (spots.astype(np.uint16), photons.astype(np.uint16)):
        np.testing.assert_allclose(limits_of(image[None])[1], np.percentile(image, 99.9), rtol=0.02)


def test_dead_pixels_on_a_dark_background_do_not_change_the_contrast():
    rng = np.random.default_rng(0)
    plane = (1500 * discs(1)[0].astype(np.float64) / 1300 - 200 + rng.normal(0, 10, (96, 112))).astype(np.int16)
    with_dead = plane.copy()
    with_dead[rng.random(plane.shape) < 0.002] = -600
    np.testing.assert_allclose(limits_of(with_dead[None]), limits_of(plane[None]), atol=40)


def test_hot_pixels_on_a_dead_background_leave_no_trace():
    image = np.zeros((100, 100), np.uint16)
    image[20:60, 20:60] = np.random.default_rng(0).integers(50, 100, (40, 40))
    image[5::20, 5::20] = 4095
    assert limits_of(image[None])[1] < 101


def test_frames_that_hold_the_only_objects_count():
    """A thin cell lies in one plane of five, a small organism in a sixth of the planes."""
    thin = np.random.default_rng(0).normal(200, 40, (5, 96, 112)).clip(0).astype(np.uint16)
    thin[2] = discs(1)[0]
    assert limits_of(thin)[1] > 1200
    sparse = np.random.default_rng(0).normal(200, 40, (48, 96, 112)).clip(0).astype(np.uint16)
    sparse[20:28] = discs(8)
    assert limits_of(sparse)[1] > 1200


def test_a_stack_that_fades_keeps_its_brightest_planes():
    stack = (discs(16) * np.linspace(1, 0.1, 16)[:, None, None]).astype(np.uint16)
    assert limits_of(stack)[1] > 1200


def test_a_stack_whose_brightness_alternates_uses_all_frames():
    stack = (discs(12) * np.where(np.arange(12) % 2, 0.4, 1.0)[:, None, None]).astype(np.uint16)
    low, high = limits_of(stack)
    assert low < 100
    assert high > 1200


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_frames_without_values_do_not_count(value):
    stack = discs(12, "float32")
    expected = limits_of(stack)
    stack[5:7] = value
    assert np.abs(limits_of(stack) - expected).max() < 40


def test_a_movie_that_is_nan_on_most_frames_is_shown_by_the_others():
    movie = np.full((40, 20, 20), np.nan, np.float32)
    movie[17] = np.linspace(100, 900, 400).reshape(20, 20)
    assert open_frames(movie).contrast_limits[0] == pytest.approx((100, 900), abs=10)
    assert show_planes(movie).channels[0].limits == pytest.approx((100, 900), abs=10)


def test_a_stack_without_finite_values_is_searched_on_a_limited_number_of_frames():
    class Nothing:
        frames_shape = (50_000, 16, 16)
        num_channels = 1
        num_read = 0

        def read(self, t: int, rows: slice, columns: slice) -> np.ndarray:
            self.num_read += 1
            return np.full((1, rows.stop - rows.start, columns.stop - columns.start), np.nan, np.float32)

    source, rule = Nothing(), ContrastRule()
    sample = sample_pixels(source, rule)
    assert len(sample) == rule.max_frames
    assert source.num_read <= rule.max_frames + rule.max_searched
