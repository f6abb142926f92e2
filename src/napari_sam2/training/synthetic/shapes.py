"""Exact shapes of procedural objects on a pixel grid: smooth blobs, capsules along curves, tessellations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2.training.warp import spline_field

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Blobs", "Canvas", "Chains", "blank_canvas", "draw_blobs", "draw_chains", "make_tile", "tessellate"]

NUM_ANGLES = 96
TILE = 256


@dataclass(frozen=True, eq=False)
class Canvas:
    """What drawing leaves behind, each (S, S).

    Attributes
    ----------
    labels : numpy.ndarray
        int32, 0 background.
    rho : numpy.ndarray
        float32 distance from the nearest object's middle in units of its radius there: 0 middle, 1 outline.
    texture : numpy.ndarray
        float32 texture carried by the nearest object, standard deviation about 1.
    depth : numpy.ndarray
        float32 pixels inside the nearest object's outline, negative outside; the deeper object is in front.
    """

    labels: NDArray[np.int32]
    rho: NDArray[np.float32]
    texture: NDArray[np.float32]
    depth: NDArray[np.float32]


def blank_canvas(size: int) -> Canvas:
    """An empty canvas."""
    return Canvas(
        np.zeros((size, size), np.int32),
        np.full((size, size), 9.0, np.float32),
        np.zeros((size, size), np.float32),
        np.full((size, size), -1e6, np.float32),
    )


@dataclass(frozen=True, eq=False)
class Blobs:
    """N star-shaped objects on one frame; lengths in pixels.

    Attributes
    ----------
    ids : numpy.ndarray
        (N,) int32.
    centres_yx : numpy.ndarray
        (N, 2).
    radii : numpy.ndarray
        (N,); objects of radius below 1 are not drawn.
    aspects : numpy.ndarray
        (N,) length over width, at least 1.
    angles : numpy.ndarray
        (N,) direction of the long axis, radians.
    outlines : numpy.ndarray
        (N, NUM_ANGLES) relative radius by angle, about 1.
    offsets : numpy.ndarray
        (N, 2) int, where each object's texture begins in the tile.
    """

    ids: NDArray[np.int32]
    centres_yx: NDArray[np.float64]
    radii: NDArray[np.float64]
    aspects: NDArray[np.float64]
    angles: NDArray[np.float64]
    outlines: NDArray[np.float32]
    offsets: NDArray[np.int64]


def random_outlines(rng: np.random.Generator, num: int, roughness: float, harmonics: int = 6) -> NDArray[np.float32]:
    """(num, NUM_ANGLES) smooth closed outlines; ``roughness`` is the relative deviation from a circle."""
    theta = np.arange(NUM_ANGLES) * (2 * np.pi / NUM_ANGLES)
    order = np.arange(2, 2 + harmonics)
    waves = np.exp(1j * order[:, None] * theta)
    size = rng.normal(0, 1, (num, harmonics)) + 1j * rng.normal(0, 1, (num, harmonics))
    bumps = ((size / order**1.2) @ waves).real * roughness
    drawn: NDArray[np.float32] = np.clip(1 + bumps, 0.45, 1.7).astype(np.float32)
    return drawn


def draw_blobs(canvas: Canvas, blobs: Blobs, tile: NDArray[np.float32], *, reach: float = 1.6) -> None:
    """Draw onto a canvas; where objects meet, each pixel goes to the one it lies deeper in.

    Parameters
    ----------
    canvas : Canvas
        Written in place.
    blobs : Blobs
        Objects to draw.
    tile : numpy.ndarray
        (TILE, TILE) float32 texture.
    reach : float, default 1.6
        How far beyond the outline ``rho`` is kept, in radii; for halos.
    """
    size = canvas.labels.shape[0]
    for n in range(len(blobs.ids)):
        radius = float(blobs.radii[n])
        if radius < 1:
            continue
        cy, cx = blobs.centres_yx[n].tolist()
        root = float(np.sqrt(blobs.aspects[n]))
        outer = radius * root * float(blobs.outlines[n].max()) * reach + 2
        top, bottom = max(0, int(cy - outer)), min(size, int(cy + outer) + 2)
        left, right = max(0, int(cx - outer)), min(size, int(cx + outer) + 2)
        if top >= bottom or left >= right:
            continue
        dy = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(cy)
        dx = np.arange(left, right, dtype=np.float32)[None] - np.float32(cx)
        cos, sin = np.float32(np.cos(blobs.angles[n])), np.float32(np.sin(blobs.angles[n]))
        along, across = dx * cos + dy * sin, dy * cos - dx * sin
        sector = np.arctan2(across * np.float32(root), along / np.float32(root))
        sector *= np.float32(NUM_ANGLES / (2 * np.pi))
        index = (sector + np.float32(NUM_ANGLES)).astype(np.int32)
        outline = np.take(blobs.outlines[n], index, mode="wrap")
        distance = np.hypot(along / np.float32(root), across * np.float32(root))
        rho: NDArray[np.float32] = np.divide(distance, outline * np.float32(radius), dtype=np.float32)
        spot = slice(top, bottom), slice(left, right)
        depth = ((1 - rho) * np.float32(radius)).astype(np.float32, copy=False)
        closer = _put(canvas, spot, rho, depth, int(blobs.ids[n]))
        rows = (along[closer].astype(np.int32) + int(blobs.offsets[n, 0])) % TILE
        columns = (across[closer].astype(np.int32) + int(blobs.offsets[n, 1])) % TILE
        canvas.texture[spot][closer] = tile[rows, columns]


@dataclass(frozen=True, eq=False)
class Chains:
    """N elongated objects on one frame, each a curve with a width.

    Attributes
    ----------
    ids : numpy.ndarray
        (N,) int32.
    points_yx : numpy.ndarray
        (N, P, 2) points along each curve.
    widths : numpy.ndarray
        (N, P) half width at each point, pixels.
    """

    ids: NDArray[np.int32]
    points_yx: NDArray[np.float64]
    widths: NDArray[np.float64]


def draw_chains(canvas: Canvas, chains: Chains, tile: NDArray[np.float32], *, reach: float = 2.0) -> None:
    """Draw onto a canvas as ``draw_blobs`` does; ``rho`` counts from the curve in half widths."""
    size = canvas.labels.shape[0]
    for n in range(len(chains.ids)):
        points, widths = chains.points_yx[n], chains.widths[n]
        travelled = 97.0 * int(chains.ids[n])
        for k in range(points.shape[0] - 1):
            (y0, x0), (y1, x1) = points[k].tolist(), points[k + 1].tolist()
            outer = float(max(widths[k], widths[k + 1])) * reach + 1
            top, bottom = max(0, int(min(y0, y1) - outer)), min(size, int(max(y0, y1) + outer) + 2)
            left, right = max(0, int(min(x0, x1) - outer)), min(size, int(max(x0, x1) + outer) + 2)
            if top >= bottom or left >= right:
                continue
            dy = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y0)
            dx = np.arange(left, right, dtype=np.float32)[None] - np.float32(x0)
            sy, sx = y1 - y0, x1 - x0
            along = np.clip((dy * np.float32(sy) + dx * np.float32(sx)) / np.float32(sy * sy + sx * sx + 1e-6), 0, 1)
            half = np.float32(widths[k]) + np.float32(widths[k + 1] - widths[k]) * along
            distance = np.hypot(dy - along * np.float32(sy), dx - along * np.float32(sx))
            rho: NDArray[np.float32] = np.divide(distance, half, dtype=np.float32)
            spot = slice(top, bottom), slice(left, right)
            depth = ((1 - rho) * half).astype(np.float32, copy=False)
            closer = _put(canvas, spot, rho, depth, int(chains.ids[n]))
            long = float(np.hypot(sy, sx)) + 1e-6
            side = (dy * np.float32(sx) - dx * np.float32(sy)) / np.float32(long)
            rows = (along[closer] * np.float32(long) + np.float32(travelled)).astype(np.int32) % TILE
            columns = (side[closer] + np.float32(31 * int(chains.ids[n]))).astype(np.int32) % TILE
            canvas.texture[spot][closer] = tile[rows, columns]
            travelled += long


def _put(
    canvas: Canvas, spot: tuple[slice, slice], rho: NDArray[np.float32], depth: NDArray[np.float32], label: int
) -> NDArray[np.bool_]:
    """Enter one object where it is in front; returns those pixels of the spot."""
    closer = depth > canvas.depth[spot]
    np.copyto(canvas.depth[spot], depth, where=closer)
    np.copyto(canvas.rho[spot], rho, where=closer)
    canvas.labels[spot][closer & (rho < 1)] = label
    return np.asarray(closer)


def tessellate(
    seeds_yx: NDArray[np.float64],
    weights: NDArray[np.float64],
    owners: NDArray[np.int32],
    warp_yx: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> NDArray[np.int32]:
    """Divide the plane between weighted seeds, seen through a smooth deformation.

    Parameters
    ----------
    seeds_yx : numpy.ndarray
        (N, 2) positions in pixels.
    weights : numpy.ndarray
        (N,) square pixels; a heavier seed takes more room.
    owners : numpy.ndarray
        (N,) int32 label of each seed; seeds of one owner make one region.
    warp_yx : tuple of numpy.ndarray
        Two (S, S) float32 displacements.

    Returns
    -------
    numpy.ndarray
        (S, S) int32 labels.
    """
    size = warp_yx[0].shape[0]
    axis = np.arange(size, dtype=np.float32)
    points = np.empty((size * size, 3), np.float32)
    points[:, 0] = (axis[:, None] + warp_yx[0]).reshape(-1)
    points[:, 1] = (axis[None] + warp_yx[1]).reshape(-1)
    points[:, 2] = 1
    # |p - s|^2 - w without |p|^2, which is the same for all seeds
    terms = np.concatenate([-2 * seeds_yx, (seeds_yx**2).sum(1, keepdims=True) - weights[:, None]], 1)
    nearest = (points @ terms.astype(np.float32).T).argmin(axis=1)
    drawn: NDArray[np.int32] = owners[nearest].reshape(size, size)
    return drawn


def make_tile(rng: np.random.Generator, finest: int = 64) -> NDArray[np.float32]:
    """(TILE, TILE) periodic texture of several scales, deviation about 1; coarser where ``finest`` is small."""
    tile = np.zeros((TILE, TILE), np.float32)
    total = 0.0
    cells = 6
    while cells <= finest:
        weight = rng.uniform(0.3, 1.0)
        knots = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)
        knots[cells:], knots[:, cells:] = knots[:3], knots[:, :3]  # periodic
        tile += np.float32(weight) * spline_field(knots, (TILE, TILE))
        total += weight**2
        cells *= 2
    return tile / np.float32(max(total, 1e-6) ** 0.5)
