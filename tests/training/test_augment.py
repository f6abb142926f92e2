"""Changes of appearance leave geometry alone and are the same for all frames of a clip."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2.training.augment import AugmentConfig, augment_frames

CHANGES = (
    "contrast",
    "gamma",
    "invert",
    "blur",
    "light",
    "noise",
    "tint",
    "to_grey",
    "colour_mix",
    "flicker",
    "coarse",
)
OFF = dict.fromkeys(("plain", *CHANGES), 0.0)


def make_frames(shape: tuple[int, ...] = (3, 32, 32)) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


def only(**over: float) -> AugmentConfig:
    return AugmentConfig(**{**OFF, **over})


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 32, 32), (1, 32, 32, 3), (3, 32, 32, 3)])
def test_result_is_rgb_bytes(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        out = augment_frames(make_frames(shape), rng)
        assert out.shape == (*shape[:3], 3)
        assert out.dtype == np.uint8


@pytest.mark.parametrize("config", [AugmentConfig(plain=1.0), only()], ids=["plain", "all-off"])
def test_nothing_drawn_changes_nothing(config: AugmentConfig) -> None:
    frames = make_frames()
    out = augment_frames(frames, np.random.default_rng(0), config)
    assert np.abs(out[..., 0] - frames).max() <= 1.0
    assert (out[..., 0] == out[..., 2]).all()


def test_input_is_not_written_to() -> None:
    frames = make_frames()
    before = frames.copy()
    rng = np.random.default_rng(0)
    for _ in range(20):
        augment_frames(frames, rng)
    assert (frames == before).all()


@pytest.mark.parametrize("name", [n for n in OFF if n not in ("noise", "flicker", "plain", "coarse")])
def test_equal_frames_stay_equal(name: str) -> None:
    rgb = name in ("to_grey", "colour_mix")
    frames = np.repeat(make_frames((1, 32, 32, 3) if rgb else (1, 32, 32)), 4, axis=0)
    out = augment_frames(frames, np.random.default_rng(1), only(**{name: 1.0}))
    assert (out == out[:1]).all()
    assert (out != augment_frames(frames, np.random.default_rng(1), only())).any()


def test_inversion_turns_grey_around() -> None:
    frames = make_frames()
    out = augment_frames(frames, np.random.default_rng(0), only(invert=1.0))
    assert np.abs(out[..., 0] - (255 - frames)).max() <= 2


def test_colour_images_are_not_inverted() -> None:
    frames = make_frames((1, 32, 32, 3))
    out = augment_frames(frames, np.random.default_rng(0), only(invert=1.0))
    assert np.abs(out - frames).max() <= 2


def test_noise_differs_between_frames() -> None:
    frames = np.full((2, 32, 32), 128, np.float32)
    out = augment_frames(frames, np.random.default_rng(0), only(noise=1.0))
    assert (out[0] != out[1]).any()


def test_flicker_changes_brightness_through_time() -> None:
    frames = np.full((6, 8, 8), 128, np.float32)
    out = augment_frames(frames, np.random.default_rng(0), only(flicker=1.0))
    assert len(np.unique(out[:, 0, 0, 0])) > 2


def test_outside_stays_black() -> None:
    black = np.zeros((3, 32, 32), bool)
    black[:, :5] = True
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert (augment_frames(make_frames(), rng, black=black)[:, :5] == 0).all()


@pytest.mark.parametrize("shape", [(2, 64, 64), (2, 64, 64, 3)])
def test_coarse_pixels_make_noise_that_spans_several_pixels(shape: tuple[int, ...]) -> None:
    flat = np.full(shape, 100, np.float32)
    grains = []
    for seed in range(12):
        grey = augment_frames(flat, np.random.default_rng(seed), only(coarse=1.0))[..., 1].astype(float)
        noise = grey - grey.mean()
        if noise.std() > 2:
            assert not (noise[0] == noise[1]).all()
            grains.append((noise[:, :, 1:] * noise[:, :, :-1]).mean() / noise.var())
    assert len(grains) > 4
    assert np.median(grains) > 0.3  # neighbours are alike; for noise of single pixels this is 0
