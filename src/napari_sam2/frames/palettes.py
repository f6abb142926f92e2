"""Palettes of TIFF files: whether indices are intensities under a colour scale, or have to be looked up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_sam2.frames.stack import LazyArray

__all__ = ["LookedUp", "is_scale", "tables_of_pages"]

_MIN_COLOURS = 32  # of a scale; fewer colours may be anything
_LONGEST_STEP = 64  # between neighbours of a scale, |red| + |green| + |blue|
_LONGEST_PATH = 6 * 255  # of all steps: once round the colours of a rainbow


def tables_of_pages(pages: Sequence[tifffile.TiffPage | tifffile.TiffFrame | None]) -> NDArray[np.uint8] | None:
    """The palettes of pages as (P, N, 3) uint8, P = 1 where all share one; None if some have none."""
    given = [page.colormap for page in pages if isinstance(page, tifffile.TiffPage)]
    if not given or any(colormap is None for colormap in given):
        return None
    tables = [_table(np.asarray(colormap)) for colormap in given]
    if all(np.array_equal(tables[0], table) for table in tables[1:]):
        return np.stack(tables[:1])
    return np.stack(tables) if len(tables) == len(pages) and len({len(table) for table in tables}) == 1 else None


def is_scale(table: NDArray[np.uint8]) -> bool:
    """Whether a palette shows intensities by a scale of colours (fire, viridis, shades of green), or as they are.

    The indices of such an image are its intensities. Colours of a photograph and of labels jump from one index to the
    next; the first and the last colour may be marks for values at the ends (HiLo).

    Parameters
    ----------
    table : numpy.ndarray
        (N, 3) uint8.
    """
    used = table.astype(np.int64)
    while len(used) > 1 and not used[-1].any():  # entries that were never filled in
        used = used[:-1]
    if len(used) < _MIN_COLOURS:
        return bool((table == np.arange(len(table))[:, None]).all())
    inner = used[1:-1]
    steps = np.abs(np.diff(inner, axis=0)).sum(1)
    is_smooth = steps.max() <= _LONGEST_STEP and steps.sum() <= _LONGEST_PATH
    is_grey = bool((inner == inner[:, :1]).all())
    if is_grey:  # other greys than their indices are those to be seen
        return bool(np.abs(inner[:, 0] * (len(table) - 1) - np.arange(1, len(used) - 1) * 255).max() <= len(table))
    return bool(is_smooth and inner[-1].sum() >= inner[0].sum())


class LookedUp:
    """Planes of indices as the colours or grey values of their palettes.

    Parameters
    ----------
    indices : LazyArray
        (..., H, W).
    tables : numpy.ndarray
        (P, N, 3) uint8: one palette, or one for each plane.
    """

    def __init__(self, indices: LazyArray, tables: NDArray[np.uint8]) -> None:
        self._indices, self._tables = indices, tables
        self._is_grey = bool((tables == tables[..., :1]).all())
        leading = tuple(int(n) for n in indices.shape[:-2])
        places = np.arange(math.prod(leading)) if len(tables) > 1 else np.zeros(math.prod(leading), np.intp)
        self._places = places.reshape(leading)
        self.shape = tuple(indices.shape) if self._is_grey else (*indices.shape, 3)
        self.dtype = np.dtype(np.uint8)

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[np.uint8]:
        num_leading = self._places.ndim
        inner = index[: num_leading + 2]
        found = np.asarray(self._indices[inner])
        places = np.asarray(self._places[index[:num_leading]])
        places = places.reshape(*places.shape, *(1,) * (found.ndim - places.ndim))
        last = self._tables.shape[1] - 1
        colours: NDArray[np.uint8] = self._tables[places, np.minimum(found, last)]
        shown: NDArray[np.uint8] = colours[..., 0] if self._is_grey else colours[(..., *index[num_leading + 2 :])]
        return shown


def _table(colormap: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """(3, N) of 16 bits as (N, 3) of 8; some programs write 8 bits into the 16."""
    is_narrow = int(colormap.max()) < 256
    table: NDArray[np.uint8] = (colormap if is_narrow else colormap >> 8).astype(np.uint8).T
    return table
