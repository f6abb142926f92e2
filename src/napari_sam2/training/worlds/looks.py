"""Appearance of random worlds: random fields for every zone of a scene, random lines for borders, faults of cameras."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft, ndimage

from napari_sam2.training.warp import smooth_field
from napari_sam2.training.worlds.microscopes import form_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.float32]
    Labels = NDArray[np.int32]

__all__ = ["FORMED_SHARE", "render"]

_CUES = ("brightness", "border", "texture")
_CUE_CHANCES = (0.75, 0.5, 0.45)
FORMED_SHARE = 0.45  # of worlds, by a contrast method from the thickness of the objects
_COLOUR_SHARE = 0.3  # of the others
_NOISE_SHARE = 0.35  # more noise comes with the augmentation
_ATTEMPTS = 3  # until the objects are visible; the last has all cues
_FULL = 0.85  # of the image: where there is hardly any background, objects differ in brightness more
_VISIBLE = 1.3  # times the change of brightness elsewhere
_BLOCK = 8  # of JPEG


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


@dataclass(frozen=True)
class _Texture:
    """What the inside of a zone looks like, around 0."""

    kind: str
    strength: float
    cells: tuple[int, ...]
    angle: float
    pitch: float

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float) -> _Texture:
        kinds = ["flat", "clouds", "grain", "stripes", "spots", "ridges", "gradient"]
        kind = str(rng.choice(kinds, p=[0.15, 0.3, 0.12, 0.1, 0.15, 0.1, 0.08]))
        cells = tuple(int(c) for c in np.exp(rng.uniform(math.log(2), math.log(90), int(rng.integers(1, 4)))))
        return cls(kind, strength, cells, rng.uniform(0, math.pi), _log_uniform(rng, 3, 30))

    def field(self, rng: np.random.Generator, size: int) -> Image:
        hw = (size, size)
        clouds: Image = np.zeros(hw, np.float32)
        for cells in self.cells:
            clouds += smooth_field(rng, hw, max(cells, 1)) / np.float32(math.sqrt(len(self.cells)))
        if self.kind == "flat":
            clouds *= np.float32(0.15)
        elif self.kind == "grain":
            grain = rng.standard_normal(hw, dtype=np.float32)
            clouds = np.asarray(ndimage.gaussian_filter(grain, 0.6) * np.float32(2) + clouds * np.float32(0.3))
        elif self.kind == "stripes":
            y, x = np.indices(hw, dtype=np.float32)
            along = x * np.float32(math.cos(self.angle)) + y * np.float32(math.sin(self.angle))
            clouds = np.sin(along * np.float32(2 * math.pi / self.pitch) + clouds * np.float32(1.5))
        elif self.kind == "spots":
            fine = smooth_field(rng, hw, max(8, round(size / self.pitch)))
            clouds = np.maximum(fine - np.float32(0.9), 0) * np.float32(3) - np.float32(0.3)
        elif self.kind == "ridges":
            clouds = np.exp(-((clouds / np.float32(0.25)) ** 2)) * np.float32(2) - np.float32(0.5)
        elif self.kind == "gradient":
            y, x = np.indices(hw, dtype=np.float32)
            along = x * np.float32(math.cos(self.angle)) + y * np.float32(math.sin(self.angle))
            clouds = np.asarray(clouds * np.float32(0.2) + along * np.float32(3 / size), np.float32)
        return np.asarray(clouds * np.float32(self.strength), np.float32)


def render(
    rng: np.random.Generator,
    objects: Labels,
    parts: Sequence[Labels],
    hosts: Labels | None,
    formed_share: float = FORMED_SHARE,
) -> Image:
    """An image of a scene.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    objects : numpy.ndarray
        (S, S) int32.
    parts : sequence of numpy.ndarray
        The same of parts inside objects, drawn one over the other.
    hosts : numpy.ndarray or None
        The same of bodies under the objects.
    formed_share : float
        Probability of a contrast method, see `form_image`, in place of random textures.

    Returns
    -------
    numpy.ndarray
        (S, S) or (S, S, 3) float32, 0 to 255.
    """
    if rng.random() < formed_share:
        formed, half_width = form_image(rng, objects, parts, hosts, _depth)
        return _stretched(rng, _optics(rng, formed, objects > 0, 0.3, half_width))
    for attempt in range(_ATTEMPTS):
        cues = [cue for cue, chance in zip(_CUES, _CUE_CHANCES, strict=True) if rng.random() < chance]
        cues = cues or [str(rng.choice(_CUES))]
        is_last = attempt == _ATTEMPTS - 1
        grey, zones = _painted(rng, objects, parts, hosts, list(_CUES) if is_last else cues)
        if is_last or "texture" in cues or _is_visible(grey, objects):
            break
    if rng.random() < _COLOUR_SHARE:
        return _coloured(rng, grey, zones)
    return _stretched(rng, grey)


def _is_visible(grey: Image, objects: Labels) -> bool:
    """Whether brightness changes more at the objects' outlines than elsewhere."""
    depth = np.abs(_depth(objects))
    change = ndimage.gaussian_gradient_magnitude(grey, 1.0)
    at, away = change[depth < 2], change[depth >= 3]
    return not at.size or not away.size or float(at.mean()) > _VISIBLE * float(away.mean())


