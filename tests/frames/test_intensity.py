"""Intensities as uint8 RGB: limits, NaN, constants, gamma, colours, and single images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_sam2._errors import FrameError
from napari_sam2.frames import image_to_rgb, intensity, open_frames, percentile_limits, to_rgb_uint8
from napari_sam2.frames.intensity import parse_colours

INT_TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


@pytest.mark.parametrize("dtype", INT_TYPES)
def test_dtype_contrast_spans_the_whole_range(dtype):
    bounds = np.iinfo(dtype)
    frame = open_frames(np.array([[bounds.min, bounds.max]], dtype), contrast="dtype")[0]
    assert frame[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("size", [8, 40], ids=["computed", "looked-up"])
@pytest.mark.parametrize("dtype", [*INT_TYPES, "float16", "float32", "float64"])
@pytest.mark.parametrize("gamma", [1.0, 0.5, 2.2])
def test_shown_value_is_the_power_of_the_position_between_the_limits(dtype, gamma, size):
    plane = np.resize(np.arange(100), (size, size)).astype(dtype)
    expected = 255 * np.clip((plane.astype(float) - 10) / 70, 0, 1) ** gamma
    shown = to_rgb_uint8(plane[None], [(10, 80)], gamma)
    assert np.abs(shown[..., 1] - expected).max() <= 0.51
    assert (shown == shown[..., :1]).all()


def test_large_integers_keep_their_differences():
    plane = (2**31 + np.arange(256)).astype(np.uint32).reshape(1, 16, 16)
    assert np.array_equal(to_rgb_uint8(plane, [(2**31, 2**31 + 255)])[..., 0].ravel(), np.arange(256))


def test_nan_is_black_and_infinities_lie_beyond_the_limits():
    plane = np.array([[np.nan, -np.inf, np.inf, 0.5]], np.float32)
    assert to_rgb_uint8(plane[None], [(0, 1)])[0, :, 0].tolist() == [0, 0, 255, 128]


def test_bool_is_black_and_white():
    assert open_frames(np.array([[False, True]]))[0][0, :, 2].tolist() == [0, 255]
    assert image_to_rgb(np.array([[True, False]]))[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("value", [0, 7, -3.5, 255, 1e20, 1e300], ids=str)
def test_constant_image_is_black_without_division_by_zero(value):
    image = np.full((9, 8), value)
    low, high = percentile_limits(image)
    assert low < high
    assert not open_frames(image)[0].any()
    assert not image_to_rgb(image).any()


def test_few_bright_pixels_on_a_flat_ground_stay_visible():
    image = np.zeros((200, 200), np.uint16)
    image[3, 4] = 900
    assert percentile_limits(image) == (0, 900)
    assert open_frames(image)[0][3, 4].tolist() == [255, 255, 255]


def test_percentiles_ignore_what_is_not_finite():
    image = np.linspace(0, 1, 10_001)
    image[:100], image[-50:] = np.nan, np.inf
    low, high = percentile_limits(image)
    assert 0.01 <= low < 0.02
    assert 0.98 < high < 0.995


def test_one_rule_holds_for_the_whole_stack():
    stack = np.stack([np.full((8, 8), v, np.uint16) for v in (10, 20, 30)])
    stack[0, 0, 0], stack[2, 0, 0] = 0, 40
    frames = open_frames(stack)
    assert frames[0][4, 4, 0] < frames[1][4, 4, 0] < frames[2][4, 4, 0]


def test_channels_have_their_own_limits_and_colours_of_a_picture_share_them():
    channels = np.stack([np.arange(100).reshape(10, 10), 1000 + np.arange(100).reshape(10, 10)]).astype(np.uint16)
    (low, _), (other, _) = open_frames(channels, axes="CYX").contrast_limits
    assert low < 1
    assert other > 999
    picture = np.moveaxis(np.concatenate([channels, channels[:1]]), 0, -1)
    limits = open_frames(picture, axes="YXC").contrast_limits
    assert limits[0] == limits[1] == limits[2]


def test_all_nan_stack_is_an_error_and_an_all_nan_frame_a_single_warning():
    stack = np.full((20, 6, 6), np.nan, np.float32)
    with pytest.raises(FrameError, match="no finite value"):
        open_frames(stack)
    stack[0] = np.arange(36).reshape(6, 6)
    frames = open_frames(stack)
    with pytest.warns(UserWarning, match="only NaN"):
        assert not frames[1].any()
    assert not frames[2].any()  # a second warning would fail here
    assert frames[0].any()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_infinite_and_huge_floats_raise_no_warning(dtype):
    limit = np.finfo(dtype).max
    plane = np.array([[np.nan, np.inf, -np.inf, limit, -limit, 0]], dtype)
    assert image_to_rgb(plane).shape == (1, 6, 3)


@pytest.mark.parametrize(
    "contrast",
    ["percent", (1, 1), (5, 2), (0, np.nan), (0, 1, 2), [(0, 1), (0, 1), (0, 1)], 3, [(0, 1), 2], None],
    ids=str,
)
def test_wrong_contrast_is_an_error(contrast):
    with pytest.raises(FrameError, match="low < high"):
        open_frames(np.zeros((2, 4, 5), np.uint8), axes="CYX", contrast=contrast)


def test_contrast_may_be_given_per_channel():
    frames = open_frames(np.full((2, 4, 5), 10, np.uint8), axes="CYX", contrast=[(0, 10), (0, 20)])
    assert frames.contrast_limits == ((0, 10), (0, 20))
    assert frames[0][0, 0].tolist() == [255, 128, 255]  # magenta in full, green by half


@pytest.mark.parametrize("gamma", [0, -1, np.nan, np.inf])
def test_wrong_gamma_is_an_error(gamma):
    with pytest.raises(FrameError, match="gamma"):
        open_frames(np.zeros((4, 5), np.uint8), gamma=gamma)


@pytest.mark.parametrize(
    "colours", [["pink-ish"], ["#12345"], ["#12345g"], [(2, 0, 0)], [(1, 0)], ["red", "blue"]], ids=str
)
def test_wrong_colour_is_an_error(colours):
    with pytest.raises(FrameError, match="colour"):
        open_frames(np.zeros((4, 5), np.uint8), colours=colours)


def test_default_colours_are_those_of_a_viewer():
    assert parse_colours(None, 1).tolist() == [[1, 1, 1]]
    assert parse_colours(None, 2).tolist() == [[1, 0, 1], [0, 1, 0]]
    assert parse_colours(None, 3).tolist() == np.eye(3).tolist()


def test_sum_of_colours_is_clipped():
    planes = np.full((3, 2, 2), 200, np.uint8)
    shown = to_rgb_uint8(planes, [(0, 255)] * 3, colours=[(1, 1, 1), (1, 0, 0), (0.5, 0, 0)])
    assert shown[0, 0].tolist() == [255, 200, 200]


@pytest.mark.parametrize(
    ("planes", "limits"),
    [
        pytest.param(np.zeros((4, 4, 4)), [(0, 1)] * 4, id="four-channels"),
        pytest.param(np.zeros((4, 4)), [(0, 1)], id="no-channel-axis"),
        pytest.param(np.zeros((2, 4, 4)), [(0, 1)], id="too-few-limits"),
    ],
)
def test_planes_and_limits_must_fit(planes, limits):
    with pytest.raises(FrameError, match="expected"):
        to_rgb_uint8(planes, limits)


@pytest.mark.parametrize("num_channels", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_large_image_is_shown_block_by_block(monkeypatch, dtype, num_channels):
    """As a whole, 20,000 x 20,000 pixels kept all other threads waiting for seconds."""
    planes = np.random.default_rng(0).integers(0, 256, (num_channels, 300, 310)).astype(dtype)
    limits = [(10, 200)] * num_channels
    whole = to_rgb_uint8(planes, limits, 1.3)
    monkeypatch.setattr(intensity, "_BLOCK", 310 * 256)
    sizes = []
    part_of = intensity._between
    monkeypatch.setattr(
        intensity, "_between", lambda values, *rest: sizes.append(np.size(values)) or part_of(values, *rest)
    )
    assert np.array_equal(to_rgb_uint8(planes, limits, 1.3), whole)
    assert max(sizes) <= 310 * 256


class TestImageToRGB:
    def test_uint8_rgb_is_untouched(self):
        image = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
        assert np.array_equal(image_to_rgb(image), image)
        assert np.array_equal(image_to_rgb(np.dstack([image, image[..., 0]])), image)

    @pytest.mark.parametrize(
        "shape", [(7, 8), (7, 8, 1), (7, 8, 2), (7, 8, 3), (7, 8, 4), (1, 7, 8), (2, 7, 8), (3, 7, 8)], ids=str
    )
    @pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint32", "float32", "float64"])
    def test_takes_images_of_any_type(self, shape, dtype):
        values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
        shown = image_to_rgb(values)
        assert shown.shape == (7, 8, 3)
        assert shown.dtype == np.uint8
        assert shown.max() == 255 or (dtype == "uint8" and shape[-1] in (3, 4))

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16"])
    def test_takes_pillow_images(self, mode):
        image = Image.new(mode, (8, 7))
        assert image_to_rgb(image).shape == (7, 8, 3)

    @pytest.mark.parametrize("shape", [(5,), (9, 20, 30), (2, 3, 4, 5), ()], ids=str)
    def test_other_shapes_are_errors(self, shape):
        with pytest.raises(FrameError, match=r"\(H, W\)"):
            image_to_rgb(np.zeros(shape))

    def test_empty_and_all_nan_are_errors(self):
        with pytest.raises(FrameError, match="empty"):
            image_to_rgb(np.zeros((0, 5)))
        with pytest.raises(FrameError, match="no finite value"):
            image_to_rgb(np.full((4, 5), np.nan))

    def test_equals_the_frame_of_the_same_image(self):
        image = np.random.default_rng(0).normal(5, 2, (30, 40))
        assert np.array_equal(image_to_rgb(image), open_frames(image)[0])
