"""Geometric resampling in numpy: affine views of an image, smooth random fields, linear and nearest lookups."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CropView",
    "mean_pool",
    "outside",
    "sample_labels",
    "sample_linear",
    "smooth_field",
    "spline_field",
    "view_grid",
]


@dataclass(frozen=True)
class CropView:
    """Where a square crop looks at an image.

    Attributes
    ----------
    centre_yx : tuple of float
        Source pixel under the middle of the crop.
    zoom : float
        Crop pixels per source pixel.
    angle : float
        Rotation in radians.
    stretch : float
        Ratio of the vertical to the horizontal zoom.
    flip : bool
        Whether x is mirrored.
    """

    centre_yx: tuple[float, float]
    zoom: float
    angle: float = 0.0
    stretch: float = 1.0
    flip: bool = False

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 2): an offset in crop pixels (y, x) times this is an offset in source pixels (y, x)."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        root = math.sqrt(self.stretch)
        scale = np.diag([1.0 / (self.zoom * root), (-1.0 if self.flip else 1.0) * root / self.zoom])
        return np.array([[cos, -sin], [sin, cos]]) @ scale

    def reach(self, size: int) -> tuple[float, float]:
        """Half the (height, width) in source pixels of the upright rectangle around a crop of ``size`` pixels."""
        half = np.abs(self.matrix) @ np.full(2, size / 2)
        return float(half[0]), float(half[1])


def view_grid(view: CropView, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Source coordinates of every pixel of a crop.

    Parameters
    ----------
    view : CropView
        What the crop looks at.
    size : int
        Side of the crop in pixels.

    Returns
    -------
    ys, xs : numpy.ndarray
        (size, size) float32 source pixels; whole numbers are pixel centres.
    """
    matrix = view.matrix.astype(np.float32)
    offset = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    ys = (matrix[0, 0] * offset[:, None] + matrix[0, 1] * offset[None]) + np.float32(view.centre_yx[0])
    xs = (matrix[1, 0] * offset[:, None] + matrix[1, 1] * offset[None]) + np.float32(view.centre_yx[1])
    return ys, xs


def sample_linear(
    image: NDArray[np.uint8] | NDArray[np.float32], ys: NDArray[np.float32], xs: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Linear interpolation at given coordinates; outside the image, its nearest pixel.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W) or (H, W, C), H and W at least 2.
    ys, xs : numpy.ndarray
        (h, w) float32 source pixels.

    Returns
    -------
    numpy.ndarray
        (h, w) or (h, w, C) float32.
    """
    corner, fy, fx = _cell(image.shape[0], image.shape[1], ys, xs)
    flat: NDArray[Any] = image.reshape(-1, *image.shape[2:])
    if image.ndim == 3:
        fy, fx = fy[..., None], fx[..., None]
    top: NDArray[np.float32] = np.take(flat, corner, axis=0).astype(np.float32)
    top += (np.take(flat, corner + 1, axis=0) - top) * fx
    corner += np.int32(image.shape[1])
    bottom: NDArray[np.float32] = np.take(flat, corner, axis=0).astype(np.float32)
    bottom += (np.take(flat, corner + 1, axis=0) - bottom) * fx
    top += (bottom - top) * fy
    return top


def sample_labels(
    labels: NDArray[np.integer[Any]], ys: NDArray[np.float32], xs: NDArray[np.float32], *, smooth: bool = False
) -> NDArray[np.int32]:
    """Labels at given coordinates, 0 outside the image.

    Parameters
    ----------
    labels : numpy.ndarray
        (H, W) whole numbers, H and W at least 2.
    ys, xs : numpy.ndarray
        (h, w) float32 source pixels.
    smooth : bool, default False
        Take the label that weighs most in linear interpolation, so that magnified outlines have no steps, rather
        than the nearest pixel's.

    Returns
    -------
    numpy.ndarray
        (h, w) int32.
    """
    h, w = labels.shape
    flat = labels.reshape(-1)
    if smooth:
        corner, fy, fx = _cell(h, w, ys, xs)
        corners = [np.take(flat, corner + step) for step in (0, 1, w, w + 1)]
        weights = [(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx]
        out = _heaviest(corners, weights)
    else:
        y = np.clip(np.rint(ys), 0, h - 1).astype(np.int32)
        x = np.clip(np.rint(xs), 0, w - 1).astype(np.int32)
        out = np.take(flat, y * np.int32(w) + x).astype(np.int32)
    out[outside(ys, xs, (h, w))] = 0
    return out


def _heaviest(corners: list[NDArray[Any]], weights: list[NDArray[np.float32]]) -> NDArray[np.int32]:
    """The label with the largest sum of weights among four candidates a pixel."""
    best = corners[0].astype(np.int32)
    # most pixels lie inside one object: only the others need a vote
    mixed = (corners[0] != corners[1]) | (corners[0] != corners[2]) | (corners[0] != corners[3])
    if not mixed.any():
        return best
    candidates = np.stack([c[mixed] for c in corners])
    share = np.stack([w[mixed] for w in weights])
    votes = np.stack([(share * (candidates == candidates[k])).sum(0) for k in range(4)])
    best[mixed] = np.take_along_axis(candidates, votes.argmax(0)[None], 0)[0]
    return best


def _cell(
    h: int, w: int, ys: NDArray[np.float32], xs: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Flat index of the upper left of the four pixels around each coordinate, and the fractions beyond it."""
    inside_y, inside_x = np.clip(ys, 0, h - 1), np.clip(xs, 0, w - 1)
    y0 = np.minimum(inside_y.astype(np.int32), np.int32(h - 2))
    x0 = np.minimum(inside_x.astype(np.int32), np.int32(w - 2))
    fy, fx = (inside_y - y0).astype(np.float32), (inside_x - x0).astype(np.float32)
    return y0 * np.int32(w) + x0, fy, fx


