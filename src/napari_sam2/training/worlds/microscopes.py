"""Worlds as a microscope shows them: the thickness of a specimen, and images formed from it by a contrast method."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_sam2.training.warp import smooth_field

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Image = NDArray[np.float32]
    Labels = NDArray[np.int32]

__all__ = ["CONTRAST_METHODS", "form_image"]

_SATURATED_SHARE = 0.35
_CONTRAST = 0.3  # standard deviation of a formed image, as of the other worlds


def form_image(
    rng: np.random.Generator,
    objects: Labels,
    parts: Sequence[Labels],
    hosts: Labels | None,
    depth_of: Callable[[Labels], Image],
) -> tuple[Image, float]:
    """Image of a scene by a random contrast method, without noise.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    objects : (S, S) int32 array
        Labels.
    parts : sequence of (S, S) int32 arrays
        Parts inside the objects: granules, nuclei, vacuoles.
    hosts : (S, S) int32 array or None
        Larger bodies around the objects.
    depth_of : callable
        Distance in pixels to the nearest outline of a label image, negative outside.

    Returns
    -------
    image : (S, S) float32 array
        Brightness about 0, with a standard deviation of 0.3.
    half_width : float
        Typical distance from the middle of an object to its outline, in pixels.

    Notes
    -----
    The optical path through a specimen is taken to be proportional to its thickness. Phase contrast subtracts from it
    an unsharp copy of itself, which gives halos and shade-off [1]_; differential interference contrast shows its
    derivative along one direction; a bright field slightly out of focus shows its Laplacian [2]_; an electron detector
    shows slopes and edges; fluorescence shows the thickness with out-of-focus light around it.

    References
    ----------
    .. [1] Yin, Kanade and Chen, Understanding the phase contrast optics to restore artifact-free microscopy images for
       segmentation, Medical Image Analysis, 2012.
    .. [2] Teague, Deterministic phase retrieval, J. Opt. Soc. Am., 1983.
    """
    depth = depth_of(objects)
    widest = _widest(objects, depth)
    inside = widest[1:][widest[1:] > 0]
    half_width = float(np.median(inside)) if inside.size else 2.0
    thickness = _relief(rng, objects, depth, widest, spread=rng.uniform(0, 0.25))
    for part in parts:
        own = depth_of(part)
        share = rng.uniform(0.15, 0.8) * float(rng.choice([-1, 1], p=[0.35, 0.65]))
        thickness += np.float32(share) * _relief(rng, part, own, _widest(part, own), spread=0.2)
    if hosts is not None:
        own = depth_of(hosts)
        thickness += np.float32(rng.uniform(0.2, 1)) * _relief(rng, hosts, own, _widest(hosts, own), spread=0.2)
    if rng.random() < 0.5:  # cytoplasm is grainy
        thickness += (objects > 0) * smooth_field(rng, objects.shape, int(rng.integers(20, 90))) * _small(rng)
    if rng.random() < 0.5:  # medium and debris
        thickness += smooth_field(rng, objects.shape, int(rng.integers(3, 40))) * _small(rng)
    names = tuple(CONTRAST_METHODS)
    method = names[int(rng.choice(len(names), p=_CHANCES))]
    image = CONTRAST_METHODS[method](rng, thickness, half_width)
    image = image * np.float32(_CONTRAST / max(float(image.std()), 1e-6))
    if rng.random() < _SATURATED_SHARE:  # thick bodies are as dark as they can be, so that gaps between them are faint
        gain = np.float32(math.exp(rng.uniform(math.log(1.2), math.log(4))))
        image = np.tanh((image - np.float32(np.median(image))) * gain)
        image = image * np.float32(_CONTRAST / max(float(image.std()), 1e-6))
    return image, half_width


def _small(rng: np.random.Generator) -> np.float32:
    return np.float32(math.exp(rng.uniform(math.log(0.01), math.log(0.15))))


def _widest(labels: Labels, depth: Image) -> Image:
    """For each label the largest distance to its outline."""
    count = int(labels.max()) + 1
    widest = np.zeros(count, np.float32)
    np.maximum.at(widest, labels.reshape(-1), depth.reshape(-1))
    return widest


def _relief(rng: np.random.Generator, labels: Labels, depth: Image, widest: Image, *, spread: float) -> Image:
    """Thickness of bodies, 0 outside and about 1 at their thickest: round, flat, with a dent, or a cone."""
    relative = np.clip(depth / np.maximum(widest, 1)[labels], 0, 1) * (labels > 0)
    kind = str(rng.choice(["round", "flat", "dent", "cone"], p=[0.55, 0.25, 0.12, 0.08]))
    if kind == "round":
        relief = np.sqrt(np.maximum(1 - (1 - relative) ** 2, 0))
    elif kind == "flat":
        edge = rng.uniform(0.1, 0.6)
        relief = np.minimum(relative / np.float32(edge), 1)
    elif kind == "dent":
        relief = np.sqrt(np.maximum(1 - (1 - relative) ** 2, 0)) - np.float32(rng.uniform(0.3, 0.8)) * relative**2
    else:
        relief = relative ** np.float32(rng.uniform(0.7, 1.6))
    each = np.exp(rng.normal(0, spread, len(widest)))
    if rng.random() < 0.3:  # larger bodies are thicker
        each *= np.clip(widest / max(float(np.median(widest[1:])) if len(widest) > 1 else 1.0, 1.0), 0.3, 2)
    return np.asarray(relief * each.astype(np.float32)[labels] * (labels > 0), np.float32)


def _blurred(image: Image, sigma: float) -> Image:
    """A Gaussian blur; a wide one of an image at half the resolution."""
    if sigma < 0.25:
        return image
    if sigma < 4 or min(image.shape) < 16:
        return np.asarray(ndimage.gaussian_filter(image, sigma, truncate=3.0))
    small = ndimage.gaussian_filter(image[::2, ::2], sigma / 2, truncate=2.5)
    wide = small.repeat(2, 0).repeat(2, 1)[: image.shape[0], : image.shape[1]]
    return np.asarray(ndimage.uniform_filter(wide, 3))


def _in_half_widths(rng: np.random.Generator, half_width: float, low: float, high: float) -> float:
    return half_width * math.exp(rng.uniform(math.log(low), math.log(high)))


def _phase_contrast(rng: np.random.Generator, thickness: Image, half_width: float) -> Image:
    sharp = _blurred(thickness, min(_in_half_widths(rng, half_width, 0.1, 0.6), 2.5))
    halo = _blurred(thickness, _in_half_widths(rng, half_width, 0.8, 8))
    image = np.float32(rng.uniform(0.3, 1.1)) * halo - sharp
    if rng.random() < 0.5:  # a second, narrow ring
        ring = _blurred(thickness, _in_half_widths(rng, half_width, 0.4, 1.2))
        image = image + np.float32(rng.uniform(0.2, 0.9)) * (ring - sharp)
    if rng.random() < 0.3:  # thick specimens turn bright again
        image = np.sin(np.clip(image * np.float32(rng.uniform(1.5, 3)), -3, 3))
    return -image if rng.random() < 0.15 else image


def _interference_contrast(rng: np.random.Generator, thickness: Image, half_width: float) -> Image:
    sharp = _blurred(thickness, min(_in_half_widths(rng, half_width, 0.1, 0.5), 2.0))
    down, right = np.gradient(sharp)
    angle = rng.uniform(0, 2 * math.pi)
    slope = np.float32(math.sin(angle)) * down + np.float32(math.cos(angle)) * right
    return np.asarray(slope * np.float32(half_width) + np.float32(rng.uniform(-0.25, 0.25)) * sharp, np.float32)


def _bright_field(rng: np.random.Generator, thickness: Image, half_width: float) -> Image:
    sigma = min(_in_half_widths(rng, half_width, 0.12, 0.6), 3.0)
    sharp = _blurred(thickness, sigma)
    edges = sharp - _blurred(thickness, 1.6 * sigma)
    focus = float(rng.choice([-1, 1])) * rng.uniform(1, 5)
    return np.asarray(np.float32(focus) * edges - np.float32(rng.uniform(0, 0.7)) * sharp, np.float32)


def _electrons(rng: np.random.Generator, thickness: Image, half_width: float) -> Image:
    sharp = _blurred(thickness, min(_in_half_widths(rng, half_width, 0.03, 0.2), 1.5))
    down, right = np.gradient(sharp * np.float32(half_width))
    angle = rng.uniform(0, 2 * math.pi)
    slope = np.hypot(down, right) ** np.float32(rng.uniform(0.4, 1))
    lit = np.float32(math.sin(angle)) * down + np.float32(math.cos(angle)) * right
    return np.asarray(slope + np.float32(rng.uniform(0, 0.8)) * lit + np.float32(rng.uniform(0, 1)) * sharp, np.float32)


def _fluorescence(rng: np.random.Generator, thickness: Image, half_width: float) -> Image:
    sharp = _blurred(thickness, min(_in_half_widths(rng, half_width, 0.1, 0.7), 2.5))
    haze = _blurred(thickness, _in_half_widths(rng, half_width, 1, 6))
    return np.asarray(sharp + np.float32(rng.uniform(0, 1)) * haze, np.float32)


CONTRAST_METHODS: dict[str, Callable[[np.random.Generator, Image, float], Image]] = {
    "phase_contrast": _phase_contrast,
    "interference_contrast": _interference_contrast,
    "bright_field": _bright_field,
    "electrons": _electrons,
    "fluorescence": _fluorescence,
}
_CHANCES = (0.45, 0.12, 0.23, 0.08, 0.12)
