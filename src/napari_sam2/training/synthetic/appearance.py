"""From shapes to intensities: how fluorescence, phase contrast, brightfield, DIC and stains show the same objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage

from napari_sam2.training.warp import smooth_field, spline_field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.training.synthetic.shapes import Canvas

__all__ = [
    "GreyLook",
    "StainLook",
    "boundary_of",
    "draw_grey_look",
    "draw_stain_look",
    "render_grey",
    "render_stain",
    "render_thick",
]

Modality = Literal["fluorescence", "membrane", "phase", "brightfield", "darkfield", "dic"]
MAX_IDS = 1024


@dataclass(frozen=True, eq=False)
class GreyLook:
    """How one clip shows its objects in grey; intensities 0 to 1, one draw for all frames.

    Attributes
    ----------
    modality : str
        Which contrast.
    brightness : numpy.ndarray
        (MAX_IDS,) float32 by id; relative, about 1.
    background, signal : float
        Level of the background and what an object of brightness 1 adds.
    texture : float
        Strength of the texture of objects.
    edge : float
        Strength of rims and halos.
    rim : float
        Width of rims in radii.
    blur, glow, grain : float
        Width of the optical blur in pixels; share of light spread far; strength of camera noise.
    slope : numpy.ndarray
        (5, 5) knots of a slowly varying background.
    clutter : numpy.ndarray
        (S, S) float32 fixed pattern of the background.
    fade : float
        Loss of signal a frame.
    """

    modality: Modality
    brightness: NDArray[np.float32]
    background: float
    signal: float
    texture: float
    edge: float
    rim: float
    blur: float
    glow: float
    grain: float
    slope: NDArray[np.float32]
    clutter: NDArray[np.float32]
    fade: float


def draw_grey_look(rng: np.random.Generator, modality: Modality, size: int, *, dense: bool = False) -> GreyLook:
    """Draw how a clip looks; ``dense`` for planes that objects fill."""
    scale = size / 256
    on_grey = modality in ("phase", "brightfield", "dic")
    background = rng.uniform(0.35, 0.65) if on_grey else rng.uniform(0.01, 0.15)
    clutter = np.zeros((size, size), np.float32)
    if rng.random() < 0.6:
        clutter = smooth_field(rng, (size, size), int(rng.integers(4, 48))) * np.float32(rng.uniform(0.003, 0.03))
    return GreyLook(
        modality=modality,
        brightness=np.exp(rng.normal(0, rng.uniform(0.05, 0.45), MAX_IDS)).astype(np.float32),
        background=background,
        signal=rng.uniform(-0.14, 0.14) if on_grey else rng.uniform(0.2, 0.7),
        texture=rng.uniform(0.02, 0.14) if on_grey else rng.uniform(0.03, 0.35),
        edge=rng.uniform(0.12, 0.4) if on_grey else rng.uniform(0.2, 0.9),
        rim=rng.uniform(0.06, 0.2),
        blur=scale * rng.uniform(0.4, 1.6) * (1.6 if rng.random() < 0.15 else 1),
        glow=0.0 if dense or on_grey else rng.uniform(0, 0.3) * (rng.random() < 0.6),
        grain=float(np.exp(rng.uniform(np.log(0.004), np.log(0.07)))),
        slope=rng.normal(0, 0.04 if on_grey else 0.015, (5, 5)).astype(np.float32),
        clutter=clutter,
        fade=rng.uniform(0, 0.06) * (rng.random() < 0.3),
    )


def render_grey(rng: np.random.Generator, canvas: Canvas, look: GreyLook, frame: int = 0) -> NDArray[np.float32]:
    """One frame of a clip.

    Parameters
    ----------
    rng : numpy.random.Generator
        For the noise, new on each frame.
    canvas : Canvas
        What was drawn.
    look : GreyLook
        How it shows.
    frame : int, default 0
        Which frame, for fading.

    Returns
    -------
    numpy.ndarray
        (S, S) float32, 0 to 255.
    """
    image = _CONTRASTS[look.modality](canvas, look)
    if look.blur > 0.3:
        image = ndimage.gaussian_filter(image, look.blur, truncate=2.5)
    return _recorded(rng, image, look, frame)


def render_thick(
    rng: np.random.Generator, canvases: Sequence[Canvas], look: GreyLook, *, reach: int, spread: float, softness: float
) -> list[NDArray[np.float32]]:
    """Planes of a thick specimen, each with the light of the planes above and below it.

    Parameters
    ----------
    rng : numpy.random.Generator
        For the noise.
    canvases : sequence of Canvas
        T + 2 ``reach`` planes from the first to the last.
    look : GreyLook
        How they show.
    reach : int
        Planes to either side whose light counts.
    spread : float
        What is left of the light of a neighbouring plane; of the j-th neighbour its j-th power.
    softness : float
        By how much the blur grows from plane to plane, in pixels.

    Returns
    -------
    list of numpy.ndarray
        T images (S, S) float32, 0 to 255.
    """
    bodies = [_CONTRASTS[look.modality](canvas, look) for canvas in canvases]
    seen = [
        [ndimage.gaussian_filter(body, look.blur + softness * distance, truncate=2.5) for body in bodies]
        for distance in range(reach + 1)
    ]
    total = 1 + sum(spread**distance for distance in range(1, reach + 1))  # one side and the plane itself
    images = []
    for frame in range(reach, len(canvases) - reach):
        image = seen[0][frame].copy()
        for distance in range(1, reach + 1):
            neighbours = seen[distance][frame - distance] + seen[distance][frame + distance]
            image += np.float32(spread**distance) * neighbours
        images.append(_recorded(rng, image * np.float32(1.5 / (0.5 + total)), look, frame - reach))
    return images


def _recorded(rng: np.random.Generator, image: NDArray[np.float32], look: GreyLook, frame: int) -> NDArray[np.float32]:
    """What the camera makes of the light of objects: glow, fading, background and noise; 0 to 255."""
    size = image.shape[0]
    slope = spline_field(look.slope, (size, size))
    if look.glow > 0:
        far = _far_blur(image, size // 16)
        image = image * np.float32(1 - look.glow) + far * np.float32(1.6 * look.glow)
    image *= np.float32(np.exp(-look.fade * frame))
    image += slope + look.clutter + np.float32(look.background)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image += noise * np.float32(look.grain) * np.sqrt(np.maximum(image, 0) + np.float32(0.15))
    return np.asarray(np.clip(image, 0, 1) * np.float32(255))


def _far_blur(image: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    small = ndimage.gaussian_filter(image[::4, ::4], max(width / 4, 0.5), truncate=2.0)
    return np.repeat(np.repeat(small, 4, 0), 4, 1)[: image.shape[0], : image.shape[1]]


def _inside(canvas: Canvas) -> NDArray[np.float32]:
    return (canvas.labels > 0).astype(np.float32)


def _ring(rho: NDArray[np.float32], middle: float, width: float) -> NDArray[np.float32]:
    image: NDArray[np.float32] = np.exp(-(((rho - np.float32(middle)) / np.float32(width)) ** 2))
    return image


def _fluorescence(canvas: Canvas, look: GreyLook) -> NDArray[np.float32]:
    body = np.take(look.brightness, canvas.labels % MAX_IDS) * _inside(canvas)
    dome = 1 - np.float32(0.35) * np.minimum(canvas.rho, 1) ** 2
    image: NDArray[np.float32] = (
        np.float32(look.signal) * body * dome * np.maximum(1 + np.float32(look.texture) * canvas.texture, 0.1)
    )
    return image


def _membrane(canvas: Canvas, look: GreyLook) -> NDArray[np.float32]:
    body = np.take(look.brightness, canvas.labels % MAX_IDS)
    inner = _inside(canvas) * np.float32(0.12) * np.maximum(1 + np.float32(look.texture) * canvas.texture, 0.1)
    wall = _ring(canvas.rho, 1 - look.rim, look.rim) * _inside(canvas)
    image: NDArray[np.float32] = np.float32(look.signal) * body * (inner + wall * np.float32(0.6 + look.edge))
    return image


def _phase(canvas: Canvas, look: GreyLook) -> NDArray[np.float32]:
    body = np.take(look.brightness, canvas.labels % MAX_IDS) * _inside(canvas)
    halo = _ring(canvas.rho, 1 + 0.8 * look.rim, look.rim) * np.float32(look.edge)
    rim = _ring(canvas.rho, 1 - 0.9 * look.rim, 0.8 * look.rim) * np.float32(-0.6 * look.edge)
    grains = np.float32(1.3 * look.texture) * canvas.texture * _inside(canvas)
    image: NDArray[np.float32] = np.float32(look.signal) * body + halo + rim + grains
    return image


def _brightfield(canvas: Canvas, look: GreyLook) -> NDArray[np.float32]:
    body = np.take(look.brightness, canvas.labels % MAX_IDS) * _inside(canvas)
    dark = _ring(canvas.rho, 1.0, 0.7 * look.rim) * np.float32(-look.edge)
    bright = _ring(canvas.rho, 1 - 1.8 * look.rim, 0.8 * look.rim) * np.float32(0.5 * look.edge)
    grains = np.float32(look.texture) * canvas.texture * _inside(canvas)
    image: NDArray[np.float32] = np.float32(0.5 * look.signal) * body + dark + bright + grains
    return image


def _darkfield(canvas: Canvas, look: GreyLook) -> NDArray[np.float32]:
    body = np.take(look.brightness, canvas.labels % MAX_IDS) * _inside(canvas)
    rim = _ring(canvas.rho, 1.0, 0.9 * look.rim) * np.float32(0.5 + look.edge)
    sparks = np.maximum(canvas.texture - 1, 0) * np.float32(look.texture * 2) * _inside(canvas)
    image: NDArray[np.float32] = np.float32(look.signal) * (0.15 * body + rim + sparks)
    return image


def _dic(canvas: Canvas, look: GreyLook) -> NDArray[np.float32]:
    height = np.sqrt(np.maximum(1 - np.minimum(canvas.rho, 1) ** 2, 0))
    height += np.float32(0.5 * look.texture) * canvas.texture * _inside(canvas)
    relief = np.zeros_like(height)
    # a shear along one diagonal; which one follows from the clip's background
    if look.background < 0.5:
        relief[1:, 1:] = height[1:, 1:] - height[:-1, :-1]
    else:
        relief[1:, :-1] = height[1:, :-1] - height[:-1, 1:]
    image: NDArray[np.float32] = relief * np.float32(6 * look.edge)
    return image


_CONTRASTS = {
    "fluorescence": _fluorescence,
    "membrane": _membrane,
    "phase": _phase,
    "brightfield": _brightfield,
    "darkfield": _darkfield,
    "dic": _dic,
}


def boundary_of(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour has another label, and those neighbours."""
    edge = np.zeros(labels.shape, bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge


@dataclass(frozen=True, eq=False)
class StainLook:
    """How one clip shows stained objects in colour; colours are (3,) float32 absorption per channel.

    Attributes
    ----------
    object_stain, matrix_stain : numpy.ndarray
        Stain of objects and of what lies between them.
    brightness : numpy.ndarray
        (MAX_IDS,) float32 amount of stain by id.
    matrix : numpy.ndarray
        (S, S) float32 amount of stain between objects.
    texture, rim, blur, grain : float
        As for ``GreyLook``.
    """

    object_stain: NDArray[np.float32]
    matrix_stain: NDArray[np.float32]
    brightness: NDArray[np.float32]
    matrix: NDArray[np.float32]
    texture: float
    rim: float
    blur: float
    grain: float


def draw_stain_look(rng: np.random.Generator, size: int, *, smear: bool) -> StainLook:
    """Draw colours: tissue in pink and purple, or a smear with dark nuclei among pale cells."""
    purple = np.array([0.9, 0.95, 0.4]) * rng.uniform(0.5, 1.5) * np.exp(rng.normal(0, 0.15, 3))
    pink = np.array([0.15, 0.5, 0.22]) * rng.uniform(0.3, 1.3) * np.exp(rng.normal(0, 0.25, 3))
    if rng.random() < 0.3:
        # brown antibody stain, or the same dye in different amounts
        purple = np.array([0.5, 0.8, 1.1]) * rng.uniform(0.6, 1.4) if rng.random() < 0.5 else purple
        pink = purple * rng.uniform(0.1, 0.35) if rng.random() < 0.6 else rng.uniform(0.05, 0.4, 3)
    matrix = np.zeros((size, size), np.float32)
    if not smear:
        for cells in (3, 8, 20, 50):
            matrix += smooth_field(rng, (size, size), cells) * np.float32(rng.uniform(0.03, 0.22))
        # collagen: ridges of a field stretched along one direction
        along, across = (int(rng.integers(2, 6)), int(rng.integers(8, 24)))
        knots = rng.standard_normal((along + 3, across + 3), dtype=np.float32)
        fibres = spline_field(knots if rng.random() < 0.5 else knots.T, (size, size))
        matrix += np.exp(-((fibres / np.float32(0.3)) ** 2)) * np.float32(rng.uniform(0, 0.6))
        matrix = np.maximum(1 + matrix, 0)
        if rng.random() < 0.35:
            empty = smooth_field(rng, (size, size), int(rng.integers(2, 6)))
            matrix *= np.clip(3 * (empty + np.float32(1.0)), 0, 1)
    return StainLook(
        object_stain=purple.astype(np.float32),
        matrix_stain=pink.astype(np.float32),
        brightness=np.exp(rng.normal(0, 0.25, MAX_IDS)).astype(np.float32),
        matrix=matrix.astype(np.float32),
        texture=rng.uniform(0.05, 0.35),
        rim=rng.uniform(0.05, 0.2),
        blur=size / 256 * rng.uniform(0.4, 1.3),
        grain=rng.uniform(0.005, 0.04),
    )


def render_stain(
    rng: np.random.Generator, canvas: Canvas, look: StainLook, host: Canvas | None = None
) -> NDArray[np.float32]:
    """One colour frame by absorption of light, (S, S, 3) float32 0 to 255; ``host`` are pale cells around objects."""
    amount = np.take(look.brightness, canvas.labels % MAX_IDS) * (canvas.labels > 0)
    amount = amount * np.maximum(1 + np.float32(look.texture) * canvas.texture, 0.2)
    amount += np.float32(0.4) * _ring(canvas.rho, 1 - look.rim, look.rim) * (canvas.labels > 0)
    matrix = look.matrix
    if host is not None:
        body = (host.labels > 0) * np.take(look.brightness, host.labels % MAX_IDS)
        matrix = matrix + body * (np.float32(0.4) + np.float32(0.6) * np.minimum(host.rho, 1) ** 2)
    layers = np.stack([amount.astype(np.float32), (matrix * (amount <= 0)).astype(np.float32)])
    layers = ndimage.gaussian_filter(layers, (0, look.blur, look.blur), truncate=2.5)
    image = np.exp(-(layers[0][..., None] * look.object_stain + layers[1][..., None] * look.matrix_stain))
    noise = rng.standard_normal(canvas.labels.shape, dtype=np.float32)[..., None] * np.float32(look.grain)
    return np.asarray(np.clip(image * np.float32(0.96) + noise, 0, 1) * np.float32(255))