def outside(ys: NDArray[np.float32], xs: NDArray[np.float32], hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Which coordinates lie on no pixel of an image of ``hw``."""
    return (ys < -0.5) | (ys > hw[0] - 0.5) | (xs < -0.5) | (xs > hw[1] - 0.5)


def mean_pool(image: NDArray[Any], width: float) -> NDArray[np.float32]:
    """Running mean over ``width`` pixels (rounded up to odd) of an (H, W) or (H, W, C) image, against aliasing."""
    out = image.astype(np.float32)
    taps = _box_taps(round(width, 2))
    if len(taps) == 1:
        return out
    for axis in (0, 1):
        out = ndimage.correlate1d(out, taps, axis=axis, mode="nearest")
    return out


@functools.lru_cache(maxsize=64)
def _box_taps(width: float) -> NDArray[np.float64]:
    """A box of ``width`` pixels around a pixel, its ends weighted by how much of them it covers."""
    radius = max(0, math.ceil((width - 1) / 2))
    box = np.ones(2 * radius + 1)
    if radius:
        box[0] = box[-1] = (width - (2 * radius - 1)) / 2
    taps: NDArray[np.float64] = box / box.sum()
    return taps


@functools.lru_cache(maxsize=256)
def _spline_basis(size: int, cells: int) -> NDArray[np.float32]:
    """(size, cells + 3) values of uniform cubic B-splines at pixel centres."""
    position = (np.arange(size) + 0.5) / size * cells
    cell = np.minimum(position.astype(int), cells - 1)
    t = position - cell
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1) / 6
    basis = np.zeros((size, cells + 3), np.float32)
    for k in range(4):
        basis[np.arange(size), cell + k] += weights[:, k]
    return basis


def spline_field(knots: NDArray[np.float32], hw: tuple[int, int]) -> NDArray[np.float32]:
    """Cubic spline surface of (cells_y + 3, cells_x + 3) knots at (H, W) pixels; float32.

    Independent standard normal knots give a field of mean 0 and standard deviation about 1.
    """
    basis_y = _spline_basis(hw[0], knots.shape[0] - 3)
    basis_x = _spline_basis(hw[1], knots.shape[1] - 3)
    # a cubic spline of independent normals alone has a standard deviation of about 0.48
    return ((basis_y @ knots @ basis_x.T) * np.float32(2.1)).astype(np.float32, copy=False)


def smooth_field(rng: np.random.Generator, hw: tuple[int, int], cells: int) -> NDArray[np.float32]:
    """A smooth random field.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    hw : tuple of int
        Height and width in pixels.
    cells : int
        Bumps across the shorter side; larger means finer.

    Returns
    -------
    numpy.ndarray
        (H, W) float32 of mean about 0 and standard deviation about 1.
    """
    cells_y = max(1, round(cells * hw[0] / min(hw)))
    cells_x = max(1, round(cells * hw[1] / min(hw)))
    return spline_field(rng.standard_normal((cells_y + 3, cells_x + 3), dtype=np.float32), hw)