def _painted(
    rng: np.random.Generator, objects: Labels, parts: Sequence[Labels], hosts: Labels | None, cues: Sequence[str]
) -> tuple[Image, list[Image]]:
    """Brightness about 0, and where each zone lies (0 to 1), the background first."""
    size = objects.shape[0]
    contrast = _log_uniform(rng, 0.05, 0.6)
    loud = 0.5 if "brightness" in cues else 0.8
    background = _Texture.draw(rng, contrast * _log_uniform(rng, 0.03, loud)).field(rng, size)
    if rng.random() < 0.2:  # a background of two kinds
        other = _Texture.draw(rng, contrast * _log_uniform(rng, 0.03, 0.5)).field(rng, size)
        mask = _soft(smooth_field(rng, (size, size), int(rng.integers(1, 6))) > rng.uniform(-0.5, 1.0), 1.0)
        background = background + mask * (other - background + np.float32(contrast * rng.uniform(-0.5, 0.5)))
    grey = background
    zones = [np.ones((size, size), np.float32)]
    layers = [*([hosts] if hosts is not None else []), objects, *parts]
    at = 1 if hosts is not None else 0
    depth_of_objects = 2.0
    for index, labels in enumerate(layers):
        depth = _depth(labels)
        inside = labels > 0
        if index == at:
            depth_of_objects = float(np.median(depth[inside])) if inside.any() else 2.0
        is_object = index == at
        named = cues if is_object else ["brightness", *([] if rng.random() < 0.5 else ["texture"])]
        level = contrast * float(rng.choice([-1, 1])) if "brightness" in named else 0.0
        level *= 1.0 if is_object else rng.uniform(0.15, 1.0)
        if "texture" in named or rng.random() < 0.5:
            strength = max(abs(level), contrast) * _log_uniform(rng, 0.1, 0.8)
            body = _Texture.draw(rng, strength).field(rng, size)
        else:
            body = _Texture.draw(rng, contrast * 0.05).field(rng, size) if level or not is_object else grey
        body = (
            body
            + np.float32(level)
            + _by_object(rng, labels, level * rng.uniform(0, 0.5) * (1.0 if inside.mean() < _FULL else 1.8))
        )
        if level and rng.random() < 0.45:
            body = body - np.float32(level * rng.uniform(0.2, 0.9)) * _dome(rng, labels, depth)
        share = _soft(inside, rng.uniform(0, 0.7))
        if is_object and "brightness" not in cues and "texture" not in cues:
            body = grey
        grey = grey + share * (body - grey)
        zones.append(share)
        if (is_object and "border" in cues) or (not is_object and rng.random() < 0.3):
            lines = _border(rng, labels, depth, is_object=is_object)
            amplitude = contrast * rng.uniform(0.5, 1.5) * float(rng.choice([-1, 1]))
            grey = grey + lines * np.float32(amplitude)
            zones.append(np.clip(lines, 0, 1))
        elif is_object and rng.random() < 0.3:
            grey = grey + _contacts(rng, labels) * np.float32(contrast * rng.uniform(0.3, 1) * rng.choice([-1, 1]))
    return _optics(rng, grey, objects > 0, contrast, depth_of_objects), zones


