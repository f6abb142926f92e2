"""Random appearance of training clips: contrast, noise, blur, light, colour; one draw for all frames of a clip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from napari_sam2.training.warp import smooth_field

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AugmentConfig", "augment_frames"]

LEVELS = 1024
_COARSENESS = (1.3, 5.0)  # crop pixels per pixel of a coarse camera
_COARSE_NOISE_SHARE = 0.85  # of coarse clips


@dataclass(frozen=True)
class AugmentConfig:
    """How often each change of appearance is drawn, as probabilities.

    Attributes
    ----------
    plain : float
        Clips left as they are, so that clean images stay in.
    contrast, gamma, invert, blur, light, noise : float
        Clipping of dark and bright ends; power law; negative; Gaussian blur; uneven illumination; photon and
        read-out noise. Inversion applies to greyscale only.
    tint : float
        Greyscale shown in a colour.
    to_grey, colour_mix : float
        RGB reduced to greyscale; channels mixed and saturation changed.
    flicker : float
        Clips of several frames with brightness that jumps or fades.
    coarse : float
        Clips as a camera with larger pixels sees them, enlarged, noise and all: small images and small objects are
        shown to the network so.
    """

    plain: float = 0.15
    contrast: float = 0.6
    gamma: float = 0.6
    invert: float = 0.2
    blur: float = 0.2
    light: float = 0.2
    noise: float = 0.5
    tint: float = 0.12
    to_grey: float = 0.2
    colour_mix: float = 0.5
    flicker: float = 0.4
    coarse: float = 0.25


def augment_frames(
    frames: NDArray[np.float32],
    rng: np.random.Generator,
    config: AugmentConfig | None = None,
    *,
    black: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Change the appearance of a clip.

    Parameters
    ----------
    frames : numpy.ndarray
        (T, S, S) greyscale or (T, S, S, 3) RGB, float32, 0 to 255.
    rng : numpy.random.Generator
        Source of randomness.
    config : AugmentConfig, optional
        Probabilities; the defaults if not given.
    black : numpy.ndarray, optional
        (T, S, S) bool, pixels outside the image: always black, as in prediction.

    Returns
    -------
    numpy.ndarray
        (T, S, S, 3) uint8 RGB.
    """
    config = config or AugmentConfig()
    rgb = _to_rgb(frames if rng.random() < config.plain else _changed(frames, rng, config))
    if black is not None:
        rgb[black] = 0
    return rgb


def _changed(frames: NDArray[np.float32], rng: np.random.Generator, config: AugmentConfig) -> NDArray[np.float32]:
    """Frames after a random choice of changes, still float32 and perhaps beyond 0..255; grey may become RGB."""
    is_rgb = frames.ndim == 4
    if is_rgb:
        if rng.random() < config.to_grey:
            frames = frames @ np.array([0.299, 0.587, 0.114], np.float32)
            is_rgb = False
        elif rng.random() < config.colour_mix:
            frames = frames @ _colour_matrix(rng)
    if rng.random() < config.blur:
        sigma = math.exp(rng.uniform(math.log(0.4), math.log(1.8)))
        spread = (0, sigma, sigma, 0)[: frames.ndim]
        frames = ndimage.gaussian_filter(frames, spread, truncate=2.5)
    frames = _apply_curve(frames, _intensity_curve(rng, config, may_invert=not is_rgb))
    if rng.random() < config.light:
        frames = frames * _illumination(rng, frames.shape[1])[(None, ..., *([None] * (frames.ndim - 3)))]
    if len(frames) > 1 and rng.random() < config.flicker:
        frames = frames * _flicker(rng, len(frames)).reshape(-1, *([1] * (frames.ndim - 1)))
    if rng.random() < config.coarse:
        frames = _coarsely_sampled(frames, rng)
    elif rng.random() < config.noise:
        frames = _add_noise(frames, rng)
    if not is_rgb and rng.random() < config.tint:
        frames = _tint(frames, rng)
    return frames


def _to_rgb(frames: NDArray[np.float32]) -> NDArray[np.uint8]:
    whole = np.clip(frames + 0.5, 0, 255).astype(np.uint8)
    return np.repeat(whole[..., None], 3, axis=-1) if whole.ndim == 3 else whole


def _intensity_curve(rng: np.random.Generator, config: AugmentConfig, *, may_invert: bool) -> NDArray[np.float32]:
    """(LEVELS,) output 0 to 255 for input 0 to 255: clipped ends, a power, a negative, a new range."""
    value = np.linspace(0, 1, LEVELS, dtype=np.float32)
    if rng.random() < config.contrast:
        low, high = rng.uniform(-0.1, 0.15), rng.uniform(0.55, 1.2)
        value = np.clip((value - low) / (high - low), 0, 1)
    if rng.random() < config.gamma:
        value = value ** np.float32(math.exp(rng.normal(0, 0.4)))
    if may_invert and rng.random() < config.invert:
        value = 1 - value
    if rng.random() < config.contrast:
        span = rng.uniform(0.35, 1.0)
        value = rng.uniform(0, 1 - span) + span * value
    return (value * 255).astype(np.float32)


