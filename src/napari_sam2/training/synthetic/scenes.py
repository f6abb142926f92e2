"""The named kinds of procedural microscopy: each puts shapes, motion and appearance together into a labelled clip."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2.training.synthetic.appearance import (
    GreyLook,
    Modality,
    draw_grey_look,
    draw_stain_look,
    render_grey,
    render_stain,
    render_thick,
)
from napari_sam2.training.synthetic.motion import BlobLayout, Dynamics, blob_story, chain_story
from napari_sam2.training.synthetic.shapes import blank_canvas, draw_blobs, draw_chains, make_tile
from napari_sam2.training.synthetic.tessellations import electron_clip, membrane_clip

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = tuple[list[NDArray[np.float32]], list[NDArray[np.int32]]]

__all__ = ["SCENES", "render_blobs"]

_COARSE_SHARE = 0.6  # of z-stacks
_PILED_SHARE = 0.5  # of z-stacks of nuclei and cells


def _radius(rng: np.random.Generator, size: int, low: float = 9, high: float = 45) -> float:
    return size / 256 * math.exp(rng.uniform(math.log(low), math.log(high)))


def _stacked_share(rng: np.random.Generator) -> float:
    return rng.uniform(0.3, 1) if rng.random() < _PILED_SHARE else 0.0


def _dynamics(rng: np.random.Generator, stack_share: float = 0.5) -> Dynamics:
    if rng.random() >= stack_share:
        return "movie"
    return "coarse stack" if rng.random() < _COARSE_SHARE else "stack"


def render_blobs(
    rng: np.random.Generator,
    size: int,
    num_frames: int,
    layout: BlobLayout,
    look: GreyLook,
    dynamics: Dynamics,
    *,
    finest: int = 64,
) -> Frames:
    """Frames (S, S) float32 0..255 and labels (S, S) of a population of blobs."""
    tile = make_tile(rng, finest)
    images, labels = [], []
    for t, blobs in enumerate(blob_story(rng, size, num_frames, layout, dynamics)):
        canvas = blank_canvas(size)
        draw_blobs(canvas, blobs, tile)
        images.append(render_grey(rng, canvas, look, t))
        labels.append(canvas.labels)
    return images, labels


def _nuclei(rng: np.random.Generator, size: int, num_frames: int) -> Frames:
    layout = BlobLayout(
        radius=_radius(rng, size, 8, 40),
        radius_spread=rng.uniform(0.1, 0.35),
        aspect=rng.uniform(1.05, 1.7),
        roughness=rng.uniform(0.02, 0.16),
        density=rng.uniform(0.1, 0.5),
        spacing=rng.uniform(1.5, 2.4),
        clustered=rng.uniform(0, 0.8) * (rng.random() < 0.5),
        stacked=_stacked_share(rng),
    )
    return render_blobs(rng, size, num_frames, layout, draw_grey_look(rng, "fluorescence", size), _dynamics(rng))


def _tissue_nuclei(rng: np.random.Generator, size: int, num_frames: int) -> Frames:
    layout = BlobLayout(
        radius=_radius(rng, size, 8, 22),
        radius_spread=0.25,
        aspect=rng.uniform(1.2, 2.2),
        roughness=rng.uniform(0.05, 0.2),
        density=rng.uniform(0.5, 0.9),
        spacing=rng.uniform(1.1, 1.6),
        stacked=_stacked_share(rng),
    )
    return render_blobs(rng, size, num_frames, layout, draw_grey_look(rng, "fluorescence", size), _dynamics(rng))


def _thick_nuclei(rng: np.random.Generator, size: int, num_frames: int) -> Frames:
    """Nuclei through which planes pass, with out-of-focus light, as in widefield and confocal stacks."""
    radius = _radius(rng, size, 6, 36)
    layout = BlobLayout(
        radius=radius,
        radius_spread=rng.uniform(0.1, 0.4),
        aspect=rng.uniform(1.05, 1.7),
        roughness=rng.uniform(0.02, 0.15),
        density=rng.uniform(0.1, 0.6),
        spacing=rng.uniform(1.1, 2.2),
        clustered=rng.uniform(0, 0.8) * (rng.random() < 0.5),
        stacked=_stacked_share(rng),
    )
    look = draw_grey_look(rng, "fluorescence", size)
    look = replace(
        look,
        signal=look.signal * rng.uniform(0.6, 1),
        grain=look.grain * rng.uniform(1, 3),
        texture=look.texture * rng.uniform(0.2, 1),
        blur=look.blur + radius * rng.uniform(0, 0.7) ** 2,  # the optics blur to half a radius at worst, mostly less
    )
    dynamics: Dynamics = "coarse stack" if rng.random() < _COARSE_SHARE else "stack"
    reach = int(rng.integers(1, 4))
    tile = make_tile(rng, 64)
    canvases = []
    for blobs in blob_story(rng, size, num_frames + 2 * reach, layout, dynamics):
        canvas = blank_canvas(size)
        draw_blobs(canvas, blobs, tile)
        canvases.append(canvas)
    images = render_thick(
        rng, canvases, look, reach=reach, spread=rng.uniform(0.3, 0.95), softness=radius * rng.uniform(0.05, 0.5)
    )
    return images, [canvas.labels for canvas in canvases[reach : reach + num_frames]]


def _touching_cells(rng: np.random.Generator, size: int, num_frames: int) -> Frames:
    layout = BlobLayout(
        radius=_radius(rng, size, 12, 45),
        radius_spread=0.2,
        aspect=rng.uniform(1.1, 2.0),
        roughness=rng.uniform(0.1, 0.35),
        density=rng.uniform(0.5, 1.0),
        spacing=rng.uniform(1.0, 1.5),
        clustered=rng.uniform(0.3, 1),
        stacked=_stacked_share(rng),
    )
    modality: Modality = "fluorescence" if rng.random() < 0.5 else "membrane"
    return render_blobs(rng, size, num_frames, layout, draw_grey_look(rng, modality, size), _dynamics(rng, 0.3))


def _phase_contrast(rng: np.random.Generator, size: int, num_frames: int) -> Frames:
    layout = BlobLayout(
        radius=_radius(rng, size, 10, 40),
        radius_spread=0.25,
        aspect=rng.uniform(1.0, 2.6),
        roughness=rng.uniform(0.05, 0.45),
        density=rng.uniform(0.15, 0.6),
        spacing=rng.uniform(1.2, 2.2),
    )
    return render_blobs(rng, size, num_frames, layout, draw_grey_look(rng, "phase", size), "movie")


def _simple(modality: Modality) -> Callable[[np.random.Generator, int, int], Frames]:
    def scene(rng: np.random.Generator, size: int, num_frames: int) -> Frames:
        layout = BlobLayout(
            radius=_radius(rng, size, 9, 40),
            radius_spread=rng.uniform(0.05, 0.3),
            aspect=rng.uniform(1.0, 1.8),
            roughness=rng.uniform(0.01, 0.2),
            density=rng.uniform(0.15, 0.6),
            spacing=rng.uniform(1.5, 2.3),
            clustered=rng.uniform(0, 0.8) * (rng.random() < 0.4),
        )
        return render_blobs(rng, size, num_frames, layout, draw_grey_look(rng, modality, size), "movie")

    return scene


def _chains(
    rng: np.random.Generator, size: int, num_frames: int, *, slender: float, bend: float, tapered: bool
) -> Frames:
    half_width = size / 256 * math.exp(rng.uniform(math.log(4), math.log(11)))
    length = half_width * 2 * slender
    num = int(np.clip(rng.uniform(0.1, 0.5) * size**2 / (2 * half_width * length), 3, 60))
    modalities: tuple[Modality, ...] = ("fluorescence", "phase", "brightfield", "membrane", "darkfield")
    look = draw_grey_look(rng, modalities[int(rng.choice(5, p=[0.4, 0.3, 0.1, 0.1, 0.1]))], size)
    tile = make_tile(rng)
    images, labels = [], []
    story = chain_story(
        rng, size, num_frames, length=length, half_width=half_width, num=num, bend=bend, tapered=tapered
    )
    for t, chains in enumerate(story):
        canvas = blank_canvas(size)
        draw_chains(canvas, chains, tile)
        images.append(render_grey(rng, canvas, look, t))
        labels.append(canvas.labels)
    return images, labels


def _rods(rng: np.random.Generator, size: int, num_frames: int) -> Frames:
    return _chains(rng, size, num_frames, slender=rng.uniform(1.5, 4), bend=rng.uniform(0, 0.3), tapered=False)


def _filaments(rng: np.random.Generator, size: int, num_frames: int) -> Frames:
    slender, bend = rng.uniform(4, 10), rng.uniform(0.5, 2.0)
    return _chains(rng, size, num_frames, slender=slender, bend=bend, tapered=bool(rng.random() < 0.6))


def _histology(rng: np.random.Generator, size: int, num_frames: int) -> Frames:
    layout = BlobLayout(
        radius=_radius(rng, size, 8, 26),
        radius_spread=0.25,
        aspect=rng.uniform(1.1, 2.4),
        roughness=rng.uniform(0.05, 0.25),
        density=rng.uniform(0.15, 0.6),
        spacing=rng.uniform(1.5, 2.3),
    )
    look = draw_stain_look(rng, size, smear=False)
    tile = make_tile(rng, 128)
    images, labels = [], []
    for blobs in blob_story(rng, size, num_frames, layout, _dynamics(rng)):
        canvas = blank_canvas(size)
        draw_blobs(canvas, blobs, tile)
        images.append(render_stain(rng, canvas, look))
        labels.append(canvas.labels)
    return images, labels


def _smear(rng: np.random.Generator, size: int, num_frames: int) -> Frames:
    """Dark nuclei in some of many pale round cells; nuclei are the objects."""
    radius = _radius(rng, size, 9, 24)
    hosts = BlobLayout(radius * rng.uniform(1.1, 1.7), 0.08, 1.1, 0.04, rng.uniform(0.3, 0.8), rng.uniform(1.5, 2.1))
    nuclei = BlobLayout(radius, 0.2, 1.15, rng.uniform(0.05, 0.3), rng.uniform(0.06, 0.25), 1.9)
    look = draw_stain_look(rng, size, smear=True)
    tile = make_tile(rng, 32)
    images, labels = [], []
    stories = [blob_story(rng, size, num_frames, layout, "movie") for layout in (hosts, nuclei)]
    for host_blobs, blobs in zip(*stories, strict=True):
        host, canvas = blank_canvas(size), blank_canvas(size)
        draw_blobs(host, host_blobs, tile, reach=1.0)
        draw_blobs(canvas, blobs, tile)
        images.append(render_stain(rng, canvas, look, host))
        labels.append(canvas.labels)
    return images, labels


def _spindle_cells(rng: np.random.Generator, size: int, num_frames: int) -> Frames:
    """Spread, elongated cells with a nucleus-like bulge, in phase contrast; bodies over tapered arms."""
    half_width = size / 256 * math.exp(rng.uniform(math.log(6), math.log(15)))
    num = int(rng.integers(5, 26))
    look = draw_grey_look(rng, "phase" if rng.random() < 0.8 else "dic", size)
    tile = make_tile(rng)
    story = chain_story(
        rng, size, num_frames, length=half_width * rng.uniform(4, 9), half_width=half_width, num=num,
        bend=rng.uniform(0.1, 0.8), tapered=True,
    )  # fmt: skip
    images, labels = [], []
    for t, chains in enumerate(story):
        canvas = blank_canvas(size)
        draw_chains(canvas, chains, tile)
        grained = replace(canvas, texture=_still_texture(tile, size, t))
        images.append(render_grey(rng, grained, look, t))
        labels.append(canvas.labels)
    return images, labels


def _still_texture(tile: NDArray[np.float32], size: int, frame: int) -> NDArray[np.float32]:
    rows = (np.arange(size) + 2 * frame) % tile.shape[0]
    texture: NDArray[np.float32] = tile[rows[:, None], (np.arange(size) + frame)[None] % tile.shape[1]]
    return texture


SCENES: dict[str, Callable[[np.random.Generator, int, int], Frames]] = {
    "nuclei": _nuclei,
    "tissue_nuclei": _tissue_nuclei,
    "thick_nuclei": _thick_nuclei,
    "touching_cells": _touching_cells,
    "membranes": membrane_clip,
    "rods": _rods,
    "filaments": _filaments,
    "spindle_cells": _spindle_cells,
    "phase_contrast": _phase_contrast,
    "brightfield": _simple("brightfield"),
    "darkfield": _simple("darkfield"),
    "dic": _simple("dic"),
    "histology": _histology,
    "smear": _smear,
    "electron": electron_clip,
}
