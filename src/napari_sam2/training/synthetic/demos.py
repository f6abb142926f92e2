"""Ready-made procedural stacks and movies with known answers, for demonstrations and sample data."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2.training.synthetic.appearance import MAX_IDS, draw_grey_look, render_grey
from napari_sam2.training.synthetic.motion import BlobLayout, blob_story
from napari_sam2.training.synthetic.scenes import render_blobs
from napari_sam2.training.synthetic.shapes import blank_canvas, draw_blobs, make_tile
from napari_sam2.training.synthetic.tessellations import electron_clip

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["make_demo_stack", "make_dividing_cells_movie", "make_em_stack"]

DEMO_SIZE = 192
DEMO_PLANES = 24


def make_demo_stack(seed: int = 0) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Confocal-like z-stack of fluorescent nuclei.

    Parameters
    ----------
    seed : int, default 0
        The same seed gives the same stack.

    Returns
    -------
    stack : numpy.ndarray
        (24, 192, 192) uint16, 12-bit intensities.
    labels : numpy.ndarray
        (24, 192, 192) int32, 0 background.
    """
    rng = np.random.default_rng(seed)
    layout = BlobLayout(
        radius=14, radius_spread=0.12, aspect=1.25, roughness=0.06, density=0.32, spacing=2.1, clustered=0.2
    )
    look = replace(
        draw_grey_look(rng, "fluorescence", DEMO_SIZE),
        brightness=_even_brightness(rng),
        background=0.06, signal=0.55, texture=0.16, blur=0.9, glow=0.12, grain=0.03, fade=0.008,
    )  # fmt: skip
    images, labels = render_blobs(rng, DEMO_SIZE, DEMO_PLANES, layout, look, "stack", finest=48)
    stack = np.rint(np.stack(images) * (4095 / 255)).astype(np.uint16)
    return stack, np.stack(labels)


def make_dividing_cells_movie(seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Phase-contrast movie of cells that crawl and divide.

    Parameters
    ----------
    seed : int, default 0
        The same seed gives the same movie.

    Returns
    -------
    movie : numpy.ndarray
        (20, 192, 192) uint8.
    labels : numpy.ndarray
        (20, 192, 192) int32; daughters have ids of their own.
    """
    rng = np.random.default_rng(seed)
    layout = BlobLayout(radius=13, radius_spread=0.1, aspect=1.4, roughness=0.12, density=0.22, spacing=2.7)
    look = replace(
        draw_grey_look(rng, "phase", DEMO_SIZE),
        brightness=_even_brightness(rng),
        background=0.5, signal=-0.12, texture=0.07, edge=0.28, rim=0.14, blur=0.8, grain=0.02, fade=0.0,
    )  # fmt: skip
    tile = make_tile(rng, 48)
    images, labels = [], []
    for t, blobs in enumerate(blob_story(rng, DEMO_SIZE, 20, layout, "movie", divide=0.6)):
        canvas = blank_canvas(DEMO_SIZE)
        draw_blobs(canvas, blobs, tile)
        images.append(render_grey(rng, canvas, look, t))
        labels.append(canvas.labels)
    return np.rint(np.stack(images)).astype(np.uint8), np.stack(labels)


def make_em_stack(seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Isotropic electron-microscopy-like volume of neurites.

    Parameters
    ----------
    seed : int, default 0
        The same seed gives the same volume.

    Returns
    -------
    stack : numpy.ndarray
        (24, 192, 192) uint8.
    labels : numpy.ndarray
        (24, 192, 192) int32, no background.
    """
    rng = np.random.default_rng(seed)
    images, labels = electron_clip(rng, DEMO_SIZE, DEMO_PLANES, spacing=26, grain=0.025)
    return np.rint(np.stack(images)).astype(np.uint8), np.stack(labels)


def _even_brightness(rng: np.random.Generator) -> NDArray[np.float32]:
    return np.exp(rng.normal(0, 0.18, MAX_IDS)).astype(np.float32)