def _apply_curve(frames: NDArray[np.float32], curve: NDArray[np.float32]) -> NDArray[np.float32]:
    index = np.clip(frames * ((LEVELS - 1) / 255), 0, LEVELS - 1).astype(np.int32)
    changed: NDArray[np.float32] = np.take(curve, index)
    return changed


def _illumination(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    field = smooth_field(rng, (size, size), int(rng.integers(1, 4)))
    changed: NDArray[np.float32] = np.clip(1 + rng.uniform(0.05, 0.25) * field, 0.3, 1.8).astype(np.float32)
    return changed


def _flicker(rng: np.random.Generator, num_frames: int) -> NDArray[np.float32]:
    fade = np.exp(-rng.uniform(0, 0.12) * np.arange(num_frames)) if rng.random() < 0.5 else np.ones(num_frames)
    if rng.random() < 0.3:
        fade = fade[::-1]
    return (fade * np.exp(rng.normal(0, rng.uniform(0, 0.08), num_frames))).astype(np.float32)


def _coarsely_sampled(frames: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Frames averaged over larger pixels, mostly with noise, then enlarged again."""
    size = frames.shape[1]
    side = round(size / math.exp(rng.uniform(math.log(_COARSENESS[0]), math.log(_COARSENESS[1]))))
    pooled = _resized(frames, side, "area")
    if rng.random() < _COARSE_NOISE_SHARE:
        pooled = _add_noise(pooled, rng, highest=0.12)
    return _resized(pooled, size, "bilinear")


def _resized(frames: NDArray[np.float32], side: int, mode: str) -> NDArray[np.float32]:
    """(T, S, S) or (T, S, S, C) with another S."""
    planes = torch.from_numpy(np.ascontiguousarray(frames)).reshape(*frames.shape[:3], -1).permute(0, 3, 1, 2)
    resized = F.interpolate(planes, size=(side, side), mode=mode).permute(0, 2, 3, 1)
    return np.ascontiguousarray(resized.numpy()).reshape(len(frames), side, side, *frames.shape[3:])


def _add_noise(frames: NDArray[np.float32], rng: np.random.Generator, *, highest: float = 0.08) -> NDArray[np.float32]:
    """Read-out noise, plus shot noise whose variance grows with brightness; sometimes grain wider than a pixel."""
    read = 255 * math.exp(rng.uniform(math.log(0.004), math.log(highest)))
    shot = rng.uniform(0, 1.2) if rng.random() < 0.6 else 0.0
    noise = rng.standard_normal(frames.shape, dtype=np.float32)
    if rng.random() < 0.35:
        sigma = rng.uniform(0.4, 0.9)
        spread = (0, sigma, sigma, 0)[: frames.ndim]
        noise = ndimage.gaussian_filter(noise, spread, truncate=2.0)
        noise *= np.float32(2 * math.sqrt(math.pi) * sigma if sigma > 0.6 else 1.6)
    if shot == 0:
        return frames + noise * np.float32(read)
    changed: NDArray[np.float32] = frames + noise * np.sqrt(
        np.maximum(frames, 0) * np.float32(shot**2) + np.float32(read**2)
    )
    return changed


def _tint(frames: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Greyscale as a ramp between two colours: a fluorescence colour on black, or any two shades."""
    low, high = np.zeros(3), rng.uniform(0, 1, 3)
    high[rng.integers(3)] = 1
    if rng.random() < 0.4:
        low = rng.uniform(0, 1, 3)
        if abs(low.mean() - high.mean()) < 0.3:
            low, high = np.clip(low - 0.4, 0, 1), np.clip(high + 0.4, 0, 1)
    colours = (low * 255).astype(np.float32), (high - low).astype(np.float32)
    return frames[..., None] * colours[1] + colours[0]


def _colour_matrix(rng: np.random.Generator) -> NDArray[np.float32]:
    """(3, 3) for rows of RGB: changed saturation, channel gains, sometimes swapped channels."""
    saturation = rng.uniform(0.2, 1.8)
    grey = np.full((3, 3), 1 / 3)
    matrix = saturation * np.eye(3) + (1 - saturation) * grey
    matrix = matrix @ np.diag(np.exp(rng.normal(0, 0.15, 3)))
    if rng.random() < 0.3:
        matrix = matrix[:, rng.permutation(3)]
    changed: NDArray[np.float32] = matrix.astype(np.float32)
    return changed