def _depth(labels: Labels) -> Image:
    """Pixels to the nearest outline, also between touching objects: positive inside objects, negative outside."""
    edge = np.zeros(labels.shape, bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    if not edge.any():
        return np.full(labels.shape, 99.0 if labels.any() else -99.0, np.float32)
    away: Image = ndimage.distance_transform_edt(~edge).astype(np.float32) + np.float32(0.5)
    return np.where(labels > 0, away, -away)


def _soft(mask: NDArray[np.bool_], sigma: float) -> Image:
    share = mask.astype(np.float32)
    return ndimage.gaussian_filter(share, sigma) if sigma > 0.25 else share


def _by_object(rng: np.random.Generator, labels: Labels, spread: float) -> Image:
    """An offset of brightness for each object."""
    table = rng.normal(0, abs(spread), int(labels.max()) + 1).astype(np.float32)
    table[0] = 0
    offsets: Image = table[labels]
    return offsets


def _dome(rng: np.random.Generator, labels: Labels, depth: Image) -> Image:
    """0 in the middle of objects and 1 at the rim, or the other way round."""
    most = ndimage.maximum(depth, labels, np.arange(int(labels.max()) + 1))
    relative = np.clip(depth / np.maximum(most, 1)[labels], 0, 1).astype(np.float32)
    rim: Image = (1 - relative) ** np.float32(rng.uniform(0.7, 3))
    return rim if rng.random() < 0.6 else 1 - rim


def _border(rng: np.random.Generator, labels: Labels, depth: Image, *, is_object: bool) -> Image:
    """A line along outlines: single, double, or with a halo."""
    width = np.float32(_log_uniform(rng, 0.6, 4.0))
    middle = np.float32(rng.uniform(-1.2, 1.5)) * width
    lines = np.exp(-(((depth - middle) / width) ** 2))
    if rng.random() < 0.3:
        other = middle + width * np.float32(rng.uniform(1.5, 3) * rng.choice([-1, 1]))
        lines = lines - np.float32(rng.uniform(0.3, 1.2)) * np.exp(-(((depth - other) / width) ** 2))
    if is_object and rng.random() < 0.3:  # halo
        reach = np.float32(_log_uniform(rng, 2, 14))
        halo = np.exp(np.minimum(depth, 0) / reach) * (depth < 0)
        lines = lines + np.float32(rng.uniform(-1, 1)) * halo
    if rng.random() < 0.25:  # uneven along the outline
        lines = lines * np.clip(0.7 + 0.5 * smooth_field(rng, labels.shape, int(rng.integers(4, 30))), 0, 2)
    return np.asarray(lines, np.float32)


def _contacts(rng: np.random.Generator, labels: Labels) -> Image:
    """Thin lines where objects touch or nearly touch, and nowhere else."""
    grown = ndimage.grey_dilation(labels, size=(3, 3))
    shrunk = -ndimage.grey_dilation(np.where(labels > 0, -labels, np.int32(-(2**30))), size=(3, 3))
    contact = (grown > 0) & (shrunk < 2**30) & (grown != shrunk)
    if not contact.any():
        return np.zeros(labels.shape, np.float32)
    away = ndimage.distance_transform_edt(~contact).astype(np.float32)
    return np.asarray(np.exp(-((away / np.float32(rng.uniform(0.6, 2))) ** 2)), np.float32)


def _optics(rng: np.random.Generator, grey: Image, inside: NDArray[np.bool_], contrast: float, depth: float) -> Image:
    """Shade-off, debris, blur, uneven focus, uneven light."""
    size = grey.shape[0]
    if rng.random() < 0.2:  # what is wide is seen less, as in phase contrast
        far = ndimage.gaussian_filter(grey[::2, ::2], rng.uniform(2, 10)).repeat(2, 0).repeat(2, 1)[:size, :size]
        grey = grey - np.float32(rng.uniform(0.3, 1)) * far
    if rng.random() < 0.3:
        debris = smooth_field(rng, grey.shape, int(rng.integers(20, 100)))
        specks = np.maximum(debris - np.float32(rng.uniform(1.6, 2.4)), 0)
        if rng.random() < 0.5:
            specks = specks * ~inside
        grey = grey + specks * np.float32(contrast * rng.uniform(-2, 2))
    blur = min(_log_uniform(rng, 0.3, 2.5), 0.25 + 0.3 * depth)
    grey = ndimage.gaussian_filter(grey, blur, truncate=2.5)
    if rng.random() < 0.15:
        unsharp = ndimage.gaussian_filter(grey, blur + 1.5, truncate=2.5)
        share = np.clip(0.5 + smooth_field(rng, grey.shape, int(rng.integers(1, 4))), 0, 1)
        grey = grey + share * (unsharp - grey)
    if rng.random() < 0.3:
        grey = grey + smooth_field(rng, grey.shape, int(rng.integers(1, 4))) * np.float32(
            contrast * rng.uniform(0, 0.6)
        )
    if rng.random() < _NOISE_SHARE:
        noise = rng.standard_normal(grey.shape, dtype=np.float32)
        if rng.random() < 0.4:
            noise = ndimage.gaussian_filter(noise, 0.7) * np.float32(2.3)
        grey = grey + noise * np.float32(contrast * _log_uniform(rng, 0.03, 0.5))
    if rng.random() < 0.15:
        grey = _compressed(grey, contrast * _log_uniform(rng, 0.1, 0.6))
    return np.asarray(grey, np.float32)


def _compressed(image: Image, step: float) -> Image:
    """What JPEG leaves: cosine coefficients of blocks, rounded, fine ones more so."""
    size = image.shape[0] // _BLOCK * _BLOCK
    blocks = image[:size, :size].reshape(size // _BLOCK, _BLOCK, size // _BLOCK, _BLOCK)
    wave = fft.dctn(blocks, axes=(1, 3), norm="ortho")
    order = np.arange(_BLOCK)
    steps = np.float32(step) * (1 + 0.6 * (order[:, None, None] + order[None, None]))
    out = image.copy()
    out[:size, :size] = fft.idctn(np.rint(wave / steps) * steps, axes=(1, 3), norm="ortho").reshape(size, size)
    return out


def _stretched(rng: np.random.Generator, grey: Image) -> Image:
    """To 0..255, mostly over the full range."""
    low, high = np.percentile(grey[::2, ::2], (0.1, 99.9))
    unit = (grey - np.float32(low)) / np.float32(max(high - low, 1e-6))
    if rng.random() < 0.25:
        span = rng.uniform(0.3, 1)
        unit = unit * np.float32(span) + np.float32(rng.uniform(0, 1 - span))
    return np.asarray(np.clip(unit, 0, 1) * np.float32(255), np.float32)


def _coloured(rng: np.random.Generator, grey: Image, zones: Sequence[Image]) -> Image:
    """A colour for each zone, by light or by absorption, with the grey image as brightness."""
    low, high = np.percentile(grey[::2, ::2], (0.5, 99.5))
    unit = np.clip((grey - np.float32(low)) / np.float32(max(high - low, 1e-6)), 0, 1)[..., None]
    spread = rng.uniform(0.1, 0.6)
    middle = rng.uniform(0.3, 0.8, 3)
    colour = np.zeros((*grey.shape, 3), np.float32)
    for share in zones:
        own = np.clip(middle + rng.normal(0, spread, 3), 0.02, 1.2).astype(np.float32)
        colour += share[..., None] * (own - colour)
    if rng.random() < 0.4:  # stains absorb
        image = np.exp(-colour * (np.float32(0.2) + unit * np.float32(rng.uniform(0.8, 2.5))))
    else:
        image = colour * (np.float32(rng.uniform(0.1, 0.6)) + unit)
    return np.asarray(np.clip(image / max(float(np.percentile(image, 99.8)), 1e-3), 0, 1) * np.float32(255), np.float32)
