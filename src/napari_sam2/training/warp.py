"""Geometric resampling in numpy: affine views of an image, smooth random fields, linear and nearest lookups."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Padding",
    "View",
    "mean_pool",
    "sample_labels",
    "sample_linear",
    "smooth_field",
    "spline_field",
    "view_grid",
]

Padding = Literal["edge", "constant"]


@dataclass(frozen=True)
class View:
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


def view_grid(view: View, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Source coordinates of every pixel of a crop.

    Parameters
    ----------
    view : View
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
    image: NDArray[Any],
    ys: NDArray[np.float32],
    xs: NDArray[np.float32],
    *,
    padding: Padding = "edge",
    value: float = 0.0,
) -> NDArray[np.float32]:
    """Linear interpolation at given coordinates.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W) or (H, W, C), H and W at least 2.
    ys, xs : numpy.ndarray
        (h, w) float32 source pixels.
    padding : {"edge", "constant"}, default "edge"
        Outside the image: the nearest pixel, or ``value``.
    value : float, default 0
        Intensity outside the image for ``padding="constant"``.

    Returns
    -------
    numpy.ndarray
        (h, w) or (h, w, C) float32.
    """
    h, w = image.shape[:2]
    inside_y, inside_x = np.clip(ys, 0, h - 1), np.clip(xs, 0, w - 1)
    y0 = np.minimum(inside_y.astype(np.int32), h - 2)
    x0 = np.minimum(inside_x.astype(np.int32), w - 2)
    fy, fx = inside_y - y0, inside_x - x0
    index = y0 * np.int32(w) + x0
    flat = image.reshape(h * w, *image.shape[2:])
    if image.ndim == 3:
        fy, fx = fy[..., None], fx[..., None]
    top = np.take(flat, index, axis=0).astype(np.float32)
    top += (np.take(flat, index + 1, axis=0) - top) * fx
    index += np.int32(w)
    bottom = np.take(flat, index, axis=0).astype(np.float32)
    bottom += (np.take(flat, index + 1, axis=0) - bottom) * fx
    top += (bottom - top) * fy
    if padding == "constant":
        top[_outside(ys, xs, h, w)] = value
    return top


def sample_labels(labels: NDArray[Any], ys: NDArray[np.float32], xs: NDArray[np.float32]) -> NDArray[np.int32]:
    """Nearest label at given coordinates, 0 outside; the counterpart of ``sample_linear``."""
    h, w = labels.shape
    y = np.clip(np.rint(ys), 0, h - 1).astype(np.int32)
    x = np.clip(np.rint(xs), 0, w - 1).astype(np.int32)
    out = np.take(labels.reshape(-1), y * np.int32(w) + x).astype(np.int32)
    out[_outside(ys, xs, h, w)] = 0
    return out


def _outside(ys: NDArray[np.float32], xs: NDArray[np.float32], h: int, w: int) -> NDArray[np.bool_]:
    return (ys < -0.5) | (ys > h - 0.5) | (xs < -0.5) | (xs > w - 0.5)


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
    taps = np.ones(2 * radius + 1)
    if radius:
        taps[0] = taps[-1] = (width - (2 * radius - 1)) / 2
    return taps / taps.sum()


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
    field: NDArray[np.float32] = (basis_y @ knots @ basis_x.T) * np.float32(2.1)
    return field


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
